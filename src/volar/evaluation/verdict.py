"""What a summary means, in sentences: the verdict, the checks against the control arms, and what to be wary of."""

from dataclasses import dataclass
from typing import Literal

from volar.evaluation.episodes import LOOKING
from volar.evaluation.summary import ArmResult, Difference, Summary
from volar.evaluation.wording import label, listed, percent, percent_range, points, points_range, task_labels

NEGLIGIBLE = 0.10  # a difference whose whole interval lies within +-10 points counts as none
TOO_RARE = 0.10  # a policy that succeeds less often than this cannot show what it uses

QUESTIONS = {
    "shuffled_instruction": ("Does it use the instruction?", "Given the instruction of another task"),
    "blank_images": ("Does it use the camera images?", "With blank images"),
    "random_actions": ("Is it better than random actions?", "With random actions"),
    "shuffled_thoughts": ("Does it follow its thoughts?", "With thoughts from elsewhere"),
}

EXPLANATIONS = {
    "policy": "",
    "shuffled_instruction": "The same policy, told the instruction of another task and scored on this one. "
    "What still succeeds here needs no language.",
    "blank_images": "The same policy with every image blanked out. What still succeeds here needs no vision.",
    "random_actions": "Actions drawn at random. What still succeeds here is luck.",
    "expert": "A scripted expert that reads the simulator's state: a ceiling for these tasks, not a competitor.",
    "oracle_thoughts": "The same policy, told by the simulator what its labels would say at that moment: what it gains "
    "here, better thoughts would bring.",
    "shuffled_thoughts": "The same policy with the true thoughts of another scene and moment in place of its own. What "
    "still succeeds here does not need them.",
    "by_hand": "The same policy with a person's words or marks in place of its own.",
    "other": "",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """A question that a control arm answers. sentence gives the numbers behind the answer."""

    question: str
    answer: Literal["yes", "no", "undecided"]
    sentence: str


def verdict(summary: Summary) -> str:
    """One sentence, or two, that a person understands; no rate where the records do not allow one."""
    policy = summary.policy
    if policy is None:
        return "No policy took part in this run; there are only control arms."
    if not policy.scored:
        if not policy.broken:
            return "No verdict yet: the policy has no finished episode."
        return f"No verdict: all {policy.broken} episodes of the policy broke, so that none could be scored."
    if policy.overall is None:
        names = task_labels(summary.run.tasks)
        missing = listed(names[task] for task, rate in policy.tasks.items() if not rate.scored)
        return f"No overall verdict: no episode could be scored on {missing}."
    tasks = "one task" if len(summary.run.tasks) == 1 else f"the mean of {len(summary.run.tasks)} tasks"
    between = percent_range(policy.overall, dash=" to ")
    return (
        f"The policy succeeds in {percent(policy.overall.estimate)} of episodes "
        f"(95\N{NO-BREAK SPACE}% interval {between}): {tasks}, {policy.scored:,} episodes."
    )


def checks(summary: Summary) -> tuple[Check, ...]:
    """One check per control arm that asks a question and has an overall difference."""
    policy, arms = summary.policy, {arm.name: arm for arm in summary.arms}
    if policy is None:
        return ()
    return tuple(
        control_check(policy, arms[difference.other], difference, task_labels(summary.run.tasks))
        for difference in summary.differences
        if arms[difference.other].role in QUESTIONS and difference.overall is not None
    )


def control_check(policy: ArmResult, control: ArmResult, difference: Difference, names: dict[str, str]) -> Check:
    """The question that `control.role` asks of the policy; `difference` is policy minus control and has an overall."""
    question, condition = QUESTIONS[control.role]
    gap = difference.overall
    assert gap is not None and control.overall is not None and policy.overall is not None
    facts = (
        f"{condition} the success is {percent(control.overall.estimate)} instead of "
        f"{percent(policy.overall.estimate)}: {points(-gap.estimate)} points "
        f"(95\N{NO-BREAK SPACE}% interval of the difference {points(-gap.high)} to {points(-gap.low)})."
    )
    if gap.low > 0:
        unsure = [names[task] for task, interval in difference.tasks.items() if interval and interval.low <= 0]
        rest = f" Taken alone, {listed(unsure)} would not show it." if unsure else ""
        return Check(question=question, answer="yes", sentence=facts + rest)
    if policy.overall.estimate < TOO_RARE:
        return Check(
            question=question, answer="undecided", sentence=f"{facts} The policy itself succeeds too rarely to tell."
        )
    if gap.high < NEGLIGIBLE:
        return Check(question=question, answer="no", sentence=facts)
    return Check(question=question, answer="undecided", sentence=f"{facts} More episodes are needed to tell.")


def warnings(summary: Summary) -> tuple[str, ...]:
    """What a reader must know before believing a number; empty for a clean run."""
    found = []
    if summary.broken:
        found.append(f"{_count(len(summary.broken), 'episode')} broke and could not be judged: listed below, counted "
                     "neither as success nor as failure.")  # fmt: skip
    if summary.unpaired:
        found.append(f"{_count(len(summary.unpaired), 'scene')} differed between arms although task and seed were the "
                     "same: counted in each arm's own rate, left out of every difference between arms.")  # fmt: skip
    if short := _unfinished(summary):
        found.append(f"The run is not finished: {listed(short)}.")
    acting = [arm for arm in summary.arms if arm.role in LOOKING]
    lengths = {arm.executed_per_chunk for arm in acting if arm.decisions}
    if len(lengths) > 1 or any(len(values) > 1 for values in lengths):
        each = listed(
            f"{label(arm.name)} {'/'.join(map(str, arm.executed_per_chunk))}" for arm in acting if arm.decisions
        )
        found.append(f"The number of actions executed between two looks was not the same everywhere: {each}.")
    expert = next((arm for arm in summary.arms if arm.role == "expert"), None)
    best = summary.policy.overall if summary.policy else None
    if best and expert and expert.overall and best.high >= expert.overall.estimate:
        found.append(f"Saturated: the policy's interval reaches the {percent(expert.overall.estimate)} of the scripted "
                     "expert; these tasks leave no room to tell better policies apart.")  # fmt: skip
    return tuple(found)


def difference_text(difference: Difference) -> str:
    """'+79 points (+70 to +86)', or a dash where there are no common scenes."""
    if difference.overall is None:
        return "\N{EN DASH}"
    return f"{points(difference.overall.estimate)} points ({points_range(difference.overall)})"


def _count(count: int, noun: str) -> str:
    return f"One {noun}" if count == 1 else f"{count:,} {noun}s"


def _unfinished(summary: Summary) -> list[str]:
    """Arms that have fewer episodes than planned, in words."""
    planned = len(summary.run.tasks) * len(summary.run.seeds)
    counts = {arm.name: arm.scored + arm.broken for arm in summary.arms}
    return [f"{label(name)} has {count} of {planned} episodes" for name, count in counts.items() if count < planned]
