"""Learned values: they learn what tells branches apart, belong to one policy, and are honest about being fooled."""

import json
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from planning_simulators import make_simulator

from volar.cli import main
from volar.cli.data_branches import Branches, record_branches
from volar.cli.data_rollouts import Rollouts, record_rollouts
from volar.core.errors import ConfigError
from volar.data.formats import open_dataset
from volar.envs import make_env
from volar.planning.branches import branches_of
from volar.planning.mcts import SearchConfig, Tree, search
from volar.planning.oracle import oracle_return, seed_of
from volar.planning.planner import Candidates, Limit, Request, Root, Simulated
from volar.planning.proposals import around_policy
from volar.planning.simulation import SimulationConfig, Simulator
from volar.planning.value_config import ValueConfig
from volar.planning.value_examples import Examples, gather
from volar.planning.value_head import LearnedValue, ValueHead, checkpoint_hash, load_value, readout
from volar.planning.value_training import better_pairs, fit, foretold, judged, train_value
from volar.policies.actor import load_policy
from volar.policies.config import PolicyConfig
from volar.train.config import TrainConfig
from volar.train.loop import train

TASK = "toy/reach-red"
FAST = ValueConfig(epochs=30, learning_rate=1e-3, stride=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A policy with eyes that reaches now and then, its roll-outs, and branches of states that it met."""
    place = tmp_path_factory.mktemp("values")
    assert main(["collect", TASK, "--episodes", "30", "--out", str(place / "data")]) == 0
    policy = PolicyConfig(
        backbone="tiny", decoder="regression", horizon=4, normalise_action="min_max",
        normalise_proprioception="mean_std",
    )  # fmt: skip
    for seed, steps in enumerate((150, 1)):
        config = TrainConfig(policy=policy, steps=steps, batch=32, warmup=5, learning_rate=3e-3, seed=seed)
        train(config, place / "data", place / f"policy-{seed}", device="cpu", progress=False)
    rollouts = Rollouts(
        policy=place / "policy-0", tasks=(TASK,), out=place / "rollouts", execute=2, episodes=24, max_steps=24,
        workers=0,
    )  # fmt: skip
    assert 0 < record_rollouts(rollouts, progress=False)["successes"] < 24
    branches = Branches(
        policy=place / "policy-0", tasks=(TASK,), out=place / "branches", execute=2, episodes=6, max_steps=24,
        candidates=4, first_seed=500_000,
    )  # fmt: skip
    assert record_branches(branches, progress=False)["successes"]
    return place


@pytest.fixture(scope="module")
def trained(place) -> Path:
    out = place / "value"
    words = [
        "train", str(Path(__file__).parent.parent / "recipes/value.py"), "--policy", str(place / "policy-0"),
        "--data", str(place / "rollouts"), "--data", str(place / "branches"), "--out", str(out), "--epochs", "20",
        "--members", "2",
    ]  # fmt: skip
    assert main(words) == 0
    return out


def look(seed: int = 3):
    env = make_env(TASK)
    env.reset(seed)
    return env.observe()


def test_command_trains_a_value_that_loads_for_its_policy(place, trained):
    actor = load_policy(place / "policy-0", execute=2)
    value = load_value(trained, actor, policy=place / "policy-0")
    seen = [look(seed) for seed in range(5)]
    many = value.many(seen)
    assert np.isfinite(many).all() and np.ptp(many) > 0
    assert value(seen[2]) == pytest.approx(many[2], abs=1e-5), "alone or among others, a state has the same value"
    surer = load_value(trained, actor, policy=place / "policy-0", weight=2.0)
    assert (surer.many(seen) > many).all(), "the members' disagreement is added"


def test_value_of_another_policy_is_refused(place, trained):
    other = load_policy(place / "policy-1", execute=2)
    with pytest.raises(ConfigError, match=r"belongs to the policy \w{16}, but .*policy-1"):
        load_value(trained, other, policy=place / "policy-1")


def test_same_seed_same_value_other_seed_another(place):
    actor = load_policy(place / "policy-0", execute=2)
    config = replace(FAST, policy=place / "policy-0")
    examples = gather([place / "rollouts"], actor, config, progress=False)
    first, again, other = (fit(examples, replace(config, seed=seed), progress=False) for seed in (0, 0, 1))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert not torch.equal(first.inner, other.inner)


def test_branches_are_what_the_simulator_does(place):
    """A branch's record can be played again: its state, and what came of it."""
    dataset = open_dataset(place / "branches")
    sources = [episode.source for episode in dataset.episodes]
    assert {episode.length for episode in dataset.episodes} == {1}
    assert {source["success"] for source in sources} == {True, False}
    assert all(source["own"] == (source["candidate"] == 0) for source in sources)
    env, actor = make_env(TASK), load_policy(place / "policy-0", execute=2)
    propose = partial(around_policy, spec=env.spec.action, num=4)
    simulator = Simulator(env, actor, propose, config=SimulationConfig(edge=2, rollout=24))
    seed = sources[0]["seed"]
    again = [each for state in branches_of(simulator, seed=seed, max_steps=24, every=3) for each in state]
    recorded = [source for source in sources if source["seed"] == seed]
    assert [each.facts() for each in again] == [{key: source[key] for key in again[0].facts()} for source in recorded]
    np.testing.assert_array_equal(dataset.rows("observation.state", [0])[0], again[0].observation.proprioception)


def test_interrupted_branches_go_on_to_the_same(place, tmp_path, monkeypatch):
    command = Branches(
        policy=place / "policy-0", tasks=(TASK,), out=tmp_path / "branches", execute=2, episodes=2, max_steps=24,
        candidates=4, first_seed=500_000,
    )  # fmt: skip
    from volar.data.writer import DatasetWriter

    add, added = DatasetWriter.add, []

    def dying(self, *arguments, **options):
        if len(added) == 7:
            raise KeyboardInterrupt
        added.append(1)
        return add(self, *arguments, **options)

    monkeypatch.setattr(DatasetWriter, "add", dying)
    with pytest.raises(KeyboardInterrupt):
        record_branches(command, progress=False)
    monkeypatch.undo()
    record_branches(command, progress=False)
    sources = [episode.source for episode in open_dataset(tmp_path / "branches").episodes]
    whole = [episode.source for episode in open_dataset(place / "branches").episodes]
    assert sources == whole[: len(sources)]


def made_up(scenes: int = 30, siblings: int = 6, *, seed: int = 0) -> Examples:
    """Branches whose return is told by the first feature; the second tells the scene, the others nothing."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(scenes), siblings)
    features = random.normal(size=(len(group), 6)).astype(np.float32)
    features[:, 1] = group / scenes
    targets = 1 / (1 + np.exp(-2 * features[:, 0].astype(np.float64)))
    return Examples(
        features=features, targets=targets, times=np.tile(np.arange(siblings), scenes).astype(np.float32),
        groups=group, scenes=group,
    )  # fmt: skip


@pytest.mark.parametrize("target", ["mse", "hl_gauss", "ranking"])
def test_every_target_learns_to_tell_siblings_apart_and_no_control_does(target):
    examples = made_up()
    split = examples.scenes >= 20
    ranked = {}
    for control in ("none", "random", "shuffled", "time"):
        config = replace(FAST, target=target, control=control, epochs=60, learning_rate=1e-2)
        facts = judged(fit(examples.rows(~split), config, progress=False), examples, split, config)
        ranked[control] = facts["sibling_ranking"]
    assert ranked.pop("none") > 0.9
    assert max(ranked.values()) < 0.8, ranked


def test_returns_come_out_in_their_own_units():
    examples = made_up(60)
    for target in ("mse", "hl_gauss"):
        config = replace(FAST, target=target, epochs=60, learning_rate=1e-2)
        values = foretold(fit(examples, config, progress=False), examples, config)
        assert np.abs(values - examples.targets).mean() < 0.1, target


def test_better_pairs_are_of_one_state_and_ordered():
    examples = made_up(4, 3)
    examples = replace(examples, groups=np.array([-1] * 3 + [1] * 3 + [2] * 6), targets=np.arange(12) / 12)
    pairs = better_pairs(examples)
    assert len(pairs) == 3 + 15
    assert (examples.targets[pairs[:, 0]] > examples.targets[pairs[:, 1]]).all()
    assert (examples.groups[pairs[:, 0]] == examples.groups[pairs[:, 1]]).all()


def test_features_are_read_where_they_were_kept(place, monkeypatch):
    actor = load_policy(place / "policy-0", execute=2)
    config = replace(FAST, policy=place / "policy-0", stride=3)
    first = gather([place / "branches"], actor, config, progress=False)
    monkeypatch.setattr("volar.planning.value_examples.readout", lambda *_: pytest.fail("computed twice"))
    again = gather([place / "branches"], actor, config, progress=False)
    np.testing.assert_array_equal(first.features, again.features)


def test_features_see_pictures_words_and_numbers(place):
    actor, seen = load_policy(place / "policy-0", execute=2), look()
    dark = {name: np.zeros_like(picture) for name, picture in seen.images.items()}
    variants = [
        replace(seen, images=dark), replace(seen, instruction="something else"),
        replace(seen, proprioception=seen.proprioception + 0.1),
    ]  # fmt: skip
    features = readout(actor, [seen, *variants])
    assert np.abs(features[1:] - features[0]).max(axis=1).min() > 1e-3


def copied_with(place: Path, tmp_path: Path, name: str, **changes) -> Path:
    """The roll-outs' data set with other facts."""
    import shutil

    from volar.data import layout

    folder = tmp_path / name
    shutil.copytree(place / "rollouts", folder, ignore=shutil.ignore_patterns(".features"))
    info = json.loads((folder / layout.INFO).read_text())
    block = info[layout.EXTENSION]
    block["extra"] |= changes
    block.pop("crc32")
    info[layout.EXTENSION] = block | {"crc32": layout.checksum(block)}
    (folder / layout.INFO).write_text(json.dumps(info))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": None}, "Say whose value"),
        ({"target": "ranking"}, "volar data branches"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"validation": 0.0}, "validation must lie between"),
        ({"discount": 1.5}, "discount must be in"),
    ],
)
def test_settings_that_cannot_work_are_refused(place, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        train_value(
            replace(FAST, **{"policy": place / "policy-0", **changes}), [place / "rollouts"], tmp_path / "v",
            progress=False,
        )  # fmt: skip
    assert not (tmp_path / "v").exists()


def test_rollouts_of_another_policy_or_outcome_are_refused(place, tmp_path):
    config = replace(FAST, policy=place / "policy-0")
    with pytest.raises(ConfigError, match=r"belongs to the policy 0123, but"):
        train_value(config, [copied_with(place, tmp_path, "other", policy="0123")], tmp_path / "v", progress=False)
    with pytest.raises(ConfigError, match=r"does not say which episodes|belongs to no known policy"):
        train_value(config, [place / "data"], tmp_path / "v", progress=False)
    with pytest.raises(ConfigError, match="exists already"):
        train_value(config, [place / "rollouts"], place / "rollouts", progress=False)


def test_head_standardises_and_ignores_what_never_varies():
    head = ValueHead(3, hidden=8, members=1, outputs=1, generator=torch.Generator().manual_seed(0))
    features = torch.tensor([[0.0, 5.0, 1e4], [2.0, 5.0, -1e4]])
    head.standardise(features)
    value = head.values(features)
    changed = head.values(features + torch.tensor([0.0, 1e6, 0.0]))
    np.testing.assert_array_equal(value, changed)


def test_time_control_sees_only_the_time(place, tmp_path):
    config = replace(FAST, policy=place / "policy-0", control="time")
    train_value(config, [place / "rollouts"], tmp_path / "time", progress=False)
    actor = load_policy(place / "policy-0", execute=2)
    value = load_value(tmp_path / "time", actor, policy=place / "policy-0")
    assert isinstance(value, LearnedValue)
    early, late = look(1), replace(look(1), time=1.0)
    assert value(early) == value(replace(look(2), time=early.time)) != value(late)


def planned(place: Path, out: Path, *words: str) -> int:
    options = (
        "--execute 2 --planners tree_search --simulations 6 --candidates 3 --episodes 2 --max-steps 12 --workers 0"
    )
    return main(["plan", str(place / "policy-0"), "--task", TASK, "--out", str(out), *options.split(), *words])


def test_plan_takes_a_value_and_records_which(place, trained, tmp_path):
    guided = ("--set", "tree_search.value_weight=1.0", "tree_search.value_scale=z_score")
    assert planned(place, tmp_path / "run", "--value", str(trained), "--value-spread", "1", *guided) == 0
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["value"] == checkpoint_hash(trained)
    assert settings["value_spread"] == 1.0
    drawn = next((tmp_path / "run" / "trees").iterdir()).read_text()
    assert "tree_search-6" in drawn


def test_plan_refuses_a_value_that_nobody_weighs_or_that_is_missing(place, trained, tmp_path, capsys):
    assert planned(place, tmp_path / "run", "--value", str(trained)) == 2
    assert planned(place, tmp_path / "run", "--set", "tree_search.value_weight=1.0") == 2
    assert "go together" in capsys.readouterr().err
    weighed = ("--set", "tree_search.value_weight=1.0", "--value")
    assert planned(place, tmp_path / "run", *weighed, str(place / "policy-0/checkpoints/step-0000150")) == 2
    assert "volar train recipes/value.py" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


class Corridor:
    """A world of branches that never succeed; what a value says of them comes from `estimate`."""

    def __init__(self, estimate) -> None:
        self.estimate = estimate

    def candidates(self) -> Candidates:
        return Candidates(chunks=np.arange(3, dtype=np.float32)[:, None, None], prior=np.array([0.5, 0.3, 0.2]))

    def simulate(self, requests, expired) -> list[Simulated]:
        return [self._simulate(request) for request in requests]

    def _simulate(self, request: Request) -> Simulated:
        candidates = self.candidates()
        chosen = int(request.actions[0, 0]) if request.rank is None else candidates.ranked(request.rank)
        state = request.state + bytes([chosen])
        return Simulated(
            state=state, key=state.hex(), actions=candidates.chunks[chosen], reward=0.0, discount=0.99, value=0.0,
            estimate=self.estimate(state), candidates=None if request.rank is None else candidates, steps=1,
        )  # fmt: skip

    def visits(self, simulations: int, **options) -> dict[str, int]:
        """How often every state was met."""
        root = Root(state=b"", key="", candidates=self.candidates(), left=50)
        tree = Tree.at(root)
        search(tree, self.simulate, config=SearchConfig(**options), edge=1, left=50,
               limit=Limit(simulations=simulations), seed=0)  # fmt: skip
        return {key: node.visits for key, node in tree.nodes.items()}


def varied(state: bytes) -> float:
    return zlib.crc32(state) % 1000 / 1000


def test_before_the_first_success_only_the_value_and_the_prior_guide():
    """A search that stops at its first success has mean returns of 0 until then, so weighing them does nothing."""
    world, guided = Corridor(varied), {"value_weight": 1.0, "value_scale": "z_score"}
    assert world.visits(30, **guided, rollout_weight=0.0) == world.visits(30, **guided, rollout_weight=1.0)
    assert world.visits(30, **guided) != world.visits(30)


@pytest.mark.parametrize("scale", ["raw", "min_max", "z_score"])
def test_a_value_of_time_alone_cannot_guide_edges_of_equal_length(scale):
    timed = Corridor(lambda state: 0.99 ** len(state))
    assert timed.visits(30, value_weight=1.0, value_scale=scale) == timed.visits(30)


def test_a_value_guides_nothing_before_all_candidates_are_open():
    world = Corridor(varied)
    assert world.visits(3, value_weight=1.0) == world.visits(3)


def test_oracle_is_the_mean_of_further_rollouts_and_counts_them():
    simulator = make_simulator()
    simulator.env.reset(4)
    state = simulator.env.save()
    simulator.begin(simulator.env.observe().instruction)
    request = Request(state=state, actions=np.zeros((2, 2), np.float32), left=12, seed=7)
    (plain,) = simulator([request], lambda: False)
    (told,) = oracle_return(simulator, draws=3)([request], lambda: False)
    further = [Request(state=plain.state, actions=None, left=10, seed=seed_of(request, draw)) for draw in range(3)]
    results = [simulator([each], lambda: False)[0] for each in further]
    assert told.estimate == pytest.approx(np.mean([result.total for result in results]))
    assert told.steps == plain.steps + sum(result.steps for result in results)
    assert (told.value, told.state) == (plain.value, plain.state)
    with pytest.raises(ConfigError, match="at least 1 roll-out"):
        oracle_return(simulator, draws=0)
