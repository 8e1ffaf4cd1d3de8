"""What a comparison means, in sentences: the verdict on each pair and what to be wary of. No arithmetic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from volar.comparison.protocol import Protocol
from volar.comparison.result import ArmOutcome, PairOutcome, Result, Standing
from volar.evaluation.wording import MINUS, SPACE, label, listed, number, points, task_labels
from volar.statistics.intervals import Interval

MATCHED = {  # registered --match -> the axis of the ledger that it makes equal
    "train-flops": "training_flops",
    "train-samples": "training_samples",
    "train-seconds": "training_seconds",
    "nfe": "evaluations",
    "inference-flops": "action_flops",
    "latency": "latency_median",
}
EQUAL = {  # axis -> how a sentence says that it was equal
    "training_flops": "equal training FLOPs",
    "training_samples": "equal training samples",
    "training_seconds": "equal training time",
    "evaluations": "equal network evaluations",
    "action_flops": "equal inference FLOPs",
    "latency_median": "equal latency",
}
DESIGNS = {
    "anytime": "valid at any time of looking",
    "group": "corrected for the looks",
    "fixed": "number of scenes fixed beforehand",
}


def points_between(interval: Interval, *, sign: int = 1) -> str:
    """'3 to 13' where both limits have one sign, else '−3 to +9'. sign: -1 turns the difference round."""
    low, high = sorted((sign * interval.low, sign * interval.high))
    words = (limit(low), limit(high))
    return " to ".join(word.lstrip("+") for word in words) if low >= 0 else " to ".join(words)


def limit(difference: float) -> str:
    """As `points`, but a limit that is not zero never reads as zero, since on which side it lies is what matters."""
    whole = points(difference)
    if whole != "0" or abs(difference) < 0.0005:
        return whole
    return f"{'+' if difference > 0 else MINUS}{abs(100 * difference):.1f}"


def chance(p: float, *, sign: bool = True) -> str:
    """'= 0.012', '< 0.0001'; without the sign '0.012'."""
    return f"<{SPACE}0.0001" if p < 0.0001 else f"{f'={SPACE}' if sign else ''}{p:.2g}"


def pair_sentence(
    *, reference: str, other: str, standing: Standing, interval: Interval | None, size: str, compute: str,
    protocol: Protocol, corrected: int,
) -> str:  # fmt: skip
    """The verdict on one pair. size: how much was compared; compute: at what compute, or ""; corrected: number of
    registered pairs that Holm's correction was over."""
    one, two = label(other), label(reference)
    at = f", {compute}" if compute else ""
    if standing == "not compared" or interval is None:
        return f"{one} and {two} were not compared: no scene of every task was met and scored in both."
    confidence = f"{round(100 * (1 - protocol.alpha))}{SPACE}% interval"
    if standing in ("better", "worse"):
        sign = 1 if standing == "better" else -1
        size_of = points(sign * interval.estimate).lstrip("+")
        return (
            f"{one} is {standing} than {two} by {size_of} points: {confidence} "
            f"{points_between(interval, sign=sign)}, {size}{at}."
        )
    lies = f"the difference lies between {limit(interval.low)} and {limit(interval.high)} points"
    if standing == "equivalent":
        margin = points(protocol.margin).lstrip("+")
        return (
            f"{one} and {two} are equivalent within the registered margin of {margin} points: "
            f"{lies} ({confidence}, {size}{at})."
        )
    alone = interval.low > 0 or interval.high < 0
    why = f" after correction for {corrected} comparisons" if alone and corrected > 1 else ""
    return f"{one} and {two} are not separated{why}: {lies} ({confidence}, {size}{at})."


def size_words(scenes: int, members: Sequence[int]) -> str:
    """'412 paired episodes', or '240 paired scenes with 3 policies of each arm'."""
    if set(members) == {1}:
        return f"{scenes:,} paired episodes"
    if len(set(members)) == 1:
        return f"{scenes:,} paired scenes with {members[0]} policies of each arm"
    return f"{scenes:,} paired scenes with {members[1]} policies against {members[0]}"


def compute_words(protocol: Protocol, ratios: Mapping[str, float | None], equal: Sequence[str]) -> str:
    """'at equal training FLOPs' where the ledger confirms what was matched; otherwise how far it is from it."""
    axis = MATCHED.get(protocol.match or "")
    if axis is None:
        return "compute not matched"
    ratio = ratios.get(axis)
    if axis in equal:
        return f"at {EQUAL[axis]}"
    if ratio is None:
        return f"{EQUAL[axis]} intended, not counted"
    return f"with {number(float(f'{ratio:.2g}'))} times the {EQUAL[axis].removeprefix('equal ')}"


def recipe_sentence(pair: PairOutcome) -> str:
    """How much the verdict says about training anew."""
    if pair.recipes is None:
        return ""
    gap = pair.recipes
    words = f"Trained anew with other seeds, the difference would lie between {limit(gap.low)} and {limit(gap.high)}"
    holds = (gap.low > 0 or gap.high < 0) if pair.standing in ("better", "worse") else None
    doubt = " points: the verdict holds for these trained policies, not yet for the recipes." if holds is False else (
        " points, so the verdict holds for the recipes too." if holds else " points."
    )  # fmt: skip
    return words + doubt


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Why a difference here may not mean what it seems to."""

    title: str
    sentence: str


def guard_sentences(result: Result) -> list[Guard]:
    """Saturated tasks and arms, and arms that ignore language or images."""
    found, easy = [], result.saturation
    names = task_labels(result.registration.protocol.tasks)
    harder = f" Harder ones to try: {listed(easy.harder)}." if easy.harder else ""
    if easy.arms:
        have = "is" if len(easy.arms) == 1 else "are"
        found.append(Guard(
            title="Not separable here.",
            sentence=f"{listed(map(label, easy.arms))} {have} above 95{SPACE}% overall: little room is left for "
            f"another arm to be better, and a small difference needs thousands of scenes.{harder}",
        ))  # fmt: skip
    if easy.tasks and len(easy.tasks) < len(names):
        found.append(Guard(
            title="Too easy.",
            sentence=f"Every arm solves more than 95{SPACE}% of {listed(names[task] for task in easy.tasks)}: "
            f"nothing can be learnt from it here.{'' if easy.arms else harder}",
        ))  # fmt: skip
    ignored = {
        "shuffled_instruction": ("the instruction", "language"), "blank_images": ("the images", "vision"),
        "shuffled_thoughts": ("its own thoughts", "reasoning"),
    }  # fmt: skip
    for control in result.controls:
        if control.check is not None and control.check.answer == "no" and control.role in ignored:
            what, sense = ignored[control.role]
            found.append(Guard(
                title=f"{label(control.member or control.name)} ignores {what}.",
                sentence=f"Its success on these tasks is no evidence of {sense}. {control.check.sentence}",
            ))  # fmt: skip
    return found


def warning_sentences(arms: Sequence[ArmOutcome], pairs: Sequence[PairOutcome], protocol: Protocol) -> list[str]:
    """What the outcomes themselves ask a reader to be wary of."""
    found = []
    if broken := sum(arm.broken for arm in arms):
        found.append(f"{count(broken, 'episode')} of the arms broke and could not be judged: counted neither as "
                     "success nor as failure, and their scenes are left out of every difference.")  # fmt: skip
    for pair in pairs:
        if not pair.registered:
            continue
        left, names = pair.left_out, f"{label(pair.other)} and {label(pair.reference)}"
        if not pair.paired:
            found.append(f"{names} met different scenes and are compared as independent samples, as was registered: "
                         "this needs more episodes than pairs do.")  # fmt: skip
            continue
        if left.missing:
            found.append(f"{count(left.missing, 'scene')} {'was' if left.missing == 1 else 'were'} not met by every "
                         f"policy of {names}: left out of their difference.")  # fmt: skip
        if left.different:
            found.append(f"{count(left.different, 'scene')} began differently for {names} although task and seed are "
                         "the same: left out, never joined.")  # fmt: skip
    found += _uneven(arms, protocol)
    return found


def _uneven(arms: Sequence[ArmOutcome], protocol: Protocol) -> list[str]:
    found = []
    lengths = {arm.executed_per_chunk for arm in arms if arm.executed_per_chunk}
    if len(lengths) > 1 or any(len(values) > 1 for values in lengths):
        each = listed(f"{label(arm.name)} {'/'.join(map(str, arm.executed_per_chunk))}" for arm in arms)
        found.append(f"The arms carry out different numbers of actions between two looks: {each}.")
    for arm in arms:
        if absent := [task for task in protocol.tasks if arm.tasks[task] is None]:
            found.append(f"{label(arm.name)} has no scored episode on {listed(absent)}, so it has no overall rate.")
    privileged = {arm.name: arm.privileged for arm in arms if arm.privileged}
    if privileged and len(privileged) < len(arms):
        each = listed(f"{label(name)} ({', '.join(used)})" for name, used in privileged.items())
        found.append(f"Not on equal terms: only {each} used what a real robot does not have.")
    machines = {ledger.hardware for arm in arms for ledger in arm.ledger.values() if ledger.hardware}
    if len(machines) > 1:
        found.append(f"Times were taken on different hardware ({listed(sorted(machines))}) and do not compare.")
    return found


def count(value: int, noun: str) -> str:
    return f"One {noun}" if value == 1 else f"{value:,} {noun}s"
