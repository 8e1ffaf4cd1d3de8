"""Each arm of a comparison by itself and in the order of all: rates, spread between trainings, letters, strengths."""

from collections.abc import Sequence

import numpy as np

from volar.comparison.axes import axis_values
from volar.comparison.decide import adjusted_p
from volar.comparison.duels import Duel, interval_of, trained_often
from volar.comparison.material import Material
from volar.comparison.outcomes import rate_draws
from volar.comparison.protocol import ArmPlan
from volar.comparison.result import ArmOutcome, Member
from volar.evaluation.summary import arm_result
from volar.statistics.bootstrap import seed_spread
from volar.statistics.intervals import Interval
from volar.statistics.multiple import bradley_terry, compact_letters

SATURATED = 0.95  # an arm that solves more than this leaves no room for a better one
LEAST_FOR_RANKING = 3  # arms; two are told apart by their difference


def arm_outcomes(material: Material, duels: Sequence[Duel]) -> tuple[ArmOutcome, ...]:
    """In the order of the protocol."""
    rates = {
        plan.name: interval_of(rate_draws([material.outcomes.scored(plan.members, t) for t in material.protocol.tasks]))
        for plan in material.protocol.arms
    }
    letters, strengths = _letters(material, duels, rates), _strengths(material, duels)
    return tuple(
        _arm(material, plan, rates[plan.name], letters.get(plan.name, ""), strengths.get(plan.name))
        for plan in material.protocol.arms
    )


def _arm(
    material: Material, plan: ArmPlan, overall: Interval | None, letters: str, strength: Interval | None
) -> ArmOutcome:
    tasks, outcomes = material.protocol.tasks, material.outcomes
    results = [arm_result(material.run, member, tasks, material.records) for member in plan.members]
    seeds: Sequence[int | None] = plan.training_seeds or [None] * len(plan.members)
    ledger = material.ledger.get(plan.name, {})
    return ArmOutcome(
        name=plan.name, source=plan.source, where=plan.where, description=plan.description,
        members=tuple(
            Member(name=result.name, training_seed=seed, tasks=result.tasks, overall=result.overall)
            for result, seed in zip(results, seeds, strict=True)
        ),
        tasks={task: interval_of(rate_draws([outcomes.scored(plan.members, task)])) for task in tasks},
        overall=overall,
        successes=sum(result.successes for result in results),
        scored=sum(result.scored for result in results),
        broken=sum(result.broken for result in results),
        letters=letters, strength=strength,
        spread=seed_spread(outcomes.grid(plan.members, tasks)) if trained_often(material, plan) else None,
        axes=axis_values(ledger, results), ledger=ledger,
        executed_per_chunk=tuple(sorted({length for result in results for length in result.executed_per_chunk})),
        privileged=tuple(sorted({used for result in results for used in result.privileged})),
        saturated=overall is not None and overall.estimate > SATURATED,
    )  # fmt: skip


def _letters(material: Material, duels: Sequence[Duel], rates: dict[str, Interval | None]) -> dict[str, str]:
    """Over all pairs, with Holm's correction over all of them; none while an arm lacks a task."""
    known = {name: rate.estimate for name, rate in rates.items() if rate is not None}
    if len(known) < len(rates):
        return {}
    place = {name: k for k, name in enumerate(known)}
    significant = np.zeros((len(known), len(known)), dtype=bool)
    for duel, p in zip(duels, adjusted_p([duel.judged.p if duel.judged else None for duel in duels]), strict=True):
        i, j = place[duel.reference.name], place[duel.other.name]
        significant[i, j] = significant[j, i] = p is not None and p <= material.protocol.alpha
    return dict(compact_letters(list(known), list(known.values()), significant))


def _strengths(material: Material, duels: Sequence[Duel]) -> dict[str, Interval]:
    """Bradley-Terry over the scenes that one of two arms solved more often; none for two arms, or when some arms never
    differed on a common scene."""
    names = [plan.name for plan in material.protocol.arms]
    if len(names) < LEAST_FOR_RANKING or material.protocol.pairing == "unpaired":
        return {}
    wins = np.zeros((len(names), len(names)))
    for duel in duels:
        i, j = names.index(duel.reference.name), names.index(duel.other.name)
        values = np.concatenate(duel.scenes.strata())
        wins[i, j], wins[j, i] = np.clip(-values, 0, None).sum(), np.clip(values, 0, None).sum()
    try:
        found = bradley_terry(wins)
    except ValueError:  # the arms fall into groups that never differed
        return {}
    limits = zip(names, found.strength, found.low, found.high, strict=True)
    return {name: Interval(estimate=value, low=low, high=high) for name, value, low, high in limits}
