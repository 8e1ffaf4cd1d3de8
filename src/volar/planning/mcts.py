"""Monte Carlo tree search over chunks with PUCT: functions over a tree (VLAPS, arXiv 2508.12211; V-VLAPS, 2601.00969).

Knows neither policies nor simulators. Nodes are states, found again by their exact hash; edges are candidates, and a
prior belongs to a candidate's id, whatever the order of expansion (the published code mixed the two up).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import ActionSpec
from volar.planning.planner import (
    Candidates,
    Expired,
    Limit,
    Plan,
    Planner,
    Request,
    Root,
    Simulate,
    Simulated,
    Spent,
    Way,
    fall_back,
)
from volar.planning.value import SCALES, scaled


@dataclass
class Edge:
    """One expanded candidate. child: key of the state behind it. total: sum of the returns from the edge's beginning
    over `visits`. pending: simulations under way through it, counted as visits that returned nothing (virtual loss).
    """

    child: str
    actions: Float32[np.ndarray, "m a"]
    reward: float
    discount: float
    estimate: float | None
    visits: int = 0
    total: float = 0.0
    pending: int = 0

    @property
    def mean(self) -> float:
        return self.total / self.visits if self.visits else 0.0


@dataclass
class Node:
    """candidates: None until the first simulation that sets out from here brings them. value: return that its own
    simulation estimated from here. over: the episode is. expanding: candidates whose first simulation is under way.
    """

    key: str
    state: bytes
    value: float
    over: bool = False
    candidates: Candidates | None = None
    visits: int = 0
    edges: dict[int, Edge] = field(default_factory=dict)
    expanding: set[int] = field(default_factory=set)


@dataclass
class Tree:
    """Grown by `search`. nodes: by the exact hash of their states."""

    root: Node
    nodes: dict[str, Node]

    @classmethod
    def at(cls, root: Root) -> "Tree":
        node = Node(root.key, root.state, 0.0, candidates=root.candidates)
        return cls(node, {root.key: node})

    def moved_to(self, root: Root) -> "Tree":
        """What lies behind `root`'s state, if the search has met exactly this state; else a fresh tree."""
        known = self.nodes.get(root.key)
        if known is None or known.candidates is None:
            return Tree.at(root)
        kept: dict[str, Node] = {}
        waiting = [known]
        while waiting:
            node = waiting.pop()
            if node.key not in kept:
                kept[node.key] = node
                waiting += [self.nodes[edge.child] for edge in node.edges.values()]
        return Tree(known, kept)

    def ways(self) -> dict[str, Way]:
        """To every node, by key."""
        found = {
            edge.child: Way(state=node.state, actions=edge.actions)
            for node in self.nodes.values()
            for edge in node.edges.values()
        }
        return {**found, self.root.key: Way(state=self.root.state, actions=np.zeros((0, 0), np.float32))}

    def to_json(self) -> dict[str, Any]:
        """Plain values, the same for the same search: what golden files and pictures are made of."""
        return {"root": self.root.key, "nodes": {key: _node_json(node) for key, node in self.nodes.items()}}


def _node_json(node: Node) -> dict[str, Any]:
    edges = {
        str(number): {
            "child": edge.child, "visits": edge.visits, "mean": edge.mean, "reward": edge.reward,
            "discount": edge.discount, "estimate": edge.estimate,
        }
        for number, edge in sorted(node.edges.items())
    }  # fmt: skip
    prior = None if node.candidates is None else node.candidates.prior.tolist()
    return {"visits": node.visits, "value": node.value, "over": node.over, "prior": prior, "edges": edges}


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """exploration: PUCT's constant. depth: most edges from the root. parallel: leaves that are simulated at once.

    widening, widening_power: at most ceil(widening * visits ** widening_power) candidates of a node are open, those of
    the highest priors first; widening 0 opens all of them before any is tried twice, as published.
    rollout_weight, value_weight: of the mean return and of the learned value in an edge's score. value_scale: raw,
    min_max or z_score among siblings. stop_at_success: end the search at the first simulated success.
    """

    exploration: float = 1.4
    depth: int = 80
    parallel: int = 1
    widening: float = 0.0
    widening_power: float = 0.5
    rollout_weight: float = 1.0
    value_weight: float = 0.0
    value_scale: str = "raw"
    stop_at_success: bool = True

    def __post_init__(self) -> None:
        if self.value_scale not in SCALES:
            raise unknown_name("value scale", self.value_scale, SCALES)
        if self.depth < 1 or self.parallel < 1 or self.widening < 0 or self.exploration < 0:
            raise ConfigError(
                f"A search needs depth >= 1, parallel >= 1, widening >= 0 and exploration >= 0; got {self.depth}, "
                f"{self.parallel}, {self.widening} and {self.exploration}."
            )


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to. The tree has grown in place. solution: actions from the root to the first simulated
    success; None without one, and `first` the root's candidate with which it begins."""

    spent: Spent
    solution: Float32[np.ndarray, "_ a"] | None = None
    first: int | None = None


@dataclass(frozen=True)
class _Path:
    """From the root: (node, candidate) pairs that were chosen. expands: the last one is new; where the
    candidates are not known yet, it is -1 for the first of them by prior, -2 for the second, and so on."""

    steps: tuple[tuple[Node, int], ...]
    expands: bool

    def actions(self) -> list[np.ndarray]:
        """Of the edges that exist already."""
        known = self.steps[:-1] if self.expands else self.steps
        return [node.edges[number].actions for node, number in known]


def search(
    tree: Tree, simulate: Simulate, *, config: SearchConfig, edge: int, left: int, limit: Limit, seed: int
) -> Found:
    """Spend `limit` on growing `tree`. left: control steps until the episode's time-out.

    A simulation is one descent: it ends in one new edge, or at a state where the episode is over, which costs no
    simulator step. Raises EpisodeError for values that are not finite.
    """
    expired, spent = limit.starting(), Spent()
    while spent.simulations < limit.simulations and not expired():
        paths = _select(tree, config, left, min(config.parallel, limit.simulations - spent.simulations))
        if not paths:
            break  # the episode is over at the root
        results = _simulate(paths, simulate, expired, config=config, edge=edge, left=left, seed=seed)
        spent = spent.plus([result for result in results if result is not None])
        spent = replace(spent, simulations=spent.simulations + sum(result is None for result in results))
        winner = None
        for path, result in zip(paths, results, strict=True):
            _settle(tree, path, result)
            if winner is None and result is not None and result.finished and result.solution is not None:
                winner = Found(
                    spent=spent,
                    solution=np.concatenate([*path.actions()[: len(path.steps) - 1], result.solution]),
                    first=path.steps[0][1],
                )
        if winner is not None and config.stop_at_success:
            return winner
        if any(result is not None and not result.finished for result in results):
            break
    return Found(spent=spent)


def _select(tree: Tree, config: SearchConfig, left: int, most: int) -> list[_Path]:
    """Up to `most` descents, each seeing the pending ones before it; fewer where nothing else can be opened."""
    paths: list[_Path] = []
    for _ in range(most):
        path = _descend(tree, config, left)
        if path is None:
            break
        for node, number in path.steps:
            node.visits += 1
            if number in node.edges:
                node.edges[number].pending += 1
            else:
                node.expanding.add(number)
        paths.append(path)
    return paths


def _descend(tree: Tree, config: SearchConfig, left: int) -> _Path | None:
    node, steps = tree.root, []
    assert node.candidates is not None
    usual = len(node.candidates)
    while not node.over and len(steps) < config.depth and left > 0:
        if (new := _to_open(node, config, usual)) is not None:
            return _Path((*steps, (node, new)), expands=True)
        if not node.edges:
            return None  # all that may be open is under way
        number = max(sorted(node.edges), key=scores(node, config).__getitem__)
        steps.append((node, number))
        left -= len(node.edges[number].actions)
        node = tree.nodes[node.edges[number].child]
    return _Path(tuple(steps), expands=False) if steps else None


def _to_open(node: Node, config: SearchConfig, usual: int) -> int | None:
    """The candidate of the highest prior that is not open yet, if another one may be. usual: as many candidates are
    taken to be at a node where they are not known."""
    if node.candidates is None:
        return -1 - len(node.expanding) if len(node.expanding) < usual else None
    count, prior = len(node.candidates), node.candidates.prior
    allowed = count
    if config.widening:
        allowed = min(count, max(1, math.ceil(config.widening * max(1, node.visits) ** config.widening_power)))
    if len(node.edges) + len(node.expanding) >= allowed:
        return None
    closed = [number for number in range(count) if number not in node.edges and number not in node.expanding]
    return max(closed, key=lambda number: (prior[number], -number)) if closed else None


def scores(node: Node, config: SearchConfig) -> dict[int, float]:
    """PUCT score of every open candidate: weighted mean return and learned value, plus the exploration bonus
    exploration * prior[candidate] * sqrt(visits of the node) / (1 + visits of the edge)."""
    assert node.candidates is not None
    numbers = sorted(node.edges)
    estimates = [node.edges[number].estimate for number in numbers]
    learned = np.zeros(len(numbers))
    if config.value_weight:
        known = np.array([math.nan if each is None else each for each in estimates])
        # An edge on which the episode ended needs no guess: what it brought is known.
        exact = [node.edges[number].reward for number in numbers]
        learned = scaled(np.where(np.isnan(known), exact, known), config.value_scale)
    found = {}
    for number, value in zip(numbers, learned, strict=True):
        edge = node.edges[number]
        visits = edge.visits + edge.pending
        mean = edge.total / visits if visits else 0.0
        bonus = config.exploration * node.candidates.prior[number] * math.sqrt(node.visits) / (1 + visits)
        found[number] = float(config.rollout_weight * mean + config.value_weight * value + bonus)
    return found


def _simulate(
    paths: Sequence[_Path],
    simulate: Simulate,
    expired: Expired,
    *,
    config: SearchConfig,
    edge: int,
    left: int,
    seed: int,
) -> list[Simulated | None]:
    """One result per path; None for those that end where nothing is left to simulate."""
    requests = {}
    for place, path in enumerate(paths):
        if path.expands:
            node, number = path.steps[-1]
            rest = left - sum(map(len, path.actions()))
            known = None if node.candidates is None else node.candidates.chunks[number][:edge]
            rank = -1 - number if known is None else None
            requests[place] = Request(state=node.state, actions=known, left=rest, seed=seed, rank=rank)
    results: list[Simulated | None] = [None] * len(paths)
    for place, result in zip(requests, simulate(list(requests.values()), expired) if requests else [], strict=True):
        results[place] = result
        if config.value_weight and result.finished and not result.over and result.estimate is None:
            raise ConfigError("value_weight is set, but no value function was given that could estimate a state.")
    return results


def _settle(tree: Tree, path: _Path, result: Simulated | None) -> None:
    """Take back what was pending; hang in the new edge; back the return up to the root."""
    for node, number in path.steps:
        if number in node.expanding:
            node.expanding.discard(number)
        else:
            node.edges[number].pending -= 1
    if result is not None and not result.finished:
        for node, _ in path.steps:
            node.visits -= 1
        return
    node, number = path.steps[-1]
    if result is not None:
        if result.candidates is not None:
            node.candidates, number = result.candidates, result.candidates.ranked(-1 - number)
        new = Edge(result.key, result.actions, result.reward, result.discount, result.estimate)
        node.edges.setdefault(number, new)
        if result.key not in tree.nodes:
            tree.nodes[result.key] = Node(result.key, result.state, result.value, over=result.over)
    value = tree.nodes[node.edges[number].child].value if result is None else result.value
    for parent, chosen in reversed((*path.steps[:-1], (node, number))):
        edge = parent.edges[chosen]
        value = edge.reward + edge.discount * value
        edge.total += value
        edge.visits += 1


def choose(visits: Float64[np.ndarray, " k"], *, temperature: float, random: np.random.Generator) -> int:
    """A row drawn with visits ** (1 / temperature); 0: the most visited, the first of equals."""
    if temperature == 0:
        return int(visits.argmax())
    weights = (visits / visits.max()) ** (1 / temperature)
    return int(random.choice(len(visits), p=weights / weights.sum()))


class TreeSearch(Planner):
    """The search as a planner. The tree is kept where the next decision begins at a state that the search has met."""

    @dataclass(frozen=True, kw_only=True)
    class Config(SearchConfig):
        """temperature: of the choice among the root's visits, as published; 0 takes the most visited."""

        temperature: float = 1.0
        keep_tree: bool = True

    def __init__(self, config: Config, *, spec: ActionSpec) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        self._tree: Tree | None = None

    def plan(self, root: Root, simulate: Simulate, *, edge: int, limit: Limit, random: np.random.Generator) -> Plan:
        kept = self._tree if self.config.keep_tree else None
        tree = self._tree = Tree.at(root) if kept is None else kept.moved_to(root)
        found = search(
            tree, simulate, config=self.config, edge=edge, left=root.left, limit=limit, seed=root.seed
        )  # fmt: skip
        edges = tree.root.edges
        if not edges:
            return fall_back(root, edge, "the budget ended before one simulation was finished", found.spent)
        numbers = sorted(edges)
        visits = np.array([edges[number].visits for number in numbers])
        values = np.array([edges[number].mean for number in numbers])
        if found.first is not None:
            chosen = numbers.index(found.first)
        else:
            chosen = choose(visits.astype(np.float64), temperature=self.config.temperature, random=random)
        return Plan(
            actions=edges[numbers[chosen]].actions,
            spent=found.spent,
            solution=found.solution,
            chunks=tree.root.candidates.chunks[numbers] if tree.root.candidates is not None else None,
            visits=visits,
            values=values,
            chosen=chosen,
            tree=tree.to_json(),
            ways=tree.ways(),
        )
