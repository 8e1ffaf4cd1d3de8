"""Control of learned values: what a search would be worth whose value were the policy's true expected return, estimated
by further roll-outs in the simulator. Not a planner's option: it costs a multiple of what it guides."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from volar.core.errors import ConfigError
from volar.planning.planner import Expired, Request, Simulate, Simulated

APART = 0x6F7261  # from the seeds of the search's own simulations


def oracle_return(simulate: Simulate, *, draws: int) -> Simulate:
    """`simulate` whose estimates are mean returns of `draws` further roll-outs of the policy from each new state, under
    seeds of their own; their steps, checks and evaluations are counted with it. The first success among them is not
    taken as a solution, so that only the number guides. Says something only of policies that draw at random."""
    if draws < 1:
        raise ConfigError(f"An oracle needs at least 1 roll-out per state, got {draws}.")

    def estimated(requests: Sequence[Request], expired: Expired) -> list[Simulated]:
        results = simulate(requests, expired)
        further = {
            (place, draw): Request(
                state=result.state, actions=None, left=request.left - len(result.actions), seed=seed_of(request, draw)
            )
            for place, (request, result) in enumerate(zip(requests, results, strict=True))
            if result.finished and not result.over and request.left > len(result.actions)
            for draw in range(draws)
        }
        found = dict(zip(further, simulate(list(further.values()), expired), strict=True))
        return [
            _with_estimate(result, [found[place, draw] for draw in range(draws) if (place, draw) in found])
            for place, result in enumerate(results)
        ]

    return estimated


def seed_of(request: Request, draw: int) -> int:
    return int(np.random.SeedSequence([request.seed, APART, draw]).generate_state(1)[0])


def _with_estimate(result: Simulated, further: Sequence[Simulated]) -> Simulated:
    return replace(
        result,
        estimate=float(np.mean([each.total for each in further])) if further else 0.0,
        steps=result.steps + sum(each.steps for each in further),
        checks=result.checks + sum(each.checks for each in further),
        evaluations=result.evaluations + sum(each.evaluations for each in further),
        finished=result.finished and all(each.finished for each in further),
    )
