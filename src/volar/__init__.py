"""volar: vision-language-action policies as exchangeable parts, compared honestly under equal compute.

Importing this package loads neither torch nor a simulator; the names below are resolved when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from volar.data.lerobot import open_dataset
    from volar.envs import make_env
    from volar.policies.actor import load_policy

__version__ = "0.1.0"
__all__ = ["__version__", "load_policy", "make_env", "open_dataset"]

_LAZY = {
    "load_policy": "volar.policies.actor:load_policy",
    "make_env": "volar.envs:make_env",
    "open_dataset": "volar.data.lerobot:open_dataset",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'volar' has no attribute {name!r}")
    module, attribute = _LAZY[name].split(":")
    return getattr(import_module(module), attribute)
