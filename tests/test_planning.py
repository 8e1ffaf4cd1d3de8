"""Planning: exact on tiny problems, equal to what it was (golden trees), honest about what it used."""

import itertools
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from planning_simulators import Wrong, make_simulator, mortal_simulator

from volar.cli import main
from volar.comparison.ledger import ledger_of
from volar.core.errors import ConfigError, EpisodeError
from volar.core.model import UNLIMITED, Budget, Sample
from volar.core.registry import build_config
from volar.core.robot import Actor, BatchActor, Chunk, Env, Job, Observation, Outcome
from volar.decoders import TABLE as DECODERS
from volar.envs import make_env
from volar.envs.perturbation.world import PerturbableWorld
from volar.envs.rollout import run_episode
from volar.evaluation.records import read
from volar.planning import TABLE, value
from volar.planning.actor import Decision, PlanningActor
from volar.planning.compose import (
    Committee,
    best_constant_weight,
    by_strangeness,
    by_vote,
    combined,
    conjunction,
    mixed_log_probabilities,
    search_weights,
    solve_combined,
    weight_grid,
)
from volar.planning.library import ChunkLibrary, chunks_of, fit_library, k_medoids
from volar.planning.mcts import SearchConfig, Tree, choose, scores, search
from volar.planning.mismatch import DynamicsError, WrongActions, with_error
from volar.planning.planner import Candidates, Limit, Request, Root, Simulated
from volar.planning.proposals import around_policy, from_library, from_policy, own_chunk
from volar.planning.simulation import SimulationConfig, Simulator, require_exact_restore, state_key
from volar.planning.workers import SimulatorPool

GOLDEN = Path(__file__).parent / "golden" / "search_trees.json"


class Maze:
    """A tree of `depth` levels with `n` branches and a reward on every edge: small enough to try everything."""

    def __init__(self, depth: int, n: int, seed: int, *, discount: float = 0.9, shuffle: bool = False) -> None:
        self.depth, self.n, self.discount = depth, n, discount
        self.random = np.random.default_rng(seed)
        self.rewards = {p: self.random.uniform() for p in self._paths()}
        self.order = {p: self.random.permutation(n) if shuffle else np.arange(n) for p in ((), *self._paths())}
        self.asked = 0

    def _paths(self) -> list[tuple[int, ...]]:
        paths: list[tuple[int, ...]] = [()]
        for path in paths:
            if len(path) < self.depth:
                paths += [(*path, branch) for branch in range(self.n)]
        return paths[1:]

    def candidates(self, path: tuple[int, ...]) -> Candidates:
        """Branch i moves by i; the order in which the branches are listed may be anything, priors fall with i."""
        order = self.order[path]
        prior = (0.5 ** np.arange(self.n))[order]
        return Candidates(chunks=order.astype(np.float32)[:, None, None], prior=prior / prior.sum())

    def root(self) -> Root:
        return Root(state=b"", key=state_key(b""), candidates=self.candidates(()), left=self.depth)

    def simulate(self, requests, expired) -> list[Simulated]:
        return [self._simulate(request) for request in requests]

    def _simulate(self, request: Request) -> Simulated:
        self.asked += 1
        proposed = self.candidates(tuple(request.state)) if request.rank is not None else None
        actions = request.actions if proposed is None else proposed.chunks[proposed.ranked(request.rank)]
        path = (*request.state, int(actions[0, 0]))
        over, state = len(path) == self.depth, bytes(path)
        return Simulated(
            state=state, key=state_key(state), actions=actions, reward=self.rewards[path], value=0.0,
            discount=0.0 if over else self.discount, candidates=proposed, steps=1,
        )  # fmt: skip

    def best(self, path: tuple[int, ...] = ()) -> tuple[float, int]:
        """By brute force: the best return from `path`, and the branch to take."""
        if len(path) == self.depth:
            return 0.0, -1
        totals = [
            self.rewards[*path, b] + self.discount * self.best((*path, b))[0] * (len(path) + 1 < self.depth)
            for b in range(self.n)
        ]
        return max(totals), int(np.argmax(totals))


def run_search(maze: Maze, simulations: int, **options) -> Tree:
    tree = Tree.at(maze.root())
    search(tree, maze.simulate, config=SearchConfig(**options), edge=1, left=maze.depth,
           limit=Limit(simulations=simulations), seed=0)  # fmt: skip
    return tree


def most_visited(tree: Tree) -> int:
    """The action (not the id) that was tried most."""
    number = max(tree.root.edges, key=lambda each: tree.root.edges[each].visits)
    return int(tree.root.edges[number].actions[0, 0])


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_search_finds_what_brute_force_finds(seed, parallel):
    maze = Maze(depth=3, n=2, seed=seed)
    tree = run_search(maze, 500, exploration=2.0, parallel=parallel)
    value, branch = maze.best()
    assert most_visited(tree) == branch
    assert tree.root.edges[branch].mean == pytest.approx(value, abs=0.2), "its mean is on the way to the best return"

    def best_in(key: str) -> float:
        edges = tree.nodes[key].edges.values()
        return max((edge.reward + edge.discount * best_in(edge.child) for edge in edges), default=0.0)

    assert best_in(tree.root.key) == pytest.approx(value), "and the best line through the tree is the best there is"
    assert maze.asked == 2 + 4 + 8, "every edge is simulated once; what is over costs nothing more"


def test_returns_are_backed_up_exactly():
    """With one branch the tree is a line, and its returns can be written down."""
    maze = Maze(depth=4, n=1, seed=0)
    tree = run_search(maze, 4)
    r = [maze.rewards[(0,) * k] for k in range(1, 5)]
    g = maze.discount
    # Simulation k reaches depth k; its return from the root is the discounted sum of the first k rewards.
    wanted = np.mean([sum(g**i * r[i] for i in range(k)) for k in range(1, 5)])
    assert tree.root.edges[0].visits == 4 and tree.root.edges[0].mean == pytest.approx(wanted)


def test_visits_add_up_and_nothing_stays_pending():
    tree = run_search(Maze(depth=4, n=3, seed=3), 150, parallel=5)
    assert tree.root.visits == 150
    for node in tree.nodes.values():
        assert node.visits == sum(edge.visits for edge in node.edges.values())
        assert not node.expanding and all(edge.pending == 0 for edge in node.edges.values())


def test_priors_belong_to_candidates_and_not_to_the_order_of_expansion():
    """The published code zipped priors with children in the order in which these were expanded. Listed in another
    order, the same branches with the same priors must grow the same tree."""
    straight, shuffled = Maze(depth=3, n=4, seed=5), Maze(depth=3, n=4, seed=5, shuffle=True)
    trees = [run_search(maze, 120) for maze in (straight, shuffled)]
    visits = [
        {
            (key, int(edge.actions[0, 0])): edge.visits
            for key, node in tree.nodes.items()
            for edge in node.edges.values()
        }
        for tree in trees
    ]
    assert visits[0] == visits[1]


def test_puct_by_hand():
    tree = run_search(Maze(depth=2, n=3, seed=1), 3, exploration=2.0)
    node = tree.root
    wanted = {
        i: node.edges[i].mean + 2.0 * node.candidates.prior[i] * np.sqrt(3) / (1 + node.edges[i].visits)
        for i in range(3)
    }
    assert scores(node, SearchConfig(exploration=2.0)) == pytest.approx(wanted)


def test_widening_opens_candidates_by_and_by():
    tree = run_search(Maze(depth=3, n=4, seed=2), 4, widening=1.0, widening_power=0.5)
    assert len(tree.root.edges) == 2, "ceil(sqrt(4)) of four"
    assert set(tree.root.edges) == {0, 1}, "the highest priors first"
    assert len(run_search(Maze(depth=3, n=4, seed=2), 16, widening=1.0).root.edges) == 4


def test_virtual_loss_spreads_what_is_simulated_at_once():
    maze = Maze(depth=3, n=4, seed=0)
    seen = []

    def simulate(requests, expired):
        seen.append([(request.state, str(request.actions), request.rank) for request in requests])
        return maze.simulate(requests, expired)

    tree = Tree.at(maze.root())
    search(tree, simulate, config=SearchConfig(parallel=4), edge=1, left=3, limit=Limit(simulations=12), seed=0)
    assert [len(batch) for batch in seen] == [4, 4, 4]
    assert all(len(set(batch)) == len(batch) for batch in seen), "no leaf twice at once"
    assert len({each[0] for each in seen[1]}) > 1, "and not all below one branch"


def test_golden_trees():
    """Regenerate: delete the file and run this test; then read the difference."""
    trees = {
        name: run_search(Maze(depth=3, n=3, seed=7), 25, **options).to_json()
        for name, options in {
            "published": {},
            "parallel": {"parallel": 3},
            "widening": {"widening": 1.0},
        }.items()
    }
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(trees, indent=1))
    golden = json.loads(GOLDEN.read_text())
    assert trees.keys() == golden.keys()
    for name, tree in trees.items():
        assert tree["nodes"].keys() == golden[name]["nodes"].keys(), name
        for key, node in tree["nodes"].items():
            expected = golden[name]["nodes"][key]
            assert node["visits"] == expected["visits"] and node["edges"].keys() == expected["edges"].keys()
            for number, edge in node["edges"].items():
                assert edge == pytest.approx(expected["edges"][number])


def test_choice_by_visits():
    visits, random = np.array([1.0, 3.0, 0.0, 3.0]), np.random.default_rng(0)
    assert choose(visits, temperature=0.0, random=random) == 1
    drawn = np.bincount([choose(visits, temperature=1.0, random=random) for _ in range(7000)], minlength=4) / 7000
    np.testing.assert_allclose(drawn, visits / 7, atol=0.02)


# ---- in a simulator -------------------------------------------------------------------------------------------------


def planning_actor(planner: str = "tree_search", *, policy: Actor | None = None, propose=None, simulations: int = 40,
                   limit: Limit | None = None, options=None, config=None, **more) -> PlanningActor:  # fmt: skip
    spec = make_env("toy/reach-red").spec.action
    cls = TABLE.load(planner)
    return PlanningActor(
        policy or Wrong(spread=0.8),
        cls(build_config(cls, options or {}), spec=spec),
        propose or partial(around_policy, spec=spec, num=8, deviation=0.8),
        config=config or SimulationConfig(edge=2, rollout=16),
        limit=limit or Limit(simulations=simulations),
        max_steps=20,
        **more,
    )


def job(seed: int = 0) -> Job:
    return Job(task="toy/reach-red", seed=seed, arm="x", max_steps=20)


def successes(planner: str, episodes: int = 5) -> int:
    """Open loop, since a found success then ends the episode's searches."""
    env = make_env("toy/reach-red")
    actor = planning_actor(planner, simulations=20, follow="open_loop", config=SimulationConfig(edge=3, rollout=8))
    return sum(bool(run_episode(env, actor, job(seed)).success) for seed in range(episodes))


@pytest.mark.parametrize("planner", sorted(set(TABLE) - {"policy_alone"}))
def test_planning_helps_a_bad_policy(planner):
    alone, planned = successes("policy_alone"), successes(planner)
    assert alone <= 1 and planned >= alone + 2, (alone, planned)


@pytest.mark.parametrize("planner", TABLE)
def test_the_same_seed_plans_the_same_and_the_world_is_left_alone(planner):
    env = make_env("toy/reach-red")
    first, second = (run_episode(env, planning_actor(planner, simulations=12), job(3)) for _ in range(2))
    assert first.outcome is second.outcome and first.steps == second.steps
    np.testing.assert_array_equal(first.trajectory.executed, second.trajectory.executed)
    assert first.simulator_steps == second.simulator_steps
    # Carried out without any planner, the recorded actions give the same course: the search left no trace.
    env.reset(3)
    for action, seen in zip(first.trajectory.executed, first.trajectory.proprioception, strict=True):
        np.testing.assert_array_equal(env.observe(images=False).proprioception, seen)
        env.step(action)


@pytest.mark.parametrize("planner", sorted(set(TABLE) - {"policy_alone"}))
def test_no_planner_spends_more_than_the_others(planner):
    decisions: list[Decision] = []
    actor = planning_actor(planner, policy=Wrong((0.0, 0.0)), simulations=9, journal=decisions.append,
                           propose=own_chunk if planner != "tree_search" else None)  # fmt: skip
    env = make_env("toy/reach-red")
    episode = run_episode(env, actor, job(1))
    assert decisions and all(decision.plan.spent.simulations <= 9 for decision in decisions)
    assert any(decision.plan.spent.simulations == 9 for decision in decisions)
    assert episode.simulator_steps == sum(decision.plan.spent.steps for decision in decisions) > 0
    assert all(decision.plan.spent.checks == decision.plan.spent.steps for decision in decisions)
    assert any("success flag" in word for word in episode.privileged)
    json.dumps([decision.to_json(tree=True) for decision in decisions], allow_nan=False)


def test_open_loop_executes_exactly_what_succeeded_in_the_simulator():
    decisions: list[Decision] = []
    actor = planning_actor(follow="open_loop", simulations=30, journal=decisions.append)
    episode = run_episode(make_env("toy/reach-red"), actor, job(2))
    found = next(d for d in decisions if d.plan.solution is not None)
    assert episode.outcome is Outcome.SUCCESS and found is decisions[-1]
    np.testing.assert_array_equal(episode.trajectory.executed[found.step :], found.plan.solution)
    assert episode.steps == found.step + len(found.plan.solution)


def test_the_tree_is_kept_between_decisions():
    spent = {}
    for keep in (True, False):
        decisions: list[Decision] = []
        options = {"keep_tree": keep, "temperature": 0.0}
        actor = planning_actor(policy=Wrong((0.0, 0.0)), options=options, simulations=30, journal=decisions.append,
                               config=SimulationConfig(edge=1, rollout=0))  # fmt: skip
        run_episode(make_env("toy/reach-red"), actor, replace(job(4), max_steps=2))
        spent[keep] = decisions[1].plan.visits.sum()
    assert spent[True] > spent[False] == 30


def test_a_success_that_comes_too_late_is_not_found():
    """The policy needs about five steps to the disc; with three left there is nothing to find."""
    env = make_env("toy/reach-red")
    env.reset(0)
    state = env.save()
    for left, wanted in ((20, True), (3, False)):
        simulator = Simulator(env, env.expert(), own_chunk, config=SimulationConfig(edge=1))
        simulator.begin("reach the red disc")
        candidates = simulator.candidates(state, env.observe())
        request = Request(state=state, actions=candidates.chunks[0], left=left)
        (result,) = simulator([request], lambda: False)
        assert (result.solution is not None) is wanted and result.steps <= left


def test_discounted_return_of_a_success_is_that_of_the_value_targets():
    from volar.planning.value import returns

    env = make_env("toy/reach-red")
    env.reset(0)
    simulator = Simulator(env, env.expert(), own_chunk, config=SimulationConfig(edge=1, discount=0.9))
    simulator.begin("reach the red disc")
    state = env.save()
    own = simulator.candidates(state, env.observe()).chunks[0]
    (result,) = simulator([Request(state=state, actions=own, left=50)], lambda: False)
    assert result.total == pytest.approx(returns(len(result.solution), success=True, discount=0.9)[0])


# ---- refusals and limits --------------------------------------------------------------------------------------------


class Batched(BatchActor):
    """Goes where it stands from, faster the farther, or `away` from every disc; counts how often its network runs."""

    uses_images = False

    def __init__(self, *, away: bool = False) -> None:
        self.calls, self.away = 0, away

    def reset(self, seed: int) -> None:
        pass

    def act_many(self, rows, observations) -> list[Chunk]:
        self.calls += 1
        ways = [np.zeros(2) if self.away else 0.3 + seen.proprioception for seen in observations]
        chunks = [np.tile(way, (4, 1)).astype(np.float32) for way in ways]
        return [Chunk(actions=chunk, execute=2, evaluations=3) for chunk in chunks]


class Forgetful(type(make_env("toy/reach-red"))):
    """Saves where everything is, but not a hidden wind that changes at every step."""

    wind = 0.0

    def step(self, action):
        self.wind += 0.01
        return super().step(action + np.float32(self.wind))


def test_a_world_that_does_not_replay_is_refused():
    env = Forgetful("reach-red")
    env.reset(0)
    with pytest.raises(ConfigError, match=r"does not replay exactly.*step 1 of 4"):
        require_exact_restore(env)
    with pytest.raises(ConfigError, match="does not replay exactly"):
        run_episode(env, planning_actor(), job())


class Robot(Env):
    """Cannot be put back, as the real world cannot."""

    def __init__(self) -> None:
        self.inner = make_env("toy/reach-red")

    @property
    def spec(self):
        return self.inner.spec

    def reset(self, seed: int) -> None:
        self.inner.reset(seed)

    def observe(self, *, images: bool = True) -> Observation:
        return self.inner.observe(images=images)

    def step(self, action):
        return self.inner.step(action)

    def close(self) -> None:
        pass


def test_a_world_without_restore_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match="Robot cannot save and restore"):
        run_episode(Robot(), planning_actor(), job())


@pytest.mark.parametrize("limit", [Limit(simulations=0), Limit(simulations=5, seconds=0.0)])
@pytest.mark.parametrize("planner", sorted(set(TABLE) - {"policy_alone"}))
def test_a_budget_below_one_simulation_leaves_the_policy_and_says_so(planner, limit):
    decisions: list[Decision] = []
    actor = planning_actor(planner, policy=Wrong(), limit=limit, journal=decisions.append)
    with pytest.warns(UserWarning, match="The policy decided alone"):
        episode = run_episode(make_env("toy/reach-red"), actor, replace(job(), max_steps=2))
    np.testing.assert_array_equal(episode.trajectory.executed[0], [1.0, 0.0])
    assert "one simulation" in decisions[0].plan.fallback


@pytest.mark.parametrize("parallel", [1, 4])
def test_time_is_overshot_by_one_edge_at_most(parallel):
    """Also when several leaves share the time, each with edges of its own under way."""
    now = {"time": 0.0}

    class Slow(type(make_env("toy/reach-red"))):
        def step(self, action):
            now["time"] += 1.0
            return super().step(action)

    limit = Limit(simulations=10**6, seconds=50.0, clock=lambda: now["time"])
    actor = planning_actor(limit=limit, policy=Batched(away=True), options={"parallel": parallel},
                           propose=partial(around_policy, spec=Slow("reach-red").spec.action, num=3, deviation=0.01),
                           config=SimulationConfig(edge=3, rollout=12))  # fmt: skip
    env = Slow("reach-red")
    env.reset(0)
    actor.reset(0)
    actor.bind(env)
    started = now["time"]
    chunk = actor.act(env.observe())
    assert 50 <= now["time"] - started <= 50 + 3
    assert chunk.simulator_steps == now["time"] - started


def test_numbers_that_are_none_are_refused():
    with pytest.raises(EpisodeError, match="finite"):
        Simulated(state=b"", key="", actions=np.zeros((1, 1), np.float32), reward=0.0, discount=1.0, value=np.nan)
    with pytest.raises(ConfigError, match="no candidates"):
        Candidates(chunks=np.zeros((0, 1, 1), np.float32), prior=np.zeros(0))
    with pytest.raises(ConfigError, match="prior"):
        Candidates(chunks=np.zeros((1, 1, 1), np.float32), prior=np.array([np.nan]))
    actor = planning_actor(options={"value_weight": 1.0}, simulations=3)
    with pytest.raises(ConfigError, match="no value function"):
        run_episode(make_env("toy/reach-red"), actor, job())
    actor = planning_actor(value=lambda observation: np.nan, simulations=3)
    episode = run_episode(make_env("toy/reach-red"), actor, job())
    assert episode.outcome is Outcome.ERROR and "finite" in episode.error


def test_draws_of_a_stochastic_policy_are_candidates():
    policy = Wrong(spread=0.5)
    env = make_env("toy/reach-red")
    env.reset(0)
    simulator = Simulator(env, policy, partial(from_policy, num=6), config=SimulationConfig())
    simulator.begin("reach the red disc")
    found = simulator.candidates(env.save(), env.observe(images=False))
    assert len(found) == 6 and found.own == 0
    asked = policy.asked
    again = simulator.candidates(env.save(), env.observe(images=False))
    assert policy.asked == asked, "an exact state that was met before costs no network"
    np.testing.assert_array_equal(found.chunks, again.chunks)
    policy.spread = 0.0
    simulator.begin("reach the red disc")
    assert len(simulator.candidates(env.save(), env.observe(images=False))) == 1


# ---- the world and the planner's simulator --------------------------------------------------------------------------


def test_a_planner_may_plan_in_another_world():
    """With wrong dynamics the found solution is one for another world, and the record says whose dynamics they were."""
    env = make_env("toy/reach-red")
    env.reset(2)
    towards = env.goal_offset / np.abs(env.goal_offset).max()
    found: dict[float, Decision] = {}
    for gain in (1.0, 0.6):
        decisions: list[Decision] = []
        weak = partial(WrongActions, make_env("toy/reach-red"), gain=gain)
        actor = planning_actor(policy=Wrong(towards), simulations=5, follow="open_loop", journal=decisions.append,
                               make_simulator=weak)  # fmt: skip
        episode = run_episode(env, actor, job(2))
        assert episode.outcome is Outcome.SUCCESS and decisions[0].plan.solution is not None
        assert any("dynamics of its own" in word for word in episode.privileged)
        found[gain] = decisions[0]
        assert (episode.steps == len(decisions[0].plan.solution)) is (gain == 1.0)
    # The solution found in the weak world, carried out in the true one, leads elsewhere than it did there.
    weak = WrongActions(make_env("toy/reach-red"), gain=0.6)
    ends = []
    for world in (env, weak):
        world.reset(2)
        for action in found[0.6].plan.solution:
            world.step(action)
        ends.append(world.observe(images=False).proprioception)
    assert np.abs(ends[0] - ends[1]).max() > 0.05


def test_actions_that_come_late():
    """A delay of d control steps: every step gets that share of the action before it, restored states included."""
    env, late = make_env("toy/reach-red"), WrongActions(make_env("toy/reach-red"), delay=0.25)
    sent = np.random.default_rng(0).uniform(-1, 1, (6, 2)).astype(np.float32)
    for world in (env, late):
        world.reset(1)
    late.restore(env.save())
    for number, action in enumerate(sent):
        env.step(0.75 * action + 0.25 * sent[max(0, number - 1)])
        late.step(action)
        if number == 2:
            saved = late.save()
    where = late.observe(images=False).proprioception
    np.testing.assert_allclose(env.observe(images=False).proprioception, where, atol=1e-6)
    late.restore(saved)
    for action in sent[3:]:
        late.step(action)
    np.testing.assert_array_equal(late.observe(images=False).proprioception, where)
    late.reset(1)
    assert require_exact_restore(late) is late


def test_wrong_dynamics_are_checked_and_named():
    assert DynamicsError().none
    assert str(DynamicsError(gain=1.1, delay=0.2)) == "actions times 1.1, actions 0.2 steps late"
    for wrong in ({"gain": 0.0}, {"mass": -1.0}, {"delay": 1.5}, {"friction": float("nan")}):
        with pytest.raises(ConfigError, match="positive factors"):
            DynamicsError(**wrong)
    state = make_env("tabletop-state/push").unwrapped
    heavy = with_error(make_env("tabletop-state/push"), DynamicsError(mass=2.0, friction=0.5)).unwrapped
    assert isinstance(state, PerturbableWorld) and isinstance(heavy, PerturbableWorld)
    np.testing.assert_allclose(heavy.model.body_mass, 2 * state.model.body_mass)
    np.testing.assert_allclose(heavy.model.geom_friction[:, 0], 0.5 * state.model.geom_friction[:, 0])
    with pytest.raises(ConfigError, match="Toy has no MuJoCo model"):
        with_error(make_env("toy/reach-red"), DynamicsError(mass=1.1))


def test_simulations_at_once_come_out_as_one_by_one():
    """Leaves share one environment and one call of the network; nothing of the one may leak into the other."""
    env = make_env("toy/reach-red")
    env.reset(0)
    state, starts = env.save(), np.random.default_rng(0).uniform(-1, 1, (6, 2, 2)).astype(np.float32)
    requests = [Request(state=state, actions=start, left=6 + 3 * number) for number, start in enumerate(starts)]
    requests += [Request(state=state, actions=None, left=9, rank=1), Request(state=state, actions=None, left=9)]
    propose = partial(around_policy, spec=env.spec.action, num=3)
    brought, calls = [], []
    for size in (1, len(requests)):
        policy = Batched()
        simulator = Simulator(env, policy, propose, config=SimulationConfig(edge=2, rollout=30))
        simulator.begin("reach the red disc")
        parts = [simulator(requests[at : at + size], lambda: False) for at in range(0, len(requests), size)]
        brought.append([result for part in parts for result in part])
        calls.append(policy.calls)
    for alone, together in zip(*brought, strict=True):
        assert alone.key == together.key and alone.total == together.total and alone.steps == together.steps
        assert (alone.solution is None) is (together.solution is None)
        assert (alone.candidates is None) is (together.candidates is None)
    assert calls[1] < calls[0] / 3
    assert {sum(result.evaluations for result in results) for results in brought} == {3 * calls[0]}, "each counted once"


def test_workers_simulate_the_same_and_their_death_costs_no_result(tmp_path):
    env = make_env("toy/reach-red")
    env.reset(0)
    state, words = env.save(), env.observe(images=False).instruction
    requests = [Request(state=state, actions=None, left=12, seed=seed, rank=seed % 2) for seed in range(6)]
    here = make_simulator()
    here.begin(words)
    expected = here(requests, lambda: False)
    with SimulatorPool(partial(mortal_simulator, tmp_path), 2) as pool:
        results = pool(requests, lambda: False, instruction=words)
        late = pool(requests, lambda: True, instruction=words)
    for result, wanted in zip(results, expected, strict=True):
        assert result.key == wanted.key and result.total == wanted.total and result.steps == wanted.steps
    assert not all(result.finished for result in late) and all(result.steps <= 12 for result in late)
    assert (tmp_path / "died").exists()


def test_a_worker_killed_in_the_middle_of_a_search_changes_nothing(tmp_path):
    """Its simulations are done again: the same tree as without a pool, node by node."""
    decisions: list[Decision] = []
    with SimulatorPool(partial(mortal_simulator, tmp_path), 2) as pool:
        for helpers in (None, pool):
            actor = planning_actor(policy=Wrong(spread=0.5), propose=partial(from_policy, num=3), simulations=12,
                                   config=SimulationConfig(edge=2, rollout=10), pool=helpers,
                                   options={"parallel": 4, "stop_at_success": False},
                                   journal=decisions.append)  # fmt: skip
            run_episode(make_env("toy/reach-red"), actor, replace(job(), max_steps=2))
    here, there = (decision.plan.tree for decision in decisions)
    assert (tmp_path / "died").exists()
    assert here == there and len(here["nodes"]) > 4


# ---- library and proposals ------------------------------------------------------------------------------------------


def test_k_medoids_equals_brute_force_on_clear_clusters():
    random = np.random.default_rng(0)
    points = np.concatenate([centre + 0.1 * random.normal(size=(6, 3)) for centre in (0.0, 5.0, -7.0)])
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    best = min(itertools.combinations(range(len(points)), 3), key=lambda rows: apart[:, list(rows)].min(1).sum())
    assert tuple(k_medoids(points, 3, seed=0)) == best


def test_library_measures_in_one_normalised_space(tmp_path):
    """Distances do not depend on the unit of an action dimension: the published code compared raw with normalised."""
    random = np.random.default_rng(1)
    chunks = random.uniform(-1, 1, (60, 4, 2)).astype(np.float32)
    unit = np.array([1.0, 1000.0], np.float32)
    library, scaled_up = (fit_library(each, size=20, seed=0) for each in (chunks, chunks * unit))
    np.testing.assert_allclose(scaled_up.chunks, library.chunks * unit, rtol=1e-6)
    own = random.uniform(-1, 1, (4, 2)).astype(np.float32)
    np.testing.assert_allclose(scaled_up.distances(own * unit), library.distances(own), rtol=1e-4)
    np.testing.assert_allclose(library.distances(library.chunks[3])[3], 0.0, atol=1e-6)
    assert all(any(np.array_equal(medoid, chunk) for chunk in chunks) for medoid in library.chunks), "real chunks"
    library.save(tmp_path / "library.npz")
    np.testing.assert_array_equal(ChunkLibrary.load(tmp_path / "library.npz").chunks, library.chunks)
    with pytest.raises(ConfigError, match="2 action dimensions"):
        library.distances(np.zeros((4, 3), np.float32))


def test_candidates_from_a_library():
    library = fit_library(np.random.default_rng(0).uniform(-1, 1, (80, 4, 2)).astype(np.float32), size=40, seed=0)
    own = np.full((4, 2), 0.3, np.float32)
    distances = library.distances(own)
    found = from_library(lambda num: own[None], np.random.default_rng(0), library=library, num=8)
    assert len(found) == 8 and found.own == 0 and len(np.unique(found.chunks, axis=0)) == 8
    np.testing.assert_array_equal(found.chunks[0], own)
    apart = np.array([0.0, *(distances[(library.chunks == chunk).all((1, 2))][0] for chunk in found.chunks[1:])])
    np.testing.assert_allclose(found.prior, np.exp(-5 * apart) / np.exp(-5 * apart).sum())
    counts = np.zeros(40)
    for seed in range(600):
        drawn = from_library(lambda num: own[None], np.random.default_rng(seed), library=library, num=2, nearness=2.0)
        counts += (library.chunks == drawn.chunks[1]).all((1, 2))
    wanted = 0.9 * np.exp(-2 * distances) / np.exp(-2 * distances).sum() + 0.1 / 40
    np.testing.assert_allclose(counts / 600, wanted, atol=0.05)


def test_chunks_come_from_successful_episodes_only():
    env = make_env("toy/reach-red")
    won = run_episode(env, env.expert(), job(0))
    lost = run_episode(env, Wrong((0.0, 0.0)), job(1))
    assert won.success and not lost.success
    chunks = chunks_of([won, lost], horizon=3)
    assert len(chunks) == won.steps // 3
    np.testing.assert_array_equal(chunks[0], won.trajectory.executed[:3])
    with pytest.raises(ConfigError, match="No successful episode"):
        chunks_of([lost], horizon=3)


# ---- values ---------------------------------------------------------------------------------------------------------


def test_value_arithmetic():
    np.testing.assert_allclose(value.returns(3, success=True, discount=0.9), [0.9**3, 0.9**2, 0.9])
    assert not value.returns(3, success=False, discount=0.9).any()
    np.testing.assert_allclose(value.scaled(np.array([2.0, 4.0, 3.0]), "min_max"), [0, 1, 0.5])
    z = value.scaled(np.array([2.0, 4.0, 3.0]), "z_score")
    assert z.mean() == pytest.approx(0) and z.std() == pytest.approx(1)
    assert not value.scaled(np.full(3, 0.1), "z_score").any(), "equal siblings say nothing"
    np.testing.assert_allclose(value.upper_bound(np.array([[0.0, 1.0], [2.0, 1.0]]), weight=2.0), [3.0, 1.0])
    with pytest.raises(ConfigError, match="Did you mean 'min_max'"):
        value.scaled(np.zeros(2), "minmax")


def test_value_targets_are_balanced_and_put_into_bins():
    targets = np.concatenate([np.zeros(90), np.linspace(0.15, 1.0, 10)])
    kept = value.balanced(targets, bins=10, random=np.random.default_rng(0))
    assert (targets[kept] < 0.1).sum() == (targets[kept] >= 0.1).sum() == 10
    grid = np.linspace(0.05, 0.95, 37)
    masses = value.histogram_gauss(grid, bins=51)
    np.testing.assert_allclose(masses.sum(1), 1.0)
    np.testing.assert_allclose(value.expected(masses), grid, atol=0.01)


def test_sibling_ranking_sees_what_a_global_figure_hides():
    """A value that knows only which family a state belongs to ranks well globally and says nothing among siblings."""
    groups = np.repeat(np.arange(4), 3)
    targets = groups + np.tile([0.0, 0.1, 0.2], 4)
    assert value.sibling_ranking(groups.astype(float), targets, groups) == 0.5
    assert value.sibling_ranking(groups.astype(float), targets, np.zeros(12, int)) > 0.85
    assert value.sibling_ranking(targets, targets, groups) == 1.0
    assert value.pairwise_loss(groups.astype(float), targets, groups) == pytest.approx(np.log(2))
    assert value.pairwise_loss(20 * targets, targets, groups) < np.log(2)


def test_an_oracle_value_guides_where_no_flag_is_read():
    def nearer(observation: Observation) -> float:
        return float(-np.abs(observation.proprioception - goal).sum())

    env = make_env("toy/reach-red")
    env.reset(5)
    goal = env.goal_offset + env.observe(images=False).proprioception
    options = {"value_weight": 1.0, "value_scale": "min_max", "exploration": 0.3, "temperature": 0.0}
    decisions: list[Decision] = []
    actor = planning_actor(policy=Wrong((0.0, 0.0)), value=nearer, options=options, journal=decisions.append,
                           simulations=24, config=SimulationConfig(edge=2, rollout=0, oracle=False))  # fmt: skip
    episode = run_episode(env, actor, job(5))
    assert episode.outcome is Outcome.SUCCESS
    assert all(decision.plan.spent.checks == 0 for decision in decisions) and episode.simulator_steps > 0
    assert not any("success flag" in word for word in episode.privileged)
    with pytest.raises(ConfigError, match="value function is needed"):
        Simulator(env, Wrong(), own_chunk, config=SimulationConfig(oracle=False))


# ---- composition ----------------------------------------------------------------------------------------------------


def gaussian_velocity(mean: float, deviation: float = 0.2):
    """The exact flow-matching velocity (data to noise) when the data are Gaussian."""

    def field(chunks: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        t = time.reshape(-1, 1, 1)
        variance = (1 - t) ** 2 * deviation**2 + t**2
        gain = (t - (1 - t) * deviation**2) / variance
        return -mean + gain * (chunks - (1 - t) * mean)

    return field


def flow_solver(steps: int = 50):
    cls = DECODERS.load("flow")
    return cls(build_config(cls, {"steps": steps}), width=4, horizon=3, action_dim=2)


def solved(fields, weights, *, budget: Budget = UNLIMITED) -> Sample:
    generator = torch.Generator().manual_seed(0)
    return solve_combined(
        flow_solver(), fields, weights, rows=400, device=torch.device("cpu"), generator=generator, budget=budget
    )


def test_convex_combination_of_two_flows():
    first, second = gaussian_velocity(-1.0), gaussian_velocity(1.0)
    for share in (0.0, 0.25, 1.0):
        sample = solved([first, second], [1 - share, share])
        assert sample.actions.mean() == pytest.approx(2 * share - 1, abs=0.03)
        assert set(sample.evaluations.tolist()) == {50 if share in (0.0, 1.0) else 100}, "summed over who was asked"
    alone = flow_solver().solve(first, rows=400, device=torch.device("cpu"), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(solved([first, first], [0.3, 0.7]).actions, alone.actions)
    per_dimension = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    means = solved([first, second], per_dimension).actions.mean((0, 1))
    np.testing.assert_allclose(means, [-1, 1], atol=0.05)


def test_a_budget_is_divided_among_the_policies():
    fields = [gaussian_velocity(-1.0), gaussian_velocity(1.0)]
    assert set(solved(fields, [0.5, 0.5], budget=Budget(evaluations=20)).evaluations.tolist()) == {20}
    with pytest.raises(ConfigError, match="too small for 2 policies"):
        solved(fields, [0.5, 0.5], budget=Budget(evaluations=1))


@pytest.mark.parametrize("weights", [[0.5, 0.6], [1.5, -0.5], [1.0], [float("nan"), 1.0]])
def test_weights_that_are_not_convex_are_refused(weights):
    with pytest.raises(ConfigError, match="weights"):
        combined([gaussian_velocity(0.0)] * 2, weights)


def test_conjunction_descends_the_sum_of_energies():
    """Gradients of two parabolas: the joint minimum lies between them, nearer to the stiffer one."""
    field = conjunction([lambda x, t: 1.0 * (x - 0.0), lambda x, t: 3.0 * (x - 1.0)], [1.0, 1.0])
    x, time = torch.zeros(1, 1, 1), torch.zeros(1)
    for _ in range(200):
        x = x - 0.1 * field(x, time)
    assert x.item() == pytest.approx(0.75, abs=1e-4)


def test_mixtures_of_token_distributions():
    first, second = torch.tensor([0.9, 0.1, 0.0]).log(), torch.tensor([0.2, 0.0, 0.8]).log()
    mean = mixed_log_probabilities([first, second], [0.5, 0.5]).exp()
    torch.testing.assert_close(mean, torch.tensor([0.55, 0.05, 0.4]))
    product = mixed_log_probabilities([first, second], [0.5, 0.5], geometric=True).exp()
    torch.testing.assert_close(product, torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(mixed_log_probabilities([first, second], [1.0, 0.0], geometric=True).exp(), first.exp())


def test_the_best_weight_of_independent_errors():
    """The law against simulated errors; it falls to an end where one policy is much worse."""
    random = np.random.default_rng(0)
    errors = random.normal(size=(2, 20_000)) * np.array([[1.0], [2.0]])
    grid = np.linspace(0, 1, 101)
    best = grid[np.argmin([((w * errors[0] + (1 - w) * errors[1]) ** 2).mean() for w in grid])]
    assert best_constant_weight(1.0, 2.0) == pytest.approx(best, abs=0.02)
    assert best_constant_weight(1.0, 1.0) == 0.5 and best_constant_weight(0.0, 1.0) == 1.0


def test_weight_search_counts_what_it_costs():
    grid = weight_grid(2, parts=10)
    assert len(grid) == 9 and all(sum(weights) == pytest.approx(1) for weights in grid)
    assert len(weight_grid(3, parts=5)) == 6
    found = search_weights(lambda weights: np.arange(20) < 20 - 30 * abs(weights[0] - 0.7), grid)
    assert found.weights[0] == pytest.approx(0.7) and found.episodes == 180
    assert max(found.successes) == 20


def test_a_committee_takes_one_whole_chunk():
    """The vote is no average: of two ways round an obstacle and a third voice it takes one way, not the middle."""
    members = [Wrong((-1.0, 0.0)), Wrong((1.0, 0.0)), Wrong((0.9, 0.0))]
    committee = Committee(members, by_vote)
    committee.reset(0)
    chunk = committee.act(make_env("toy/reach-red").observe(images=False))
    np.testing.assert_allclose(chunk.actions[0], [0.9, 0.0], rtol=1e-6)
    assert chunk.evaluations == 3 and not committee.uses_images
    with pytest.raises(ConfigError, match="strangeness"):
        Committee(members, by_strangeness).act(make_env("toy/reach-red").observe(images=False))


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("planned")
    words = ["--episodes", "6", "--storage", "image", "--workers", "0"]
    assert main(["collect", "toy/reach-red", "--out", str(folder / "data"), *words]) == 0
    recipe = str(Path(__file__).parent.parent / "recipes" / "toy.py")
    assert main(["train", recipe, "--data", str(folder / "data"), "--out", str(folder / "run"), "--steps", "10"]) == 0
    return folder


def plan_words(checkpoint: Path, out: Path, *more: str) -> list[str]:
    words = ["plan", str(checkpoint / "run"), "--task", "toy/reach-red", "--out", str(out), "--execute", "2"]
    return [*words, "--episodes", "1", "--max-steps", "6", "--workers", "0", "--json", *more]


def test_plan_writes_records_decisions_and_a_tree(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("volar.core.fingerprint.git_commit", lambda: "somebody may commit while this runs")
    more = ["--planners", "tree_search", "best_of_n", "--simulations", "4", "--proposals", "library",
            "--library", str(checkpoint / "data"), "--library-size", "5",
            "--set", "tree_search.temperature=0.0"]  # fmt: skip
    assert main(plan_words(checkpoint, tmp_path / "plan", *more)) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["episodes_run"] == 3 and set(told["arms"]) == {"policy", "tree_search-4", "best_of_n-4"}
    records = {record.key[0]: record.episode for record in read(tmp_path / "plan" / "episodes.jsonl")}
    assert records["policy"].simulator_steps == 0 and records["policy"].privileged == ()
    assert len({episode.first_observation for episode in records.values()}) == 1, "paired"
    decisions = [json.loads(line) for line in (tmp_path / "plan" / "decisions.jsonl").read_text().splitlines()]
    for arm in ("tree_search-4", "best_of_n-4"):
        rows = [decision for decision in decisions if decision["arm"] == arm]
        assert sum(row["steps"] for row in rows) == records[arm].simulator_steps > 0
        assert ledger_of([records[arm]]).simulator_steps_by_planner == records[arm].simulator_steps
        assert len(rows) == len(records[arm].latencies) == told["planning"][arm]["decisions"]
    (tree,) = (tmp_path / "plan" / "trees").iterdir()
    drawing = ElementTree.fromstring(tree.read_text())
    kinds = [element.tag.rpartition("}")[2] for element in drawing.iter()]
    searched = next(decision for decision in decisions if decision["arm"] == "tree_search-4")
    assert kinds.count("image") + kinds.count("circle") == searched["nodes"] > 1 and kinds.count("image") > 1
    assert main(plan_words(checkpoint, tmp_path / "plan", *more)) == 0
    assert json.loads(capsys.readouterr().out)["episodes_run"] == 0, "what is there is not run again"


@pytest.mark.parametrize(
    "more, message",
    [
        (["--planners", "tree_serach"], "Did you mean 'tree_search'"),
        (["--set", "tree_search.explration=1"], "Did you mean 'exploration'"),
        (["--set", "cross_entropy.elite=0.1"], "planner in this run"),
        (["--simulations", "-1"], "at least 0"),
        (["--execute", "9"], "execute must be 1 to 4"),
        (["--delay", "2"], "0 to 1 control steps"),
        (["--mass", "1.2"], "Toy has no MuJoCo model"),
        (["--proposals", "library"], "go together"),
        (["--proposals", "library", "--library", "no/such.npz"], "no/such.npz"),
    ],
)
def test_bad_requests_are_answered_before_anything_runs(checkpoint, tmp_path, capsys, more, message):
    assert main(plan_words(checkpoint, tmp_path / "plan", *more)) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "plan").exists()
