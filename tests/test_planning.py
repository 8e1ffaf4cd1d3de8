"""Planning: exact on tiny problems, equal to what it was (golden trees), honest about what it used."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from volar.core.errors import ConfigError, EpisodeError
from volar.core.registry import build_config
from volar.core.robot import Actor, Chunk, Env, Job, Observation, Outcome
from volar.envs import make_env
from volar.envs.rollout import run_episode
from volar.planning import TABLE
from volar.planning.actor import Decision, PlanningActor
from volar.planning.mcts import SearchConfig, Tree, choose, scores, search
from volar.planning.planner import Candidates, Limit, Request, Root, Simulated
from volar.planning.proposals import around_policy, from_policy, own_chunk
from volar.planning.simulation import SimulationConfig, Simulator, require_exact_restore, state_key

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
        path = (*request.state, int(request.actions[0, 0]))
        over, state = len(path) == self.depth, bytes(path)
        return Simulated(
            state=state, key=state_key(state), actions=request.actions, reward=self.rewards[path], value=0.0,
            discount=0.0 if over else self.discount, candidates=None if over else self.candidates(path), steps=1,
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
        seen.append([(request.state, request.actions.tobytes()) for request in requests])
        return maze.simulate(requests, expired)

    tree = Tree.at(maze.root())
    search(tree, simulate, config=SearchConfig(parallel=4), edge=1, left=3, limit=Limit(simulations=12), seed=0)
    assert [len(batch) for batch in seen] == [4, 4, 4]
    assert all(len(set(batch)) == len(batch) for batch in seen), "no leaf twice at once"
    assert len({state for state, _ in seen[1]}) > 1, "and not all below one branch"


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


class Wrong(Actor):
    """Goes to the wrong place: always the same direction. Its draws differ where `spread` is set."""

    uses_images = False

    def __init__(self, direction=(1.0, 0.0), *, spread: float = 0.0, horizon: int = 4) -> None:
        self.direction, self.spread, self.horizon = direction, spread, horizon
        self.asked = 0

    def reset(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def act(self, observation: Observation) -> Chunk:
        self.asked += 1
        chunk = np.tile(np.array(self.direction), (self.horizon, 1)) + self.spread * self.random.normal(size=(1, 2))
        return Chunk(actions=np.clip(chunk, -1, 1).astype(np.float32), execute=self.horizon)


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


def test_time_is_overshot_by_one_edge_at_most():
    now = {"time": 0.0}

    class Slow(type(make_env("toy/reach-red"))):
        def step(self, action):
            now["time"] += 1.0
            return super().step(action)

    limit = Limit(simulations=10**6, seconds=50.0, clock=lambda: now["time"])
    actor = planning_actor(limit=limit, policy=Wrong((0, 0)),
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
