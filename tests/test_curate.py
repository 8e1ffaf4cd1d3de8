"""Scores of demonstrations: each finds the defect it is made for in a small made-up world, and says so without NaN."""

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from volar.cli.data_curate import Curate, curate
from volar.cli.data_rollouts import Rollouts, record_rollouts
from volar.core.errors import ConfigError
from volar.core.robot import ActionSpec, RobotSpec, Trajectory
from volar.data.curation.duplicates import near_duplicates
from volar.data.curation.information import contributions, ksg
from volar.data.curation.motion import spectral_arc_length
from volar.data.curation.scores import Evidence, Scores, task_groups
from volar.data.curation.select import (
    choice,
    keep_all,
    keep_listed,
    keep_top,
    read_episodes,
    read_weights,
    weights,
    worst_segments,
    write_choice,
)
from volar.data.dataset import Dataset
from volar.data.formats import open_dataset
from volar.data.writer import DatasetWriter
from volar.policies.config import PolicyConfig
from volar.statistics.auc import Ranked, area_under_curve, mean_area
from volar.train.config import TrainConfig
from volar.train.curation import TABLE
from volar.train.loop import Loop, train

SPEC = RobotSpec(
    action=ActionSpec(
        names=("dx", "dy"), units=("m", "m"), low=(-1.0,) * 2, high=(1.0,) * 2, control="delta_position",
        rotation="none", gripper="none", frame="world", rate_hz=20.0,
    ),
    cameras=(), proprioception=("x", "y", "goal_x", "goal_y", "still"),
)  # fmt: skip
TASKS = ("go to the mark", "visit the mark")
NEEDS_EVIDENCE = ("held_out", "influence", "rollout_success")
ALONE = tuple(name for name in TABLE if name not in NEEDS_EVIDENCE)
FINDS = [
    ("brevity", "detour"), ("busyness", "pauses"), ("deminf", "noise"), ("low_jerk", "noise"),
    ("novelty", "copies"), ("path_efficiency", "detour"), ("predictability", "noise"),
    ("smoothness", "noise"),
]  # fmt: skip


def walk(seed: int, defect: str) -> Trajectory:
    """A point goes to a mark, one tenth of the way a step and at most 0.05; the fifth number never changes."""
    random = np.random.default_rng([seed, 7])
    place, mark = random.uniform(-1, 1, 2), random.uniform(-1, 1, 2)
    aim = mark + np.array([1.0, 0.0]) if defect == "wrong_goal" else mark
    aside = random.uniform(-1, 1, 2) + np.array([3.0, 0.0])
    states, actions = [], []
    for step in range(80):
        if np.linalg.norm(aim - place) < 0.04:
            break
        towards = aside if defect == "detour" and step < 22 else aim
        action = (towards - place) / 10
        action /= max(1.0, np.linalg.norm(action) / 0.05)
        if defect == "noise":
            action += random.normal(0, 0.06, 2)
        if defect == "pauses" and 5 <= step < 20:
            action *= 0
        states.append([*place, *mark, 0.5])
        actions.append(action)
        place = place + action
    done = np.asarray(actions, dtype=np.float32)
    return Trajectory(
        images={}, proprioception=np.asarray(states, dtype=np.float32), actions=done, executed=done,
        rewards=np.zeros(len(done), dtype=np.float32),
    )  # fmt: skip


def write(root: Path, episodes: list[tuple[Trajectory, str, dict]]) -> Dataset:
    writer = DatasetWriter(
        root, spec=SPEC, fps=20, camera_storage={}, robot_type="point", extra={}, resume=False
    )  # fmt: skip
    with writer:
        for trajectory, instruction, source in episodes:
            writer.add(trajectory, instruction, source=source)
    return open_dataset(root)


def make(root: Path, defect: str, *, clean: int = 10, planted: int = 5, tasks: int = 2) -> Dataset:
    """Clean and planted episodes of every task. "copies" repeat the first clean ones, one action changed a little."""
    episodes = []
    for task in range(tasks):
        for number in range(clean + planted):
            bad = number >= clean
            seed = 1000 * task + (number - clean if bad and defect == "copies" else number)
            trajectory = walk(seed, defect if bad else "none")
            episodes.append((trajectory, TASKS[task], {"planted": bad, "success": not bad}))
    return write(root, episodes)


def planted(dataset: Dataset) -> np.ndarray:
    return np.array([episode.source["planted"] for episode in dataset.episodes])


def area(dataset: Dataset, scores: Scores) -> float:
    """Within each task, since only there scores compare."""
    bad, groups = planted(dataset), task_groups(dataset)
    return float(np.mean([
        area_under_curve(scores.episodes[~bad & (groups == group)], scores.episodes[bad & (groups == group)])
        for group in np.unique(groups)
    ]))  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def written_in_memory():
    """Many small data sets: waiting until the disk has them would be most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data sets by defect, each written once; of the wrong goal, on which policies are trained, one task."""
    known: dict[str, Dataset] = {}

    def get(defect: str) -> Dataset:
        if defect not in known:
            root = tmp_path_factory.mktemp(defect) / "data"
            large = {"clean": 16, "planted": 8, "tasks": 1} if defect == "wrong_goal" else {}
            known[defect] = make(root, defect, **large)
        return known[defect]

    return get


def hand(defect: str) -> Evidence:
    return Evidence(dimensions=() if defect == "copies" else ("x", "y"))


@pytest.mark.parametrize(("score", "defect"), FINDS)
def test_score_finds_the_defect_it_is_made_for(made, score, defect):
    dataset = made(defect)
    assert area(dataset, TABLE.load(score)(dataset, hand(defect))) > 0.8


@pytest.mark.parametrize("defect", sorted({defect for _, defect in FINDS}))
def test_chance_finds_nothing(made, defect):
    dataset = made(defect)
    found = [area(dataset, TABLE.load("chance")(dataset, Evidence(seed=seed))) for seed in range(40)]
    assert abs(np.mean(found) - 0.5) < 0.06


@pytest.mark.parametrize("score", ALONE)
def test_score_is_finite_repeatable_and_of_the_right_shape(made, score):
    dataset, function = made("noise"), TABLE.load(score)
    first, again = function(dataset, Evidence(seed=3)), function(dataset, Evidence(seed=3))
    assert first.episodes.shape == (len(dataset.episodes),) and np.isfinite(first.episodes).all()
    assert np.array_equal(first.episodes, again.episodes)
    if first.frames is not None:
        assert first.frames.shape == (dataset.num_frames,) and np.isfinite(first.frames).all()
        means = [first.frames[episode.start : episode.stop].mean() for episode in dataset.episodes]
        assert np.allclose(first.episodes, means)


@pytest.mark.parametrize("length", [1, 2, 12])
def test_one_episode_and_a_robot_that_stands_still(tmp_path, length):
    still = np.zeros((length, 2), dtype=np.float32)
    trajectory = Trajectory(
        images={}, proprioception=np.full((length, 5), 0.3, dtype=np.float32), actions=still, executed=still,
        rewards=np.zeros(length, dtype=np.float32),
    )  # fmt: skip
    alone = write(tmp_path / "one", [(trajectory, TASKS[0], {})])
    both = write(tmp_path / "two", [(trajectory, TASKS[0], {}), (walk(0, "none"), TASKS[0], {})])
    for score in ALONE:
        for dataset in (alone, both):
            assert np.isfinite(TABLE.load(score)(dataset, Evidence()).episodes).all(), score


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_ksg_agrees_with_the_closed_form_of_a_gaussian(correlation):
    random = np.random.default_rng(0)
    first = random.normal(size=(1500, 1))
    second = correlation * first + np.sqrt(1 - correlation**2) * random.normal(size=(1500, 1))
    assert ksg(first, second) == pytest.approx(-0.5 * np.log(1 - correlation**2), abs=0.06)


def test_copies_of_a_row_do_not_inform():
    """A pause repeats state and action; without the tie rule its rows would rank above all others."""
    random = np.random.default_rng(0)
    first = random.normal(size=(300, 2))
    second = first + 0.1 * random.normal(size=(300, 2))
    found = contributions(np.concatenate([first, np.zeros((60, 2))]), np.concatenate([second, np.zeros((60, 2))]))
    assert np.isfinite(found).all()
    assert found[300:].max() < np.median(found[:300])


def test_spectral_arc_length_prefers_one_smooth_reach():
    time = np.linspace(0, 1, 40)
    reach = 30 * time**2 * (1 - time) ** 2  # speed of a minimum-jerk reach
    twice = np.concatenate([reach[::2], np.zeros(6), reach[::2]])
    shaky = np.abs(reach + np.random.default_rng(0).normal(0, 0.4, 40))
    found = [spectral_arc_length(speed, 20.0) for speed in (reach, twice, shaky)]
    assert found[0] > found[1] and found[0] > found[2]
    assert spectral_arc_length(3 * reach, 20.0) == pytest.approx(found[0])  # amplitude does not count
    assert spectral_arc_length(np.zeros(9), 20.0) == -1.0


def test_near_duplicates_are_named(made):
    dataset = made("copies")
    pairs = near_duplicates(dataset, within=1e-6)
    expected = {(15 * task + copied, 15 * task + 10 + copied) for task in range(2) for copied in range(5)}
    assert {(pair.first, pair.second) for pair in pairs} == expected


def test_area_under_curve_against_counting():
    random = np.random.default_rng(0)
    good, bad = random.integers(0, 6, 30).astype(float), random.integers(0, 5, 20).astype(float)
    counted = np.mean([(g > b) + 0.5 * (g == b) for g in good for b in bad])
    assert area_under_curve(good, bad) == pytest.approx(counted)
    interval = mean_area([Ranked(good=good, bad=bad)] * 3, seed=0)
    assert interval.low < interval.estimate < interval.high
    with pytest.raises(ValueError, match="Both kinds"):
        area_under_curve(good, np.empty(0))


def test_keeping_the_best_leaves_no_task_out_and_breaks_ties_by_order():
    scores, groups = np.array([5.0, 5.0, 5.0, 5.0, 1.0, 0.0]), np.array([0, 0, 0, 0, 1, 2])
    assert keep_top(scores, groups, 0.5).tolist() == [True, True, False, False, True, True]
    assert keep_top(scores, groups, 0.01).tolist() == [True, False, False, False, True, True]
    assert keep_top(scores, groups, 1.0).all()
    for fraction in (0.0, 1.5):
        with pytest.raises(ConfigError, match="above 0 and at most 1"):
            keep_top(scores, groups, fraction)


def test_weights_sum_to_one_and_every_task_keeps_its_share():
    scores, groups = np.array([1.0, 2.0, 3.0, 9.0, 9.0]), np.array([0, 0, 0, 1, 1])
    found = weights(scores, groups, temperature=1.0)
    assert found.sum() == pytest.approx(1) and found[3] == found[4] == pytest.approx(0.2)
    assert (np.diff(found[:3]) > 0).all()
    assert np.allclose(weights(scores, groups, temperature=1e6), 0.2)
    assert np.isfinite(weights(scores, groups, temperature=1e-6)).all()
    with pytest.raises(ConfigError, match="positive"):
        weights(scores, groups, temperature=0.0)


def test_worst_segments_point_into_the_planted_episodes(made):
    dataset = made("pauses")
    scores = TABLE.load("busyness")(dataset, hand("pauses"))
    worst = worst_segments(dataset, scores, length=5, count=5)
    assert all(planted(dataset)[segment.episode] and 5 <= segment.start < 20 for segment in worst)
    with pytest.raises(ConfigError, match="whole episodes"):
        worst_segments(dataset, Scores(episodes=scores.episodes), length=5, count=1)


def test_lists_of_episodes_are_read_and_refused(tmp_path):
    path = tmp_path / "kept.json"
    write_choice(path, {"episodes": [4, 0]})
    assert read_episodes(path) == read_episodes(f"@{path}") == (0, 4)
    with pytest.raises(ConfigError, match="exists already"):
        write_choice(path, {"episodes": [1]})
    for content in ("[]", "[1, 1]", "[-1]", "[true]", '{"kept": [1]}', "nothing", "3"):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"kept\.json"):
            read_episodes(path)
    with pytest.raises(ConfigError, match="volar data curate"):
        read_episodes(tmp_path / "absent.json")


def test_a_listed_choice_splits_as_the_whole_does_and_has_its_own_statistics(made, tmp_path):
    dataset, path = made("detour"), tmp_path / "kept.json"
    listed = np.flatnonzero(~planted(dataset)).tolist()
    path.write_text(json.dumps(listed))
    whole, kept = keep_all(dataset, 0.2, 0), keep_listed(dataset, path, 0.2, 0)
    assert set(kept.split.train) == set(whole.split.train) & set(listed)
    assert set(kept.split.validation) == set(whole.split.validation) & set(listed)
    assert kept.frames < whole.frames and kept.identity != whole.identity
    assert kept.statistics["observation.state"].max[0] < whole.statistics["observation.state"].max[0]
    path.write_text(json.dumps([len(dataset.episodes)]))
    with pytest.raises(ConfigError, match="another data set"):
        keep_listed(dataset, path, 0.2, 0)
    path.write_text(json.dumps(whole.split.validation))
    with pytest.raises(ConfigError, match="held out"):
        keep_listed(dataset, path, 0.2, 0)


RECIPE = TrainConfig(
    policy=PolicyConfig(
        backbone="state", decoder="regression", horizon=4, normalise_action="min_max",
        normalise_proprioception="mean_std", backbone_options={"width": 32, "depth": 1},
    ),
    steps=80, batch=64, learning_rate=3e-3, warmup=10, ema=0.9, validation=0.0, validate_every=80, checkpoint_every=80,
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(made, tmp_path_factory):
    """A policy trained on walks of which a third go to the wrong place, and rollouts: some did, and failed."""
    folder = tmp_path_factory.mktemp("trained")
    dataset = made("wrong_goal")
    run = train(RECIPE, Path(dataset.root), folder / "run", device="cpu", progress=False)
    ran = []
    for number in range(16):
        trajectory = walk(5000 + number, "wrong_goal" if number % 2 else "none")
        ran.append((trajectory, TASKS[0], {"success": number % 2 == 0, "execute": 2}))
    return Evidence(policy=run, rollouts=write(folder / "rollouts", ran))


@pytest.mark.parametrize(("score", "least"), [("held_out", 0.65), ("influence", 0.8), ("rollout_success", 0.8)])
def test_scores_that_see_outcomes_or_train_find_the_wrong_goal(made, trained, score, least):
    dataset = made("wrong_goal")
    found = TABLE.load(score)(dataset, trained)
    assert np.isfinite(found.episodes).all()
    assert area(dataset, found) > least


@pytest.mark.parametrize("score", NEEDS_EVIDENCE)
def test_missing_evidence_is_refused(made, score):
    with pytest.raises(ConfigError, match="needs"):
        TABLE.load(score)(made("noise"), Evidence())


def test_rollouts_are_refused_before_anything_is_recorded(trained, tmp_path):
    command = Rollouts(policy=trained.policy, tasks=("toy/reach",), out=tmp_path / "rollouts", execute=9)
    with pytest.raises(ConfigError, match="1 to 4"):
        record_rollouts(command, progress=False)
    assert not (tmp_path / "rollouts").exists()


def test_rollouts_must_have_ended_both_ways(made, trained, tmp_path):
    alike = write(tmp_path / "alike", [(walk(n, "none"), TASKS[0], {"success": True}) for n in range(3)])
    with pytest.raises(ConfigError, match="succeeded; what leads"):
        TABLE.load("rollout_success")(made("noise"), replace(trained, rollouts=alike))
    mute = write(tmp_path / "mute", [(walk(n, "none"), TASKS[0], {}) for n in range(3)])
    with pytest.raises(ConfigError, match="does not say"):
        TABLE.load("influence")(made("noise"), replace(trained, rollouts=mute))


def test_training_on_a_list_of_all_episodes_is_training_on_all(made, trained, tmp_path):
    """The default and a list of everything give the same weights; another choice does not continue the run."""
    dataset, path = made("wrong_goal"), tmp_path / "kept.json"
    path.write_text(json.dumps(list(range(len(dataset.episodes)))))
    listed = replace(RECIPE, episodes=str(path))
    run = train(listed, Path(dataset.root), tmp_path / "run", device="cpu", progress=False)
    assert trained.policy is not None
    weights_of = [folder / "model.safetensors" for folder in (run, trained.policy)]
    assert weights_of[0].read_bytes() == weights_of[1].read_bytes()
    path.write_text(json.dumps([0, 1, 2]))
    with pytest.raises(ConfigError, match="other data"):
        train(listed, Path(dataset.root), tmp_path / "run", device="cpu", progress=False)


def test_training_draws_by_the_weights_of_a_choice_and_goes_on_bit_for_bit(made, tmp_path, monkeypatch):
    """Weights decide what is drawn: a run is resumed with them exactly, and only with them."""
    dataset, path = made("wrong_goal"), tmp_path / "kept.json"
    found = {"smoothness": TABLE.load("smoothness")(dataset, hand("wrong_goal"))}
    content = choice(dataset, found, keep=0.75, temperature=1.0)
    write_choice(path, content)
    short = replace(RECIPE, steps=12, episodes=str(path), checkpoint_every=5)
    weighted = replace(short, episode_weights=True)
    run = partial(train, data=Path(dataset.root), device="cpu", progress=False)
    straight = run(weighted, out=tmp_path / "straight")
    drawn, one_step = [], Loop._one_step

    def dies_at_eight(self, raw):
        drawn.extend(raw.episode.tolist())
        if self.step == 8:
            raise KeyboardInterrupt
        return one_step(self, raw)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Loop, "_one_step", dies_at_eight)
        run(weighted, out=tmp_path / "broken")
    assert set(drawn) <= set(content["episodes"])
    heavy = np.argsort([content["weights"][episode] for episode in content["episodes"]])
    half = len(heavy) // 2
    counts = np.bincount(drawn, minlength=len(content["weights"]))[content["episodes"]]
    assert counts[heavy[half:]].sum() > 1.5 * counts[heavy[:half]].sum()

    def same(one, other):
        return (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()

    assert same(straight, run(weighted, out=tmp_path / "broken"))
    assert not same(straight, run(short, out=tmp_path / "alike"))
    with pytest.raises(ConfigError, match="episode_weights: False there, True now"):
        run(weighted, out=tmp_path / "alike")
    content["weights"][content["episodes"][0]] += 0.5
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="other data"):
        run(weighted, out=tmp_path / "straight")
    run(short, out=tmp_path / "alike")  # to which the weights mean nothing


def test_weights_that_mean_nothing_are_refused(made, tmp_path):
    dataset, path = made("noise"), tmp_path / "kept.json"
    count = len(dataset.episodes)
    content = {"episodes": [0, 1], "weights": [1.0] * count}
    path.write_text(json.dumps(content))
    assert read_weights(f"@{path}", dataset).tolist() == content["weights"]
    with pytest.raises(ConfigError, match="--episodes FILE"):
        replace(RECIPE, episode_weights=True)
    for changes, reason in (
        ([0, 1], "no weights"),
        ({"weights": "heavy"}, "no weights"),
        ({"weights": [1.0] * (count + 1)}, "another data set"),
        ({"data": "0" * 64}, "another data set"),
        ({"weights": [1, -1.0] + [1.0] * (count - 2)}, "that of episode 1 is not"),
        ({"weights": [float("nan")] * count}, "that of episode 0 is not"),
        ({"weights": [True] * count}, "that of episode 0 is not"),
        ({"weights": [10**400] * count}, "that of episode 0 is not"),
        ({"weights": [0.0, 0] + [1.0] * (count - 2)}, "none could be drawn"),
    ):
        path.write_text(json.dumps(content | changes if isinstance(changes, dict) else changes))
        with pytest.raises(ConfigError, match=reason):
            keep_listed(dataset, path, 0.0, 0, weighted=True)


def test_the_command_writes_what_training_reads(made, tmp_path):
    dataset, out = made("noise"), tmp_path / "kept.json"
    command = Curate(path=dataset.root, score=("deminf", "smoothness"), keep=0.5, out=out, dimensions=("x", "y"))
    output = curate(command)
    kept = read_episodes(out)
    assert len(kept) == 16 and list(kept) == output.data["episodes"]
    assert planted(dataset)[list(kept)].mean() < planted(dataset).mean()
    assert sum(json.loads(out.read_text())["weights"]) == pytest.approx(1)
    assert "16 of 30 episodes kept" in str(output.text)
    with pytest.raises(ConfigError, match="deminf"):
        curate(replace(command, score=("deminv",)))
    with pytest.raises(ConfigError, match="goal_x"):
        curate(replace(command, dimensions=("gol_x",)))
