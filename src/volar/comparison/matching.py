"""Arms scaled to one budget before anything is trained or run, or a refusal that says why and what is possible.

Pure arithmetic on counted numbers; the first arm is the reference and is never changed. Semantics: docs/compute.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from volar.core.compute import Counts, Timing
from volar.core.errors import ConfigError, unknown_name

Axis = Literal["train-flops", "train-samples", "train-seconds", "nfe", "inference-flops", "latency", "none"]
Known = TypeVar("Known")
TOLERANCE = 0.05
ALIKE = 1e-3  # so close that changing an arm would not be worth it
UNITS: dict[str, str] = {
    "train-flops": "training FLOPs", "train-samples": "training samples", "train-seconds": "seconds of training",
    "nfe": "network evaluations per decision", "inference-flops": "FLOPs per executed action",
    "latency": "seconds per decision", "none": "",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What is known of an arm beforehand; None is unknown.

    steps: gradient steps, `samples_per_step` each. scalable: it has yet to be trained. stored_features: it trains on
    features that are computed once for each of `frames` frames. seconds_per_step: measured on the machine that will
    train all arms. execute: actions carried out per decision.
    """

    name: str
    steps: int | None = None
    samples_per_step: int | None = None
    scalable: bool = False
    stored_features: bool = False
    frames: int = 0
    seconds_per_step: float | None = None
    execute: int = 1
    counts: Counts | None = None
    timing: Timing | None = None


@dataclass(frozen=True, kw_only=True)
class Matched:
    """How one arm is to be run. steps, evaluations: None leaves its own. before, after: its amount on the axis, after
    being what the changes give. note: a sentence for the report."""

    name: str
    steps: int | None = None
    evaluations: int | None = None
    before: float | None = None
    after: float | None = None
    note: str = ""


@dataclass(frozen=True)
class _Line:
    """amount = fixed + slope * quantity, of which the arm's own quantity is `own`; slope 0 where it cannot change."""

    fixed: float
    slope: float
    own: float

    def at(self, quantity: int | float) -> float:
        return self.fixed + self.slope * quantity

    @property
    def before(self) -> float:
        return self.at(self.own)


def match(arms: Sequence[Contender], axis: str, *, tolerance: float = TOLERANCE) -> tuple[Matched, ...]:
    """One entry per arm, in order. axis: an `Axis`. On the training axes steps are scaled to equal amounts; on the
    others evaluations to the most that does not exceed the reference. Raises ConfigError when an arm cannot come
    within `tolerance` (relative) or a number that is needed is unknown.
    """
    if axis not in get_args(Axis):
        raise unknown_name("axis to match on", axis, get_args(Axis))
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance is a share of the reference's amount, 0 to below 1; got {tolerance}.")
    if axis == "none" or not arms:
        return tuple(Matched(name=arm.name) for arm in arms)
    training = axis.startswith("train-")
    reference, *others = arms
    line: Callable[[Contender, str], _Line] = _training if training else _inference
    target = line(reference, axis).before
    if not target > 0:
        raise ConfigError(f"The reference {reference.name!r} has {target:g} {UNITS[axis]}; nothing can be equal to it.")
    scale = _scale_steps if training else _scale_evaluations
    first = Matched(name=reference.name, before=target, after=target, note=f"the reference: {target:.4g} {UNITS[axis]}")
    return (first, *(scale(arm, line(arm, axis), target, axis, tolerance) for arm in others))


def _training(arm: Contender, axis: str) -> _Line:
    """The amount against gradient steps."""
    steps = float(_known(arm, axis, "its number of gradient steps", arm.steps))
    if axis == "train-seconds":
        return _Line(0.0, _known(arm, axis, "seconds per step on this machine", arm.seconds_per_step), steps)
    samples = float(_known(arm, axis, "its samples per step", arm.samples_per_step))
    if axis == "train-samples":
        return _Line(0.0, samples, steps)
    counts = _known(arm, axis, "its counted FLOPs", arm.counts)
    if not arm.stored_features:
        return _Line(0.0, samples * counts.training_flops, steps)
    stored = _known(arm, axis, "FLOPs from stored features", counts.stored_training_flops)
    frame = _known(arm, axis, "FLOPs of storing a frame's features", counts.feature_flops)
    return _Line(float(frame * arm.frames), samples * stored, steps)


def _inference(arm: Contender, axis: str) -> _Line:
    """The amount against the decoder's evaluations per decision; what a reasoner thinks is fixed."""
    counts = _known(arm, axis, "its counted FLOPs and evaluations", arm.counts)
    slope, thinking = 1.0 if counts.anytime else 0.0, counts.thinking_evaluations
    if axis == "nfe":
        return _Line(thinking + (0.0 if counts.anytime else counts.evaluations), slope, counts.evaluations)
    if axis == "latency":
        timing = _known(arm, axis, "its measured latency", arm.timing)
        per, own = timing.evaluation * slope, timing.evaluations - thinking
        return _Line(timing.median - per * own, per, own)
    per = counts.evaluation_flops * slope
    fixed = counts.decision_flops() - per * counts.evaluations
    return _Line(fixed / arm.execute, per / arm.execute, counts.evaluations)


def _scale_steps(arm: Contender, line: _Line, target: float, axis: str, tolerance: float) -> Matched:
    if _close(line.before, target, ALIKE if arm.scalable else tolerance):
        return _unchanged(arm, line, target, axis)
    if not arm.scalable:
        raise ConfigError(
            f"{arm.name!r} is trained already, with {line.before:.4g} {UNITS[axis]} against {target:.4g} of the "
            f"reference; that cannot be changed. Give its recipe instead, make it the reference, or --match none."
        )
    steps = round((target - line.fixed) / line.slope) if line.slope else 0
    if steps < 1 or not _close(line.at(steps), target, tolerance):
        raise ConfigError(
            f"{arm.name!r} cannot have {target:.4g} {UNITS[axis]} within {tolerance:.0%}: storing its features takes "
            f"{line.fixed:.4g}, each step {line.slope:.4g}, so the nearest is {line.at(max(steps, 1)):.4g} with "
            f"{max(steps, 1)} step(s). Give the reference more steps, or --match train-samples."
        )
    note = f"{_note(line.at(steps), target, axis)}: {steps} steps instead of {line.own:.0f}"
    return Matched(name=arm.name, steps=steps, before=line.before, after=line.at(steps), note=note)


def _scale_evaluations(arm: Contender, line: _Line, target: float, axis: str, tolerance: float) -> Matched:
    if _close(line.before, target, ALIKE if line.slope else tolerance):
        return _unchanged(arm, line, target, axis)
    if not line.slope:
        raise ConfigError(
            f"{arm.name!r} decides with {line.own:g} network evaluation(s), always: {line.before:.4g} {UNITS[axis]} "
            f"against {target:.4g} of the reference, and more of them cannot be asked of it. Possible: make "
            f"{arm.name!r} the reference and let the others come down to it, or match on train-flops, or --match none."
        )
    evaluations = int((target - line.fixed) / line.slope * (1 + 1e-9))
    if evaluations < 1:
        raise ConfigError(
            f"{arm.name!r} needs {line.at(1):.4g} {UNITS[axis]} with a single network evaluation, more than the "
            f"{target:.4g} of the reference. Make {arm.name!r} the reference, or --match none."
        )
    most = None if arm.counts is None else arm.counts.most_evaluations
    if most is not None and evaluations > most:
        evaluations = most
        if not _close(line.at(most), target, tolerance):
            raise ConfigError(
                f"{arm.name!r} makes at most {most} network evaluations: {line.at(most):.4g} {UNITS[axis]} against "
                f"{target:.4g} of the reference. Make {arm.name!r} the reference, match train-flops, or --match none."
            )
    note = f"{_note(line.at(evaluations), target, axis)}: {evaluations} evaluations instead of {line.own:g}"
    if not _close(line.at(evaluations), target, tolerance):
        note += f"; one more would be {line.at(evaluations + 1):.4g}"
    return Matched(name=arm.name, evaluations=evaluations, before=line.before, after=line.at(evaluations), note=note)


def _unchanged(arm: Contender, line: _Line, target: float, axis: str) -> Matched:
    return Matched(name=arm.name, before=line.before, after=line.before, note=_note(line.before, target, axis))


def _known(arm: Contender, axis: str, what: str, value: Known | None) -> Known:
    if value is None:
        raise ConfigError(
            f"--match {axis}: of the arm {arm.name!r}, {what} is unknown. Recipes and checkpoints of volar can be "
            f"counted; served policies and records of others cannot: --match none."
        )
    return value


def _close(amount: float, target: float, tolerance: float) -> bool:
    return abs(amount - target) <= tolerance * target


def _note(amount: float, target: float, axis: str) -> str:
    return f"{amount:.4g} {UNITS[axis]}, {amount / target:.1%} of the reference"
