"""Carries out simulations in an environment whose state can be put back, and counts what no robot would have.

The policy is asked afresh at every simulated state, under a seed made from that state: equal states get equal chunks,
which are kept. So a policy that remembers (a warm start) is simulated without its memory.
"""

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from volar.core.errors import ConfigError
from volar.core.robot import Actor, BatchActor, Env, Observation, PrivilegedActor, RestorableEnv
from volar.planning.draws import Drawn, Draws, Place, Question, mixed
from volar.planning.planner import Candidates, Expired, Request, Simulated

Draw = Callable[[int], Float32[np.ndarray, "n h a"]]
Propose = Callable[[Draw, np.random.Generator], Candidates]
"""Candidates at one state. `draw(n)` gives the policy's own chunk and n - 1 further draws of it. See proposals.py."""
Value = Callable[[Observation], float]
_Course = Generator[Question, Drawn | None, Simulated]  # asks for a chunk whenever it needs one


def state_key(state: bytes) -> str:
    return hashlib.sha256(state).hexdigest()[:24]


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """edge: control steps of one edge. rollout: most steps of the policy's roll-out behind it; 0 for none.
    discount: per control step. oracle: read the simulator's success flag; without it only a learned value guides."""

    edge: int = 4
    rollout: int = 300
    discount: float = 0.99
    oracle: bool = True

    def __post_init__(self) -> None:
        if self.edge < 1 or self.rollout < 0 or not 0 < self.discount <= 1:
            raise ConfigError(
                f"A simulation needs edge >= 1, rollout >= 0 and a discount in (0, 1]; got edge {self.edge}, "
                f"rollout {self.rollout}, discount {self.discount}."
            )


class Simulator:
    """Final. Owns the state of `env` while it simulates: whoever acts in the same environment restores it afterwards.

    policy: who rolls out and proposes. value: a learned value of an observation, None for none.
    """

    def __init__(
        self,
        env: RestorableEnv,
        policy: Actor,
        propose: Propose,
        *,
        config: SimulationConfig,
        value: Value | None = None,
    ) -> None:
        if not config.oracle and value is None:
            raise ConfigError("Without the simulator's success flag (oracle=False) a value function is needed.")
        self.env, self.policy, self.config = env, policy, config
        self._propose, self._value, self._draws = propose, value, Draws(policy)
        self._instruction: str | None = None

    def begin(self, instruction: str) -> None:
        """A new episode, and what its actor is told."""
        self._instruction = instruction
        self._draws.clear()
        if isinstance(self.policy, PrivilegedActor):
            self.policy.bind(self.env)

    def candidates(self, state: bytes, observation: Observation, *, seed: int = 0) -> Candidates:
        """At a state whose observation is at hand."""
        if isinstance(self.policy, PrivilegedActor):
            self.env.restore(state)
        return self._candidates(state_key(state), lambda: observation, seed)

    @property
    def evaluations(self) -> int:
        """Of the policy's network, so far."""
        return self._draws.evaluations

    def __call__(self, requests: Sequence[Request], expired: Expired) -> list[Simulated]:
        """In their order. A BatchActor decides for all of them at once; what it draws then depends on whom it is asked
        with. Those that time does not even allow to begin come back unfinished and cost nothing."""
        size = len(requests) if isinstance(self.policy, BatchActor) else 1
        parts = (requests[start : start + size] for start in range(0, len(requests), max(1, size)))
        return [result for part in parts for result in self._together(part, expired)]

    def _together(self, requests: Sequence[Request], expired: Expired) -> list[Simulated]:
        """All in the one environment, edge by edge, each put back when its turn comes."""
        courses = [self._course(request, expired, alone=len(requests) == 1) for request in requests]
        finished: dict[int, Simulated] = {}
        answers: dict[int, Drawn | None] = dict.fromkeys(range(len(requests)))
        while answers:
            questions: dict[int, Question] = {}
            for number, answer in answers.items():
                try:
                    questions[number] = courses[number].send(answer)
                except StopIteration as end:
                    finished[number] = end.value
            answers = dict(zip(questions, self._draws.ask(list(questions.values())), strict=True))
        return [finished[number] for number in range(len(requests))]

    def _course(self, request: Request, expired: Expired, *, alone: bool) -> _Course:
        """One simulation. alone: nobody moves the environment while it waits for an answer."""
        if expired():
            return _not_begun(request)
        before, gamma = self.evaluations, self.config.discount
        key, candidates, evaluations = state_key(request.state), None, 0
        self.env.restore(request.state)
        if request.rank is not None:
            candidates = self._candidates(key, self._observe, request.seed)
            actions, evaluations = candidates.chunks[candidates.ranked(request.rank)], self.evaluations - before
        elif request.actions is None:
            drawn = yield from self._own(request.state, key, request.seed, alone=alone)
            actions, evaluations = drawn.actions, drawn.evaluations
        else:
            actions = request.actions
        carried, success, over = self._carry_out(actions[: min(self.config.edge, request.left)])
        state, estimate, rest = self.env.save(), None, _Rest(actions=carried[:0], success=success)
        if not over:
            estimate = None if self._value is None else float(self._value(self._observe()))
            rest = yield from self._roll_out(state, request, request.left - len(carried), expired, alone=alone)
        steps = len(carried) + len(rest.actions)
        return Simulated(
            state=state,
            key=state_key(state),
            actions=carried,
            reward=gamma ** len(carried) if over and success else 0.0,
            discount=0.0 if over else gamma ** len(carried),
            value=gamma ** len(rest.actions) if rest.success and not over else 0.0,
            estimate=estimate,
            candidates=candidates,
            solution=np.concatenate([carried, rest.actions]) if rest.success else None,
            steps=steps,
            checks=steps if self.config.oracle else 0,
            evaluations=evaluations + rest.evaluations,
            finished=rest.finished,
        )

    def _carry_out(self, actions: np.ndarray) -> tuple[np.ndarray, bool, bool]:
        """The actions that were carried out, whether the last brought success, and whether the episode is over."""
        bounds = self.env.spec.action
        done = []
        for action in actions:
            done.append(bounds.clip(action))
            step = self.env.step(done[-1])
            success = self.config.oracle and step.success
            if success or step.terminated:
                return np.stack(done), success, True
        return np.stack(done), False, False

    def _roll_out(
        self, state: bytes, request: Request, left: int, expired: Expired, *, alone: bool
    ) -> Generator[Question, Drawn | None, "_Rest"]:
        """The policy runs on from `state`, where the environment is."""
        left = min(left, self.config.rollout)
        trail, evaluations = [np.zeros((0, self.env.spec.action.dim), np.float32)], 0
        success = over = False
        while left > 0 and not over:
            drawn = None
            if not expired():
                drawn = yield from self._own(state, state_key(state), request.seed, alone=alone)
                evaluations += drawn.evaluations
            if drawn is None or expired():
                return _Rest(actions=np.concatenate(trail), evaluations=evaluations, finished=False)
            done, success, over = self._carry_out(drawn.actions[: min(self.config.edge, left)])
            trail.append(done)
            left -= len(done)
            state = self.env.save()
        return _Rest(actions=np.concatenate(trail), evaluations=evaluations, success=success)

    def _own(self, state: bytes, key: str, seed: int, *, alone: bool) -> Generator[Question, Drawn | None, Drawn]:
        """The policy's own chunk at `state`, where the environment is, before and after."""
        place = Place(key=key, seed=seed)
        if (kept := self._draws.kept(place)) is not None:
            return kept
        drawn = yield Question(place=place, observation=self._observe())
        assert drawn is not None
        if not alone:
            self.env.restore(state)
        return drawn

    def _observe(self) -> Observation:
        seen = self.env.observe(images=self.policy.uses_images)
        return seen if self._instruction is None else replace(seen, instruction=self._instruction)

    def _candidates(self, key: str, observe: Callable[[], Observation], seed: int) -> Candidates:
        random = np.random.default_rng(mixed(key, seed, -1))
        return self._propose(lambda num: self._draws.draw(key, observe, seed, num), random)


@dataclass(frozen=True, kw_only=True)
class _Rest:
    """What a roll-out brought."""

    actions: Float32[np.ndarray, "_ a"]
    evaluations: int = 0
    success: bool = False
    finished: bool = True


def _not_begun(request: Request) -> Simulated:
    actions = np.zeros((0, 0), np.float32) if request.actions is None else request.actions[:0]
    key = state_key(request.state)
    return Simulated(
        state=request.state, key=key, actions=actions, reward=0.0, discount=1.0, value=0.0, finished=False
    )  # fmt: skip


def require_exact_restore(env: Env, *, steps: int = 4, seed: int = 0) -> RestorableEnv:
    """`env`, proved to replay bit for bit from its present state, which it has again afterwards. ConfigError with the
    reason for an environment that cannot save its state, or whose restored runs differ."""
    if not isinstance(env, RestorableEnv):
        raise ConfigError(
            f"{type(env).__name__} cannot save and restore its state, so nothing can be tried in it before acting. "
            f"Plan in another environment (make_simulator), or act without a planner."
        )
    bounds = env.spec.action
    actions = np.random.default_rng(seed).uniform(bounds.low, bounds.high, (steps, bounds.dim)).astype(np.float32)

    def replay() -> list[Any]:
        return [(env.step(action), env.digest()) for action in actions] + [env.save()]

    before = env.save()
    first = replay()
    env.restore(before)
    if env.save() != before:
        raise ConfigError(f"{type(env).__name__}: what `restore` puts back is not what `save` gave; planning needs it.")
    second = replay()
    env.restore(before)
    different = [number for number, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1]]
    if different:
        raise ConfigError(
            f"{type(env).__name__} does not replay exactly: the same actions from the same saved state differ at step "
            f"{different[0] + 1} of {steps}. Its `save` leaves something out, so a plan would be one for another world."
        )
    return env
