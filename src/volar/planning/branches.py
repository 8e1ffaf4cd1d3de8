"""Branches of states that a policy meets: every candidate is carried out for an edge and the policy goes on from there,
so that siblings can be told apart by what came of them. What a search does at its root, recorded."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32

from volar.core.robot import Observation, Trajectory
from volar.planning.planner import Request, Simulated
from volar.planning.simulation import Simulator


@dataclass(frozen=True, kw_only=True)
class Branch:
    """The state behind one candidate's edge. step: control steps of the episode before the edge. edge: steps of it.
    candidate: its id; `own` is the policy's. steps_to_success: of the policy from this state on; None if it failed or
    time ran out."""

    observation: Observation
    action: Float32[np.ndarray, " a"]
    step: int
    edge: int
    candidate: int
    own: bool
    steps_to_success: int | None

    def trajectory(self) -> Trajectory:
        """As an episode of one frame, for a data set. The action is the edge's first."""
        return Trajectory(
            images={name: picture[None] for name, picture in self.observation.images.items()},
            proprioception=self.observation.proprioception[None], actions=self.action[None],
            executed=self.action[None], rewards=np.zeros(1, np.float32), image_steps=(0,),
        )  # fmt: skip

    def facts(self) -> dict[str, int | bool | None]:
        return {
            "step": self.step, "edge": self.edge, "candidate": self.candidate, "own": self.own,
            "success": self.steps_to_success is not None, "steps_to_success": self.steps_to_success,
        }  # fmt: skip


def branches_of(simulator: Simulator, *, seed: int, max_steps: int, every: int) -> Iterator[list[Branch]]:
    """The branches of every `every`-th decision of the episode that `seed` names, which the policy itself carries on.
    Those on whose edge the episode ended are left out: nothing needs to be foretold there."""
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
            requests = [Request(state=state, actions=chunk[:edge], left=left, seed=seed) for chunk in candidates.chunks]
            found = []
            for place, result in enumerate(simulator(requests, lambda: False)):
                if not result.over:
                    env.restore(result.state)
                    own = place == candidates.own
                    found.append(_branch(look(), result, step=step, candidate=place, own=own))
            env.restore(state)
            yield found
        for action in candidates.chunks[candidates.own][: min(edge, left)]:
            moment = env.step(env.spec.action.clip(action))
            step += 1
            if over := moment.success or moment.terminated:
                break
        if over:
            return


def _branch(observation: Observation, result: Simulated, *, step: int, candidate: int, own: bool) -> Branch:
    edge = len(result.actions)
    left = None if result.solution is None else len(result.solution) - edge
    return Branch(
        observation=observation, action=result.actions[0], step=step, edge=edge, candidate=candidate, own=own,
        steps_to_success=left,
    )  # fmt: skip
