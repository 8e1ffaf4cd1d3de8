"""Branches of states that a policy meets: every candidate is carried out for an edge and the policy goes on from there,
so that siblings can be told apart by what came of them. What a search does at its root, recorded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32

from volar.core.robot import Observation, Trajectory
from volar.planning.planner import Request, Simulated
from volar.planning.simulation import Simulator

DRAW = 1_000_003  # between the seeds of one branch's roll-outs, so that neighbouring scenes share none


@dataclass(frozen=True, kw_only=True)
class Branch:
    """The state behind one candidate's edge. step: control steps of the episode before the edge. edge: steps of it.
    candidate: its id; `own` is the policy's. steps_to_success: of the policy from this state on, for each time that it
    was let go on; None where it failed or time ran out."""

    observation: Observation
    action: Float32[np.ndarray, " a"]
    step: int
    edge: int
    candidate: int
    own: bool
    steps_to_success: tuple[int | None, ...]

    def trajectory(self) -> Trajectory:
        """As an episode of one frame, for a data set. The action is the edge's first."""
        return Trajectory(
            images={name: picture[None] for name, picture in self.observation.images.items()},
            proprioception=self.observation.proprioception[None], actions=self.action[None],
            executed=self.action[None], rewards=np.zeros(1, np.float32), image_steps=(0,),
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Plain JSON. success: of the first time."""
        return {
            "step": self.step, "edge": self.edge, "candidate": self.candidate, "own": self.own,
            "success": self.steps_to_success[0] is not None, "steps_to_success": list(self.steps_to_success),
        }  # fmt: skip


def branches_of(
    simulator: Simulator, *, seed: int, max_steps: int, every: int, draws: int = 1
) -> Iterator[list[Branch]]:  # fmt: skip
    """The branches of every `every`-th decision of the episode that `seed` names, which the policy itself carries on.
    Those on whose edge the episode ended are left out: nothing needs to be foretold there. draws: how often the policy
    goes on from each, under seeds of their own."""
    env = simulator.env
    look = partial(env.observe, images=simulator.policy.uses_images)
    env.reset(seed)
    step, over = 0, False
    simulator.begin(look().instruction)
    edge = simulator.config.edge
    for number in range(-(-max_steps // edge)):
        state, left = env.save(), max_steps - step
        candidates = simulator.candidates(state, look(), seed=seed)
        if number % every == 0:
            requests = [
                Request(state=state, actions=chunk[:edge], left=left, seed=seed + DRAW * draw)
                for chunk in candidates.chunks for draw in range(draws)
            ]  # fmt: skip
            results, found = simulator(requests, lambda: False), []
            for place in range(len(candidates)):
                same = results[place * draws : (place + 1) * draws]
                if not same[0].over:
                    env.restore(same[0].state)
                    found.append(_branch(look(), same, step=step, candidate=place, own=place == candidates.own))
            env.restore(state)
            yield found
        for action in candidates.chunks[candidates.own][: min(edge, left)]:
            moment = env.step(env.spec.action.clip(action))
            step += 1
            if over := moment.success or moment.terminated:
                break
        if over:
            return


def _branch(
    observation: Observation, results: Sequence[Simulated], *, step: int, candidate: int, own: bool
) -> Branch:  # fmt: skip
    actions = results[0].actions
    left = tuple(None if each.solution is None else len(each.solution) - len(actions) for each in results)
    return Branch(
        observation=observation, action=actions[0], step=step, edge=len(actions), candidate=candidate, own=own,
        steps_to_success=left,
    )  # fmt: skip
