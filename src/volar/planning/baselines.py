"""What a tree search has to beat, on the same simulations: the policy alone, best-of-N verified in the simulator,
random shooting and the cross-entropy method on chunks. All carry on with the policy behind the first edge.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from volar.core.errors import ConfigError
from volar.core.robot import ActionSpec
from volar.planning.planner import (
    Expired,
    Limit,
    Plan,
    Planner,
    Request,
    Root,
    Simulate,
    Simulated,
    Spent,
    fall_back,
)
from volar.planning.proposals import random_chunks


@dataclass
class _Tried:
    """Flat simulations from one root, best first found. Ends at the first success or when the limit is spent."""

    root: Root
    simulate: Simulate
    limit: Limit
    expired: Expired
    parallel: int
    spent: Spent
    results: list[Simulated]

    @property
    def solved(self) -> bool:
        return any(result.solution is not None for result in self.results)

    def run(self, requests: Sequence[Request]) -> list[Simulated]:
        """The finished ones of `requests`, as far as the limit allows."""
        finished: list[Simulated] = []
        waiting = list(requests)[: self.limit.simulations - self.spent.simulations]
        while waiting and not self.solved and not self.expired():
            now, waiting = waiting[: self.parallel], waiting[self.parallel :]
            results = self.simulate(now, self.expired)
            self.spent = self.spent.plus(results)
            whole = [result for result in results if result.finished]
            finished += whole
            self.results += whole
            if len(whole) < len(results):
                break
        return finished

    def plan(self, edge: int) -> Plan:
        if not self.results:
            return fall_back(self.root, edge, "the budget ended before one simulation was finished", self.spent)
        returns = np.array([result.total for result in self.results])
        # A success at the deadline of a discount-free world may tie with others; the verified one is taken.
        won = [number for number, result in enumerate(self.results) if result.solution is not None]
        chosen = max(won, key=returns.__getitem__) if won else int(returns.argmax())
        best = self.results[chosen]
        longest = max(len(result.actions) for result in self.results)
        padded = [np.pad(r.actions, ((0, longest - len(r.actions)), (0, 0)), mode="edge") for r in self.results]
        return Plan(
            actions=best.actions,
            spent=self.spent,
            solution=best.solution,
            chunks=np.stack(padded),
            visits=np.ones(len(returns), np.int64),
            values=returns,
            chosen=chosen,
        )


def _begin(root: Root, simulate: Simulate, limit: Limit, parallel: int) -> _Tried:
    if parallel < 1:
        raise ConfigError(f"parallel must be at least 1 simulation at once, got {parallel}.")
    return _Tried(root, simulate, limit, limit.starting(), parallel, Spent(), [])


class PolicyAlone(Planner):
    """No planner: the policy's own chunk, without one simulation."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def __init__(self, config: Config, *, spec: ActionSpec) -> None:
        self.config = config

    def plan(self, root: Root, simulate: Simulate, *, edge: int, limit: Limit, random: np.random.Generator) -> Plan:
        return fall_back(root, edge, "")


class BestOfN(Planner):
    """The policy runs on N times from here under different seeds; the first success is taken, else the best return.
    A deterministic policy does the same N times over: then `candidates` lets each run begin with another candidate."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        candidates: bool = False
        parallel: int = 1

    def __init__(self, config: Config, *, spec: ActionSpec) -> None:
        self.config = config

    def plan(self, root: Root, simulate: Simulate, *, edge: int, limit: Limit, random: np.random.Generator) -> Plan:
        tried = _begin(root, simulate, limit, self.config.parallel)
        order = np.argsort(-root.candidates.prior, kind="stable")
        starts = root.candidates.chunks[order, :edge]
        tried.run(
            [
                Request(
                    state=root.state,
                    actions=starts[number % len(starts)] if self.config.candidates else None,
                    left=root.left,
                    # Each round through the candidates, or each run, has draws of its own.
                    seed=root.seed + (number // len(starts) if self.config.candidates else number),
                )
                for number in range(limit.simulations)
            ]
        )
        return tried.plan(edge)


class RandomShooting(Planner):
    """Uniformly random actions, each held for one edge; then the policy runs on."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        parallel: int = 1

    def __init__(self, config: Config, *, spec: ActionSpec) -> None:
        self.config, self._spec = config, spec

    def plan(self, root: Root, simulate: Simulate, *, edge: int, limit: Limit, random: np.random.Generator) -> Plan:
        tried = _begin(root, simulate, limit, self.config.parallel)
        chunks = random_chunks(self._spec, random, num=limit.simulations, steps=edge)
        tried.run([Request(state=root.state, actions=chunk, left=root.left, seed=root.seed) for chunk in chunks])
        return tried.plan(edge)


class CrossEntropy(Planner):
    """The cross-entropy method on the first edge's actions: a Gaussian that begins at the policy's own chunk is fitted
    to the best of every generation. The own chunk itself is always the first one tried."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """generations: the simulations are divided among them. elite: share that the next Gaussian is fitted to.
        deviation: of the first one, in half ranges of the action. momentum: of the old mean and deviation."""

        generations: int = 3
        elite: float = 0.2
        deviation: float = 0.5
        momentum: float = 0.1
        parallel: int = 1

    def __init__(self, config: Config, *, spec: ActionSpec) -> None:
        if config.generations < 1 or not 0 < config.elite <= 1 or not config.deviation > 0:
            raise ConfigError(
                f"Cross-entropy needs generations >= 1, elite in (0, 1] and deviation > 0; got {config.generations}, "
                f"{config.elite} and {config.deviation}."
            )
        self.config, self._spec = config, spec

    def plan(self, root: Root, simulate: Simulate, *, edge: int, limit: Limit, random: np.random.Generator) -> Plan:
        config, tried = self.config, _begin(root, simulate, limit, self.config.parallel)
        half = (np.array(self._spec.high) - np.array(self._spec.low)) / 2
        own = root.candidates.chunks[root.candidates.own][:edge]
        mean, spread = own.astype(np.float64), np.broadcast_to(config.deviation * half, own.shape)
        sizes = [len(part) for part in np.array_split(np.arange(limit.simulations), config.generations)]
        for generation, size in enumerate(filter(None, sizes)):
            chunks = self._spec.clip(mean + spread * random.normal(size=(size, *own.shape)))
            if generation == 0:
                chunks[0] = own
            finished = tried.run(self._requests(root, chunks))
            if len(finished) < size:
                break
            order = np.argsort([-result.total for result in finished], kind="stable")
            best = chunks[order[: max(1, round(config.elite * size))]].astype(np.float64)
            mean = config.momentum * mean + (1 - config.momentum) * best.mean(0)
            spread = config.momentum * spread + (1 - config.momentum) * best.std(0)
        return tried.plan(edge)

    def _requests(self, root: Root, chunks: Float32[np.ndarray, "n m a"]) -> list[Request]:
        return [Request(state=root.state, actions=chunk, left=root.left, seed=root.seed) for chunk in chunks]
