"""Every two arms against each other: the registered test, and all that is known about their difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from volar.comparison.axes import AXES, is_equal, ratio
from volar.comparison.decide import Judgement, adjusted_p, judge, judge_draws, monitor, standings
from volar.comparison.material import Material
from volar.comparison.outcomes import Draws, Scenes, independent_draws, paired_draws
from volar.comparison.protocol import ArmPlan
from volar.comparison.result import ArmOutcome, PairOutcome, Standing
from volar.comparison.words import compute_words, pair_sentence, size_words
from volar.statistics.bootstrap import satterthwaite_difference
from volar.statistics.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class Duel:
    """Two arms, judged. scenes: those that both met, empty when the registered pairing is `unpaired`. draws: for the
    score interval, per task and over all. registered: the question is about this pair; Holm corrects over those."""

    reference: ArmPlan
    other: ArmPlan
    scenes: Scenes
    draws: Draws | None
    task_draws: dict[str, Draws | None]
    judged: Judgement | None
    registered: bool


def fight(material: Material) -> tuple[Duel, ...]:
    """All pairs of arms; those with the first arm, which are the registered ones, come first."""
    return tuple(
        _duel(material, reference, other, registered=reference is material.protocol.arms[0])
        for reference, other in combinations(material.protocol.arms, 2)
    )


def _duel(material: Material, reference: ArmPlan, other: ArmPlan, *, registered: bool) -> Duel:
    protocol, outcomes = material.protocol, material.outcomes
    scenes = outcomes.pair(reference.members, other.members, protocol.tasks)
    if protocol.pairing == "paired":
        values = scenes.strata()
        draws, judged = paired_draws(values), judge(scenes, protocol)
        alone = [paired_draws([found]) for found in values]
    else:
        first, second = ([outcomes.scored(arm.members, task) for task in protocol.tasks] for arm in (reference, other))
        draws = independent_draws(first, second)
        judged = judge_draws(draws, protocol) if draws is not None else None
        alone = [independent_draws([one], [two]) for one, two in zip(first, second, strict=True)]
    return Duel(
        reference=reference, other=other, scenes=scenes, draws=draws, judged=judged, registered=registered,
        task_draws=dict(zip(protocol.tasks, alone, strict=True)),
    )  # fmt: skip


def pair_outcomes(
    material: Material, duels: Sequence[Duel], arms: Sequence[ArmOutcome], *, stopped: Mapping[str, int]
) -> tuple[PairOutcome, ...]:
    """One per duel. Holm's correction is over the registered ones; each of the others is judged alone.

    stopped: other arm of a registered pair -> scenes per task at which a look decided.
    """
    family = [duel.judged for duel in duels if duel.registered]
    decided = standings(family, material.protocol)
    adjusted = adjusted_p([one.p if one else None for one in family])
    outcomes = []
    for k, duel in enumerate(duels):
        standing = decided[k] if duel.registered else standings([duel.judged], material.protocol)[0]
        p = adjusted[k] if duel.registered else None
        found = _outcome(material, duel, arms, standing, p, corrected=len(family) if duel.registered else 1)
        if found.paired:
            at = stopped.get(found.other) if duel.registered else None
            found = replace(found, monitor=monitor(duel.scenes, material.protocol, stopped=at))
        outcomes.append(found)
    return tuple(outcomes)


def _outcome(
    material: Material, duel: Duel, arms: Sequence[ArmOutcome], standing: Standing, p: float | None, *, corrected: int
) -> PairOutcome:
    protocol, judged, paired = material.protocol, duel.judged, material.protocol.pairing == "paired"
    reference, other = (next(arm for arm in arms if arm.name == plan.name) for plan in (duel.reference, duel.other))
    ratios = {axis.name: ratio(other.axes[axis.name], reference.axes[axis.name]) for axis in AXES}
    equal = tuple(name for name, value in ratios.items() if is_equal(value))
    values = np.concatenate(duel.scenes.strata())
    sentence = pair_sentence(
        reference=reference.name, other=other.name, standing=standing, interval=judged.interval if judged else None,
        size=size_words(duel.scenes.total, [len(reference.members), len(other.members)]) if paired
        else f"{other.scored:,} against {reference.scored:,} episodes on different scenes",
        compute=compute_words(protocol, ratios, equal), protocol=protocol, corrected=corrected,
    )  # fmt: skip
    if reference.saturated and other.saturated:
        sentence += " Both solve more than 95\N{NO-BREAK SPACE}% here: these tasks can hardly separate them."
    return PairOutcome(
        reference=reference.name, other=other.name, registered=duel.registered, paired=paired, standing=standing,
        sentence=sentence, interval=judged.interval if judged else None, confidence=1 - protocol.alpha,
        fixed=interval_of(duel.draws),
        tasks={task: interval_of(draws) for task, draws in duel.task_draws.items()},
        p=judged.p if judged else None, adjusted_p=p, recipes=_recipes(material, duel) if paired else None,
        scenes=len(values), wins=int((values > 0).sum()), losses=int((values < 0).sum()),
        left_out=duel.scenes.left_out, equal=equal, ratios=ratios,
        monitor=None,
    )  # fmt: skip


def interval_of(draws: Draws | None) -> Interval | None:
    """The score interval at 95 %, if there is anything to draw it from."""
    return draws.interval() if draws is not None else None


def trained_often(material: Material, *plans: ArmPlan) -> bool:
    """Whether each arm was trained more than once and every task has two scenes that all these policies were scored
    on, which is what the spread between trainings is estimated from."""
    if any(len(plan.members) < 2 for plan in plans):
        return False
    grid = material.outcomes.grid([name for plan in plans for name in plan.members], material.protocol.tasks)
    return bool(((~np.isnan(grid)).all(0).sum(1) >= 2).all())


def _recipes(material: Material, duel: Duel) -> Interval | None:
    if not trained_often(material, duel.reference, duel.other):
        return None
    reference, other = (
        material.outcomes.grid(plan.members, material.protocol.tasks) for plan in (duel.reference, duel.other)
    )
    return satterthwaite_difference(other, reference)
