"""What planners, simulators and the planning actor hand to one another. Plans nothing itself.

One simulation carries out one edge (a few control steps) and then estimates what follows, mostly by letting the policy
run on. Every planner spends the same currency, so that they can be compared at equal simulations.
Letters: n candidates, h horizon, m steps that were carried out, a action dimension.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from volar.core.errors import ConfigError, EpisodeError
from volar.core.robot import ActionSpec


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What may be tried at one state. A candidate's id is its place here, and its prior is looked up by that id only.

    chunks: in the robot's units. prior: sums to 1. own: id of the policy's own chunk.
    """

    chunks: Float32[np.ndarray, "n h a"]
    prior: Float64[np.ndarray, " n"]
    own: int = 0

    def __post_init__(self) -> None:
        if len(self.chunks) == 0:
            raise ConfigError("A policy or sampler proposed no candidates; at least the policy's own chunk is needed.")
        if len(self.prior) != len(self.chunks) or not 0 <= self.own < len(self.chunks):
            raise ConfigError(
                f"{len(self.chunks)} candidates need as many priors and an own chunk among them; "
                f"got {len(self.prior)} priors and own={self.own}."
            )
        if not np.isfinite(self.prior).all() or self.prior.min() < 0 or not math.isclose(self.prior.sum(), 1.0):
            raise ConfigError(f"A prior is finite, not negative and sums to 1; got {self.prior}.")

    def __len__(self) -> int:
        return len(self.chunks)

    def ranked(self, rank: int) -> int:
        """The id of the candidate that is tried as number `rank`: by falling prior, the lower id of equals; from the
        beginning again behind the last."""
        return int(np.argsort(-self.prior, kind="stable")[rank % len(self)])


@dataclass(frozen=True, kw_only=True)
class Root:
    """Where a decision is due. key: hash of the exact state. left: control steps until the episode's time-out.
    seed: of requests whose policy shall act as it does in this episode; one for the whole episode, so that what was
    simulated once comes out the same when it is met again."""

    state: bytes
    key: str
    candidates: Candidates
    left: int
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Request:
    """One simulation, from `state`. actions: of the edge; None lets the policy draw its own under `seed`, or with
    `rank` takes the candidate of that rank at `state`; all of them come back with the result.
    left: control steps that edge and roll-out may take together. seed: of the policy's draws and of the candidates;
    together with the state it determines everything, so that the same request has the same result anywhere."""

    state: bytes
    actions: Float32[np.ndarray, "m a"] | None
    left: int
    seed: int = 0
    rank: int | None = None


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What a request brought.

    state, key: after the edge. actions: of the edge, as carried out. reward: discounted, gathered on the edge.
    discount: factor of everything after it, gamma ** len(actions); 0 where the episode ended on it.
    value: discounted return of the roll-out from `state`. estimate: of a learned value at `state`; None without one.
    candidates: at the state that the request set out from, where it asked for them. solution: all actions from the
    edge's first to the first success; None without one. steps, checks: control steps simulated and success flags read.
    evaluations: of the policy's network. finished: False when time ran out on the way, so that nothing may be concluded
    from it.
    """

    state: bytes
    key: str
    actions: Float32[np.ndarray, "m a"]
    reward: float
    discount: float
    value: float
    estimate: float | None = None
    candidates: Candidates | None = None
    solution: Float32[np.ndarray, "_ a"] | None = None
    steps: int = 0
    checks: int = 0
    evaluations: int = 0
    finished: bool = True

    def __post_init__(self) -> None:
        numbers = [self.reward, self.discount, self.value, 0.0 if self.estimate is None else self.estimate]
        if not all(map(math.isfinite, numbers)):
            raise EpisodeError(
                f"A simulation gave reward {self.reward}, discount {self.discount}, value {self.value}, learned "
                f"estimate {self.estimate}; planning needs finite numbers. Which value function was used?"
            )

    @property
    def over(self) -> bool:
        """Whether the episode ended on the edge."""
        return self.discount == 0.0

    @property
    def total(self) -> float:
        """Discounted return from the edge's beginning."""
        return self.reward + self.discount * self.value


Expired = Callable[[], bool]
Simulate = Callable[[Sequence[Request], Expired], list[Simulated]]
"""Carries out several requests, in their order. `expired` is asked between edges: True ends what is unfinished."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How much one decision may spend; it ends at whichever comes first. seconds: overshot by one edge at most."""

    simulations: int
    seconds: float | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.simulations < 0:
            raise ConfigError(f"A planner's simulations must be at least 0 (the policy alone), got {self.simulations}.")
        if self.seconds is not None and not self.seconds >= 0:
            raise ConfigError(f"A planner's seconds must be at least 0, got {self.seconds}.")

    def starting(self) -> Expired:
        """The clock runs from now on."""
        if self.seconds is None:
            return lambda: False
        end, clock = self.clock() + self.seconds, self.clock
        return lambda: clock() >= end


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a decision cost. simulations: finished ones, of which `successes` ended well. steps, checks, evaluations: as
    in `Simulated`, unfinished simulations included."""

    simulations: int = 0
    successes: int = 0
    steps: int = 0
    checks: int = 0
    evaluations: int = 0

    def plus(self, results: Sequence[Simulated]) -> "Spent":
        return Spent(
            simulations=self.simulations + sum(result.finished for result in results),
            successes=self.successes + sum(result.solution is not None for result in results),
            steps=self.steps + sum(result.steps for result in results),
            checks=self.checks + sum(result.checks for result in results),
            evaluations=self.evaluations + sum(result.evaluations for result in results),
        )


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a node of a tree was reached: an edge's actions, from `state`. The root is where its own way begins."""

    state: bytes
    actions: Float32[np.ndarray, "m a"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A decision. actions: what to do next, an edge. solution: all actions to the first simulated success, if any.

    chunks, visits, values: what was tried at the root, how often, and its mean return. chosen: row of these;
    None where nothing was simulated and `actions` is the policy's own chunk.
    fallback: why the policy decided alone; "" where the planner did.
    tree: the search tree as plain JSON, None for planners without one. ways: to its nodes, by key.
    """

    actions: Float32[np.ndarray, "m a"]
    spent: Spent
    solution: Float32[np.ndarray, "_ a"] | None = None
    chunks: Float32[np.ndarray, "k _ a"] | None = None
    visits: Int64[np.ndarray, " k"] = field(default_factory=lambda: np.zeros(0, np.int64))
    values: Float64[np.ndarray, " k"] = field(default_factory=lambda: np.zeros(0))
    chosen: int | None = None
    fallback: str = ""
    tree: dict[str, Any] | None = None
    ways: Mapping[str, Way] = field(default_factory=dict)


class Planner(ABC):
    """Members have a nested `Config` of choices; constructor `(config, *, spec)`, spec being the robot's actions."""

    @abstractmethod
    def __init__(self, config: Any, *, spec: ActionSpec) -> None: ...

    def reset(self) -> None:  # noqa: B027  (most planners remember nothing)
        """Forget the last episode."""

    @abstractmethod
    def plan(self, root: Root, simulate: Simulate, *, edge: int, limit: Limit, random: np.random.Generator) -> Plan:
        """What to do at `root`. edge: control steps of one edge; `random`: all of the planner's own chance."""


def fall_back(root: Root, edge: int, reason: str, spent: Spent | None = None) -> Plan:
    """The policy's own chunk."""
    own = root.candidates.chunks[root.candidates.own]
    return Plan(actions=own[: min(edge, root.left)], spent=spent or Spent(), fallback=reason)
