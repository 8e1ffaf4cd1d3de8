"""Compute axes: what an arm cost, from ledger.json, or from the records where no ledger was written. Counts nothing."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean

from volar.comparison.ledger import Ledger
from volar.comparison.matching import TOLERANCE
from volar.comparison.result import Axis
from volar.evaluation.summary import ArmResult
from volar.evaluation.wording import SPACE, duration, number

PREFIXES = ("", "k", "M", "G", "T", "P", "E")

AXES = (
    Axis(name="training_flops", label="training FLOPs", unit="flops"),
    Axis(name="training_samples", label="training samples", unit="count"),
    Axis(name="training_seconds", label="training time", unit="seconds"),
    Axis(name="action_flops", label="inference FLOPs per executed action", unit="flops"),
    Axis(name="chunk_flops", label="inference FLOPs per decision", unit="flops"),
    Axis(name="evaluations", label="network evaluations per decision", unit="count"),
    Axis(name="tokens", label="tokens thought per decision", unit="count"),
    Axis(name="latency_median", label="latency, median", unit="seconds"),
    Axis(name="latency_p95", label="latency, 95th percentile", unit="seconds"),
    Axis(name="latency_first", label="latency, first decision of an episode", unit="seconds"),
    Axis(name="simulator_steps_by_planner", label="simulator steps tried out by a planner", unit="count"),
    Axis(name="parameters", label="parameters", unit="count"),
    Axis(name="trainable_parameters", label="trainable parameters", unit="count"),
    Axis(name="peak_memory_bytes", label="peak memory", unit="bytes"),
    Axis(name="energy_joules", label="energy of training", unit="joules"),
    Axis(name="decision_energy_joules", label="energy per decision", unit="joules"),
    Axis(name="training_environment_steps", label="demonstration steps used", unit="count"),
    Axis(name="environment_steps", label="environment steps of this evaluation", unit="count"),
)
NO_COST = ("environment_steps",)  # worth knowing, but what success saves is not what it costs


def axis_values(ledger: Mapping[str, Ledger], members: Sequence[ArmResult]) -> dict[str, float | None]:
    """axis -> mean over the members that know it. members: what the records tell, for those that the ledger lacks."""
    counted = [asdict(one) for one in ledger.values()]
    measured = [
        {
            "evaluations": one.evaluations,
            "tokens": one.tokens,
            "latency_median": one.latency_median,
            "latency_p95": one.latency_p95,
        }
        for one in members
    ]
    return {
        axis.name: _mean(facts[axis.name] for facts in counted)
        if any(facts[axis.name] is not None for facts in counted)
        else _mean(facts.get(axis.name) for facts in measured)
        for axis in AXES
    }


def ratio(other: float | None, reference: float | None) -> float | None:
    """other / reference, None where one is unknown or the reference is zero."""
    return None if other is None or not reference else other / reference


def is_equal(value: float | None) -> bool:
    """Whether a ratio says that both are equal within the tolerance."""
    return value is not None and 1 - TOLERANCE <= value <= 1 + TOLERANCE


def _mean(values: Iterable[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else None


def amount(value: float | None, unit: str) -> str:
    """'1.21 PFLOP', '28 ms', '871 MiB', '6,204,423'; 'unknown'."""
    if value is None:
        return "unknown"
    if unit == "seconds":
        return duration(value)
    if unit == "bytes":
        return f"{value / 2**20:,.0f}{SPACE}MiB"
    if unit == "count":
        return number(value)
    power = min(int(math.log10(value) // 3), len(PREFIXES) - 1) if value >= 1 else 0
    return f"{value / 1000**power:.3g}{SPACE}{PREFIXES[power]}{'FLOP' if unit == 'flops' else 'J'}"
