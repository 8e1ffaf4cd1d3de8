"""The learned value of a policy, for `volar plan --value`: published settings (V-VLAPS, arXiv 2601.00969).

volar data rollouts POLICY --tasks TASK --execute 8 --out ROLLOUTS
volar train recipes/value.py --policy POLICY --data ROLLOUTS --out VALUE
"""

from volar.planning.value_config import ValueConfig


def recipe() -> ValueConfig:
    return ValueConfig()
