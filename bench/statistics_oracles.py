"""Answers of other people's packages to random questions, kept in tests/golden/statistics_oracles.json.

Needs statsmodels, robostats and fieldtrial (development only, never run time):
`pip install statsmodels robostats fieldtrial && python bench/statistics_oracles.py`.
"""

import json
from importlib.metadata import version
from pathlib import Path

import fieldtrial.stats as field
import numpy as np
from robostats.compare import mcnemar as robostats_mcnemar
from robostats.compare import paired_difference as robostats_difference
from robostats.compare import unpaired_difference as robostats_unpaired
from robostats.records import PairedResult
from scipy.stats import barnard_exact
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint, proportions_ztest

OUT = Path(__file__).parent.parent / "tests" / "golden" / "statistics_oracles.json"


def paired_table(both: int, first: int, second: int, neither: int) -> PairedResult:
    """robostats reads its tables from record files; only the counts matter here."""
    blank = dict.fromkeys(PairedResult.__dataclass_fields__)
    return PairedResult(
        **{
            **blank,
            "policy_id_a": "a", "policy_id_b": "b",
            "n_both_success": both, "n_a_success_b_failure": first,
            "n_b_success_a_failure": second, "n_both_failure": neither,
            "scenario_ids": tuple(str(i) for i in range(both + first + second + neither)),
            "dropped_from_a": 0, "dropped_from_b": 0,
            "protocol_fingerprints_a": (), "protocol_fingerprints_b": (),
        }
    )  # fmt: skip


def paired(generator: np.random.Generator) -> dict:
    n = int(generator.integers(10, 200))
    both, first, second, neither = (int(k) for k in generator.multinomial(n, generator.dirichlet(np.ones(4))))
    table = paired_table(both, first, second, neither)
    tango = robostats_difference(table)
    return {
        "pairs": [both, first, second, neither],
        "statsmodels_exact": float(mcnemar([[both, first], [second, neither]], exact=True).pvalue),
        "fieldtrial_exact": float(field.mcnemar_exact(first, second).pvalue),
        "robostats_exact": float(robostats_mcnemar(table).p_value),
        "fieldtrial_tango": list(field.tango_interval(first, second, n)),
        "robostats_tango": [tango.lower, tango.upper],
    }


def unpaired(generator: np.random.Generator) -> dict:
    n = generator.integers(5, 60, 2)
    won = generator.binomial(n, generator.random(2))
    (a, b), (n_a, n_b) = won.tolist(), n.tolist()
    clopper = proportion_confint(a, n_a, method="beta")
    newcombe = confint_proportions_2indep(a, n_a, b, n_b, method="newcomb")
    score = robostats_unpaired(a, n_a, b, n_b)
    one = a + b in (0, n_a + n_b)
    return {
        "counts": [a, n_a, b, n_b],
        "statsmodels_clopper_pearson": [float(limit) for limit in clopper],
        "statsmodels_newcombe": [float(limit) for limit in newcombe],
        "robostats_miettinen_nurminen": [score.lower, score.upper],
        "statsmodels_pooled_p": 1.0 if one else float(proportions_ztest([a, b], [n_a, n_b])[1]),
        "scipy_barnard": 1.0
        if a * n_b == b * n_a
        else float(barnard_exact([[a, b], [n_a - a, n_b - b]], n=256).pvalue),
    }


def main() -> None:
    generator = np.random.default_rng(20261121)
    looks = [[0.2, 0.4, 0.6, 0.8, 1.0], [0.5, 1.0], [0.1, 0.35, 0.9], [(k + 1) / 20 for k in range(20)]]
    p = [generator.random(int(k)).round(4).tolist() for k in generator.integers(1, 9, 6)]
    plans = [(0.2, 0.1, 100), (0.15, 0.05, 80), (0.05, 0.01, 300), (0.3, 0.3, 60)]
    drift = 2.8
    data = {
        "versions": {name: version(name) for name in ("statsmodels", "robostats", "fieldtrial", "scipy", "numpy")},
        "paired": [paired(generator) for _ in range(40)],
        "unpaired": [unpaired(generator) for _ in range(40)],
        "statsmodels_holm": [{"p": row, "adjusted": multipletests(row, method="holm")[1].tolist()} for row in p],
        "fieldtrial_boundaries": [
            {
                "looks": fractions, "spending": spending, "boundaries": list(design.boundaries), "drift": drift,
                "rejects": float(np.sum(field.crossing_probabilities(design.boundaries, fractions, drift=drift))),
            }
            for fractions in looks
            for spending in ("obrien_fleming", "pocock")
            for design in [field.spending_boundaries(fractions, spending=spending)]
        ],
        "fieldtrial_mcnemar_power": [
            {"better_only": more, "worse_only": less, "n": n, "power": field.mcnemar_power(more, less, n).power}
            for more, less, n in plans
        ],
    }  # fmt: skip
    OUT.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
