"""Carries out simulations in an environment whose state can be put back, and counts what no robot would have.

The policy is asked afresh at every simulated state, under a seed made from that state: equal states get equal chunks,
which are kept. So a policy that remembers (a warm start) is simulated without its memory.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from volar.core.errors import ConfigError
from volar.core.robot import Actor, Chunk, Env, Observation, PrivilegedActor, RestorableEnv
from volar.planning.planner import Candidates, Expired, Request, Simulated

CHUNKS_KEPT = 20_000  # of the policy, by state: a few hundred bytes each

Draw = Callable[[int], Float32[np.ndarray, "h a"]]
Propose = Callable[[Draw, np.random.Generator], Candidates]
"""Candidates at one state. `draw(i)` is the policy's i-th draw there, `draw(0)` its own chunk. See proposals.py."""
Value = Callable[[Observation], float]


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
        self._propose, self._value = propose, value
        self._instruction: str | None = None
        self._chunks: OrderedDict[tuple[str, int], Float32[np.ndarray, "h a"]] = OrderedDict()
        self._evaluations = 0

    def begin(self, instruction: str) -> None:
        """A new episode, and what its actor is told."""
        self._instruction = instruction
        self._chunks.clear()
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
        return self._evaluations

    def __call__(self, requests: Sequence[Request], expired: Expired) -> list[Simulated]:
        """In their order. Those that time does not even allow to begin come back unfinished and cost nothing."""
        return [_not_begun(request) if expired() else self._simulate(request, expired) for request in requests]

    def _simulate(self, request: Request, expired: Expired) -> Simulated:
        before, gamma = self._evaluations, self.config.discount
        self.env.restore(request.state)
        actions = request.actions
        if actions is None:
            actions = self._draw(state_key(request.state), self._observe, request.seed, 0)
        carried, success, over = self._carry_out(actions[: min(self.config.edge, request.left)])
        state = self.env.save()
        key, trail = state_key(state), carried
        candidates, estimate, value, finished = None, None, 0.0, True
        if not over:
            observation = self._observe()
            candidates = self._candidates(key, lambda: observation, request.seed)
            estimate = None if self._value is None else float(self._value(observation))
            own = candidates.chunks[candidates.own]
            rest, success, finished = self._roll_out(own, request, request.left - len(carried), expired)
            value = gamma ** len(rest) if success else 0.0
            trail = np.concatenate([carried, rest])
        won_on_edge = over and success
        return Simulated(
            state=state,
            key=key,
            actions=carried,
            reward=gamma ** len(carried) if won_on_edge else 0.0,
            discount=0.0 if over else gamma ** len(carried),
            value=value,
            estimate=estimate,
            candidates=candidates,
            solution=trail if success else None,
            steps=len(trail),
            checks=len(trail) if self.config.oracle else 0,
            evaluations=self._evaluations - before,
            finished=finished,
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
        self, chunk: np.ndarray, request: Request, left: int, expired: Expired
    ) -> tuple[np.ndarray, bool, bool]:
        """The policy's actions, beginning with `chunk`, whether they end in success, and whether time allowed it."""
        left = min(left, self.config.rollout)
        trail: list[np.ndarray] = []
        empty = np.zeros((0, chunk.shape[1]), np.float32)
        while left > 0:
            if expired():
                return np.concatenate([empty, *trail]), False, False
            done, success, over = self._carry_out(chunk[: min(self.config.edge, left)])
            trail.append(done)
            left -= len(done)
            if over:
                return np.concatenate(trail), success, True
            if left > 0:
                chunk = self._draw(state_key(self.env.save()), self._observe, request.seed, 0)
        return np.concatenate([empty, *trail]), False, True

    def _observe(self) -> Observation:
        seen = self.env.observe(images=self.policy.uses_images)
        return seen if self._instruction is None else replace(seen, instruction=self._instruction)

    def _candidates(self, key: str, observe: Callable[[], Observation], seed: int) -> Candidates:
        random = np.random.default_rng(_mix(key, seed, -1))
        return self._propose(lambda number: self._draw(key, observe, seed, number), random)

    def _draw(self, key: str, observe: Callable[[], Observation], seed: int, number: int) -> Float32[np.ndarray, "h a"]:
        mixed = _mix(key, seed, number)
        if (key, mixed) not in self._chunks:
            self.policy.reset(mixed)
            chunk: Chunk = self.policy.act(observe())
            self._evaluations += chunk.evaluations
            self._chunks[key, mixed] = chunk.actions
            if len(self._chunks) > CHUNKS_KEPT:
                self._chunks.popitem(last=False)
        return self._chunks[key, mixed]


def _not_begun(request: Request) -> Simulated:
    actions = np.zeros((0, 0), np.float32) if request.actions is None else request.actions[:0]
    key = state_key(request.state)
    return Simulated(
        state=request.state, key=key, actions=actions, reward=0.0, discount=1.0, value=0.0, finished=False
    )  # fmt: skip


def _mix(key: str, seed: int, number: int) -> int:
    """A seed for the policy's draw of that number at that state."""
    return int.from_bytes(hashlib.sha256(f"{key}/{seed}/{number}".encode()).digest()[:4], "little")


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
