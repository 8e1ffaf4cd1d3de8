"""Statistics in one pass and the checks of data sets: every check finds a planted fault and is silent on clean data."""

import ast
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from older_formats import write_gr00t, write_lines, write_v2

from volar.cli import main
from volar.core.errors import ConfigError
from volar.core.robot import ActionSpec, Camera, RobotSpec, Trajectory
from volar.data import layout
from volar.data.check import CHECKS, Pictures, check, check_path
from volar.data.findings import Finding, Severity
from volar.data.formats import open_dataset
from volar.data.measure import measure
from volar.data.normalize import exact_statistics
from volar.data.stored_form import stored_forms
from volar.data.streaming import BUFFER, QuantileSketch, StreamingStatistics
from volar.data.summaries import summarize
from volar.data.writer import DatasetWriter

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT.parent / "shared/data/lerobot_v3_sample"

PROBABILITIES = (0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0)


def streams(count: int) -> dict[str, np.ndarray]:
    """Rows that are hard for a sketch: sorted both ways, zig-zag, periodic with the buffers, ties, heavy tails."""
    generator = np.random.default_rng(3)
    normal = generator.normal(size=count)
    ascending = np.sort(normal)
    zigzag = np.empty(count)
    zigzag[::2], zigzag[1::2] = ascending[: (count + 1) // 2], ascending[::-1][: count // 2]
    return {
        "random": normal,
        "ascending": ascending,
        "descending": ascending[::-1].copy(),
        "zigzag": zigzag,
        "periodic": np.sin(2 * np.pi * np.arange(count) / BUFFER),
        "buffers interleaved": ascending.reshape(-1, count // 50).T.ravel() if count % 50 == 0 else ascending,
        "constant": np.full(count, 0.1),
        "two-valued": (generator.random(count) < 0.013).astype(float),
        "heavy tails": generator.standard_cauchy(count) ** 3,
        "integers": generator.geometric(0.3, count).astype(float),
    }


def rank_gap(values: np.ndarray, answer: float, probability: float) -> float:
    """By how much of all rows the answer misses the quantile; ties belong to every rank that they span."""
    below, up_to = (values < answer).mean(), (values <= answer).mean()
    return max(below - probability, probability - up_to, 0.0)


@pytest.mark.parametrize("count", [100_000, 123_457])
def test_quantiles_lie_within_the_stated_rank_error(count):
    columns = streams(count)
    sketch = QuantileSketch(len(columns))
    rows = np.stack(list(columns.values()), axis=1)
    for start in range(0, count, 1000):
        sketch.update(rows[start : start + 1000])
    assert 0 < sketch.rank_error <= np.log2(count / BUFFER) / (4 * BUFFER) + 2 / BUFFER < 0.005
    answers = sketch.quantiles(PROBABILITIES)
    for column, (name, values) in enumerate(columns.items()):
        for probability, answer in zip(PROBABILITIES, answers[:, column], strict=True):
            assert rank_gap(values, answer, probability) <= sketch.rank_error + 1e-12, (name, probability)
            assert answer in values, "an answer did occur"


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.integers(1, 9000), min_size=1, max_size=6), seed=st.integers(0, 2**32 - 1),
    order=st.sampled_from(["left", "right", "none"]),
)  # fmt: skip
def test_parts_merge_in_any_shape(parts, seed, order):
    generator = np.random.default_rng(seed)
    rows = generator.choice([generator.normal(size=sum(parts)), np.round(generator.normal(size=sum(parts)), 1)])[
        :, None
    ]
    if generator.random() < 0.5:
        rows = np.sort(rows, axis=0)
    pieces = np.split(rows, np.cumsum(parts)[:-1])
    if order == "none":
        whole = StreamingStatistics(1)
        for piece in pieces:
            whole.update(piece)
    else:
        collected = []
        for piece in pieces:
            collected.append(StreamingStatistics(1))
            collected[-1].update(piece)
        whole, *rest = collected if order == "left" else collected[::-1]
        for part in rest:
            whole.merge(part)
    exact = exact_statistics(rows)
    assert whole.count == exact.count and whole.min == exact.min and whole.max == exact.max
    np.testing.assert_allclose(whole.mean, exact.mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(whole.std, exact.std, rtol=1e-10, atol=1e-14)
    for probability, answer in zip(PROBABILITIES, whole.sketch.quantiles(PROBABILITIES)[:, 0], strict=True):
        if whole.rank_error:
            assert rank_gap(rows[:, 0], answer, probability) <= whole.rank_error + 1e-12
        else:
            assert answer == np.quantile(rows[:, 0], probability)


def test_few_rows_give_the_exact_statistics():
    rows = np.random.default_rng(0).normal(size=(2 * BUFFER - 1, 3)).astype(np.float32)
    streaming = StreamingStatistics(3)
    for row in np.array_split(rows, 7):
        streaming.update(row)
    ours, exact = streaming.statistics(), exact_statistics(rows)
    assert streaming.rank_error == 0
    for name in ("min", "max", "q01", "q99"):
        np.testing.assert_array_equal(vars(ours)[name], vars(exact)[name])


def test_moments_survive_a_large_offset():
    """A sum of squares would have lost every digit of this spread."""
    rows = 1e9 + np.random.default_rng(0).normal(scale=1e-3, size=(50_000, 1))
    streaming = StreamingStatistics(1)
    for part in np.array_split(rows, 500):
        streaming.update(part)
    np.testing.assert_allclose(streaming.std, rows.std(0), rtol=1e-6)


def test_memory_does_not_grow_with_the_rows():
    """Buffers per level, levels with the logarithm of the rows."""
    sketch = QuantileSketch(2)
    for start in range(0, BUFFER + 1):
        sketch.update(np.full((512, 2), float(start)))
    held = sum(1 for level in sketch._levels if level is not None) + len(sketch._loose) / BUFFER
    assert sketch.count == 512 * (BUFFER + 1) and held <= np.log2(sketch.count / BUFFER) + 2


def test_streaming_marks_degenerate_dimensions_and_refuses_bad_rows():
    streaming = StreamingStatistics(2)
    streaming.update(np.array([[0.1, 1.0], [0.1, 2.0]]))
    assert streaming.degenerate == (0,)
    with pytest.raises(ConfigError, match="2 dimensions"):
        streaming.update(np.zeros((3, 3)))
    with pytest.raises(ConfigError, match=r"non-finite numbers in dimension\(s\) \[1\]"):
        streaming.update(np.array([[0.0, np.nan]]))
    with pytest.raises(ConfigError, match="no rows"):
        StreamingStatistics(1).statistics()


# A clean recording: a hand goes from place to place, shuts its gripper on the way and comes to rest.

NAMES = ("x", "y", "z", "gripper")
FPS, EPISODES = 20, 12
TASKS = ("open the faucet", "push the puck to the wall")


def spec(**changes: object) -> RobotSpec:
    action = {
        "names": NAMES, "units": ("m", "m", "m", "normalised"), "low": (-1.0,) * 4, "high": (1.0,) * 4,
        "control": "absolute_position", "rotation": "none", "gripper": "positive_closes", "frame": "world",
        "rate_hz": float(FPS),
    }  # fmt: skip
    return RobotSpec(
        action=ActionSpec(**(action | changes)),  # type: ignore[arg-type]
        cameras=tuple(Camera(name=name, height=24, width=32) for name in ("front", "wrist")), proprioception=NAMES,
    )  # fmt: skip


@dataclass
class Demonstration:
    """What a test may spoil before it is written."""

    state: np.ndarray
    action: np.ndarray
    front: np.ndarray
    wrist: np.ndarray
    instruction: str

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Change the rows of everything alike."""
        for name in ("state", "action", "front", "wrist"):
            setattr(self, name, change(getattr(self, name)))


def demonstrate(seed: int) -> Demonstration:
    generator = np.random.default_rng(seed)
    length = int(generator.integers(50, 70))
    begin, end = generator.uniform(-0.6, -0.1, 3), generator.uniform(0.1, 0.6, 3)
    progress = np.clip(np.arange(length) / (length - 8), 0, 1)
    smooth = 10 * progress**3 - 15 * progress**4 + 6 * progress**5
    command = begin + smooth[:, None] * (end - begin)
    command[:, 2] -= 0.3 * np.sin(np.pi * smooth)
    action = np.column_stack([command, np.where(progress > generator.uniform(0.5, 0.7), 0.8, -0.8)])
    state = np.empty_like(action)
    state[0] = action[0]
    for step in range(1, length):
        state[step] = state[step - 1] + 0.6 * (action[step - 1] - state[step - 1])
    state += generator.normal(scale=1e-4, size=state.shape)
    rows, columns = np.mgrid[:24, :32]
    walls = {
        "front": np.stack([60 + rows * 4, 90 + columns * 2, 150 + 0 * rows], -1),
        "wrist": np.stack([200 - columns * 4, 60 + 0 * rows, 40 + rows * 3], -1),
    }
    films = {}
    for name, wall in walls.items():
        films[name] = np.repeat(wall[None].astype(np.uint8), length, axis=0)
        for frame, (x, y) in zip(films[name], state[:, :2], strict=True):
            top, left = int(10 + 12 * y), int(14 + 18 * x)
            frame[max(top, 0) : top + 6, max(left, 0) : left + 6] = (240, 230, 40)
    return Demonstration(state=state, action=action, instruction=TASKS[seed % 2], **films)


def write(
    root: Path, demonstrations: list[Demonstration], *, robot: RobotSpec | None = None, storage: str = "image",
    cameras: bool = True,
) -> Path:  # fmt: skip
    robot = robot or spec()
    kinds = {"front": storage, "wrist": "image"} if cameras else {}
    robot = replace(robot, cameras=robot.cameras if cameras else ())
    with DatasetWriter(root, spec=robot, fps=FPS, camera_storage=kinds, robot_type="hand", extra={}) as writer:
        for one in demonstrations:
            state, action = one.state.astype(np.float32), one.action.astype(np.float32)
            trajectory = Trajectory(
                images={"front": one.front, "wrist": one.wrist} if cameras else {}, proprioception=state,
                actions=action, executed=action, rewards=state[:, 0].copy(),
            )  # fmt: skip
            writer.add(trajectory, one.instruction, source={})
    return root


def demonstrations() -> list[Demonstration]:
    return [demonstrate(seed) for seed in range(EPISODES)]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("check") / "clean", demonstrations(), storage="video")


@pytest.fixture
def copy(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "copy"))


def edit_table(path: Path, changes: dict[str, Callable[[list], list]]) -> None:
    table = pq.read_table(path)
    for name, change in changes.items():
        values = pa.array(change(table[name].to_pylist()), table.schema.field(name).type)
        table = table.set_column(table.column_names.index(name), table.schema.field(name), values)
    pq.write_table(table, path)


def data_file(root: Path, episode: int) -> Path:
    return root / layout.DATA.format(**layout.place(episode))


def above_notes(findings: tuple[Finding, ...]) -> list[Finding]:
    return [found for found in findings if found.severity is not Severity.NOTE]


def test_a_clean_recording_has_no_findings(clean):
    assert check_path(clean) == ()
    assert check_path(clean, pictures="every") == ()
    assert check(open_dataset(clean, lazy=True)) == ()


def test_a_real_lerobot_data_set_has_only_notes():
    """Its stored quantiles are the averages that lerobot issue 4156 is about."""
    findings = check_path(SAMPLE)
    assert {found.code for found in findings} == {"averaged-quantiles"} and not above_notes(findings)


# Faults in numbers and pictures: how each is planted, what must be found, where, and what else may be said of it.


def one_in_degrees(made):
    made[4].state[:, :3] *= 57.3
    made[4].action[:, :3] *= 57.3


def one_in_millimetres(made):
    made[7].state[:, 2] *= 1000


def most_larger(made):
    """One episode in metres among millimetres: it is small, nothing is large."""
    for one in made[:3] + made[4:]:
        one.state *= 1000


def all_in_millimetres(made):
    for one in made:
        one.action[:, :3] *= 1000
        one.state[:, :3] *= 1000


def action_in_degrees(made):
    for one in made:
        one.action[:, :3] *= 57.3


def beyond_limits(made):
    made[3].action[20:30, 0] = 1.5


def dead_state(made):
    for one in made:
        one.state[:] = 0.25


def dead_dimension(made):
    for one in made:
        one.state[:, 1] = 0.25


def glitch(made):
    made[2].state[20, 0] += 3


def pause(made):
    made[5].each(lambda rows: np.concatenate([rows[:30], np.repeat(rows[30:31], 40, axis=0), rows[30:]]))


def long_pause(made):
    made[5].each(lambda rows: np.concatenate([rows[:30], np.repeat(rows[30:31], 120, axis=0), rows[30:]]))


def copied_actions(made):
    for one in made:
        one.action = one.state.copy()


def late_actions(made):
    for one in made:
        one.action = np.concatenate([np.repeat(one.action[:1], 8, axis=0), one.action[:-8]])


def early_actions(made):
    for one in made:
        one.action = np.concatenate([one.action[14:], np.repeat(one.action[-1:], 14, axis=0)])


def one_late(made):
    made[6].action = np.concatenate([np.repeat(made[6].action[:1], 8, axis=0), made[6].action[:-8]])


def inverted(made):
    made[3].action[:, 3] *= -1


def inverted_altogether(made):
    for one in (made[3], made[8]):
        one.action[:, 3] *= -1
        one.state[:, 3] *= -1


def other_coding(made):
    made[2].action[:, 3] = (made[2].action[:, 3] > 0) * 1.0


def continuous(made):
    made[9].action[:, 3] = np.linspace(-0.8, 0.8, len(made[9].action))


def repeated(made):
    made.append(replace(made[2]))


def repeated_in_part(made):
    made.append(replace(made[4]))
    made[-1].each(lambda rows: rows[5:])


def nearly_repeated(made):
    made.append(replace(made[2], state=made[2].state + np.random.default_rng(0).normal(scale=1e-3, size=(1, 4))))


def cut(made):
    made[6].each(lambda rows: rows[: len(rows) // 2])


def cut_early(made):
    made[6].each(lambda rows: rows[:8])


def too_short(made):
    made[6].each(lambda rows: rows[:2])


def far_longer(made):
    made[6].each(lambda rows: np.repeat(rows, 8, axis=0)[np.argsort(np.arange(8 * len(rows)) // 8, kind="stable")])


def frozen(made):
    made[7].front[20:48] = made[7].front[20]


def swapped(made):
    for one in (made[8], made[1]):
        one.front, one.wrist = one.wrist, one.front


def covered(made):
    made[9].wrist[:] = 0


RADIANS = spec(units=("rad", "rad", "rad", "normalised"), low=(-1000.0,) * 4, high=(1000.0,) * 4)
WIDE = spec(low=(-1000.0,) * 4, high=(1000.0,) * 4)
FAULTS = [
    (one_in_degrees, "another-scale", 4, WIDE, {"implausible-unit"}),
    (one_in_millimetres, "another-scale", 7, WIDE, set()),
    (most_larger, "another-scale", 3, WIDE, {"units-differ", "idle"}),
    (all_in_millimetres, "implausible-unit", None, WIDE, set()),
    (action_in_degrees, "implausible-unit", None, RADIANS, {"units-differ"}),
    (action_in_degrees, "units-differ", None, RADIANS, {"implausible-unit"}),
    (beyond_limits, "outside-limits", None, None, {"lag-differs"}),
    (dead_state, "constant-feature", None, None, set()),
    (dead_dimension, "constant-dimension", None, None, set()),
    (glitch, "spike", 2, None, set()),
    (pause, "idle", 5, None, set()),
    (long_pause, "idle", 5, None, set()),
    (copied_actions, "action-is-state", None, None, {"gripper-coding"}),
    (late_actions, "lag", None, None, set()),
    (early_actions, "lag", None, None, set()),
    (one_late, "lag-differs", 6, None, set()),
    (inverted, "inverted-gripper", 3, None, set()),
    (inverted_altogether, "inverted-gripper", 8, None, set()),
    (other_coding, "gripper-coding", 2, None, set()),
    (continuous, "gripper-coding", 9, None, set()),
    (repeated, "repeated-episode", 12, None, set()),
    (repeated_in_part, "repeated-episode", 12, None, set()),
    (nearly_repeated, "near-duplicate", 12, None, set()),
    (cut, "cut-ending", 6, None, {"odd-length"}),
    (cut_early, "odd-length", 6, None, {"cut-ending"}),
    (too_short, "too-short", 6, None, {"odd-length", "cut-ending"}),
    (far_longer, "odd-length", 6, None, {"lag-differs"}),
    (frozen, "frozen-camera", 7, None, set()),
    (swapped, "swapped-cameras", 8, None, set()),
    (covered, "blank-pictures", 9, None, {"frozen-camera", "swapped-cameras"}),
]


@pytest.mark.parametrize(
    "plant, code, episode, robot, besides", FAULTS, ids=[f"{fault[0].__name__}-{fault[1]}" for fault in FAULTS]
)
def test_a_planted_fault_is_found(plant, code, episode, robot, besides, tmp_path):
    made = demonstrations()
    plant(made)
    seen = plant in (frozen, swapped, covered)  # without cameras the others take half the time
    findings = check_path(write(tmp_path / "data", made, robot=robot, cameras=seen))
    found = [one for one in findings if one.code == code]
    assert found, findings
    assert episode is None or episode in [one.place.episode for one in found]
    assert {one.code for one in above_notes(findings)} <= besides | {code}, findings
    assert len(found) <= 2, "the fault is told where it is, nowhere else"
    for one in findings:
        assert one.seen and one.remedy[-1] in ".?" and str(one.place)


def test_a_frozen_camera_is_placed(tmp_path):
    made = demonstrations()[:4]
    made[2].front[15:45] = made[2].front[15]
    (found,) = above_notes(check_path(write(tmp_path / "data", made)))
    assert found.code == "frozen-camera" and found.place.feature == layout.image_key("front")
    assert found.place.episode == 2 and found.place.start in range(15, 21) and found.place.stop in range(39, 46)


def test_statistics_that_lie(copy):
    stats = copy / layout.STATS
    true = json.loads(stats.read_text())

    def codes(change: Callable[[dict], object], pictures: Pictures = "none") -> set[tuple[str, str | None]]:
        stored = json.loads(json.dumps(true))
        change(stored)
        stats.write_text(json.dumps(stored))
        return {(found.code, found.place.feature) for found in check_path(copy, pictures=pictures)}

    assert codes(lambda stored: stored["action"]["mean"].__setitem__(1, 9.0)) == {("wrong-statistics", "action")}
    assert codes(lambda stored: stored["action"]["max"].__setitem__(1, 9.0)) == {("wrong-statistics", "action")}
    assert codes(lambda stored: stored["action"]["q99"].__setitem__(1, 9.0)) == {("wrong-statistics", "action")}
    assert codes(lambda stored: stored["action"]["std"].__setitem__(1, float("nan"))) == {
        ("wrong-statistics", "action")
    }
    assert codes(lambda stored: stored["action"].__setitem__("count", [3])) == {("wrong-statistics", "action")}
    assert codes(lambda stored: stored["action"].__setitem__("mean", [1.0])) == {("wrong-statistics", "action")}
    assert codes(lambda stored: stored["action"].pop("min")) == {("wrong-statistics", "action")}
    assert codes(lambda stored: stored.pop(layout.STATE)) == {("missing-statistics", layout.STATE)}
    middle = true["action"]["q50"]
    assert codes(lambda stored: stored["action"].__setitem__("q01", middle)) == {("averaged-quantiles", "action")}
    front = layout.image_key("front")
    bytes_range = [[[255 * value[0][0]]] for value in true[front]["mean"]]
    assert codes(lambda stored: stored[front].__setitem__("mean", bytes_range), "sampled") == {
        ("wrong-statistics", front)
    }
    stats.write_text("{")
    assert {found.code for found in check_path(copy, pictures="none")} == {"unreadable-statistics"}
    stats.unlink()
    assert {found.code for found in check_path(copy, pictures="none")} == {"missing-statistics"}


def test_statistics_of_an_episode_that_lie(copy):
    path = copy / layout.EPISODES.format(**layout.place(3))
    edit_table(path, {"stats/action/mean": lambda rows: [[value + 1 for value in row] for row in rows]})
    (found,) = check_path(copy)
    assert (found.code, found.place.episode, found.place.feature) == ("wrong-statistics", 3, "action")


def test_older_formats_are_checked_too(clean, tmp_path):
    old = write_v2(clean, tmp_path / "v21")
    lines = old / "meta/episodes_stats.jsonl"
    lines.unlink(missing_ok=True)
    (found,) = check_path(old, pictures="none")
    assert found.code == "missing-statistics" and lines.name in found.seen
    dataset = open_dataset(old)
    rows = [
        {"episode_index": one.index, "stats": {"action": summarize(dataset.arrays["action"][one.start : one.stop])}}
        for one in dataset.episodes
    ]
    write_lines(lines, rows)
    assert check_path(old, pictures="none") == ()
    rows[2]["stats"]["action"]["max"][0] += 1
    write_lines(lines, rows)
    (found,) = check_path(old, pictures="none")
    assert (found.code, found.place.episode) == ("wrong-statistics", 2)
    assert above_notes(check_path(write_gr00t(clean, tmp_path / "gr00t"))) == []


def test_written_statistics_are_true(tmp_path, capsys):
    """lerobot's averaged quantiles are gone after --write, in a data set that lerobot wrote."""
    root = Path(shutil.copytree(SAMPLE, tmp_path / "sample", copy_function=shutil.copyfile))
    assert main(["data", "stats", str(root), "--write", "--quantiles", "0.25", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    dataset = open_dataset(root)
    expected = np.quantile(dataset.arrays["action"].astype(float), 0.25, axis=0)
    assert told["features"]["action"]["quantiles"]["0.25"] == pytest.approx(expected, rel=1e-12)
    assert check_path(root) == ()
    stored = json.loads((root / layout.STATS).read_text())
    original = json.loads((SAMPLE / layout.STATS).read_text())
    assert stored.keys() == original.keys()
    for name, one in original.items():
        # Of pictures lerobot measures what the camera gave, volar what the video kept.
        for kind in ("mean", "std", "count") if "images" in name else ("min", "max", "mean", "std", "count"):
            np.testing.assert_allclose(stored[name][kind], one[kind], atol=0.02 if "images" in name else 1e-6)


def test_statistics_beyond_memory_come_from_a_sketch(clean, monkeypatch):
    dataset = open_dataset(clean, lazy=True)
    exact = measure(dataset, [0.1, 0.9], progress=False)
    monkeypatch.setattr("volar.data.measure.EXACT_BYTES", 0)
    monkeypatch.setattr("volar.data.streaming.BUFFER", 64)
    monkeypatch.setattr("volar.data.measure.LEAST_ROWS", 100)
    sketched = measure(dataset, [0.1, 0.9], progress=False)
    for name, one in sketched.items():
        assert exact[name].rank_error == 0 < one.rank_error < 0.05
        np.testing.assert_array_equal(one.min, exact[name].min)
        values = open_dataset(clean).arrays[name].reshape(dataset.num_frames, -1)
        for d, answer in enumerate(one.quantiles[0]):
            assert rank_gap(values[:, d], answer, 0.1) <= one.rank_error
    with pytest.raises(ConfigError, match=r"0\.01 for 1 %; got 99"):
        measure(dataset, [99.0], progress=False)


def test_every_refused_episode_is_told(copy):
    edit_table(data_file(copy, 2), {"timestamp": lambda rows: [time + 0.4 * (time > 1.0) for time in rows]})
    edit_table(data_file(copy, 5), {"action": lambda rows: [*rows[:7], [float("nan")] * 4, *rows[8:]]})
    edit_table(data_file(copy, 7), {"frame_index": lambda rows: rows[::-1]})
    found = {one.place.episode: one for one in check_path(copy)}
    assert {episode: one.code for episode, one in found.items()} == {
        2: "time-gap", 5: "not-finite", 7: "unreadable-numbers"
    }  # fmt: skip
    assert found[2].place.start == 20 and "0.450 s" in found[2].seen
    assert (found[5].place.feature, found[5].place.start, found[5].place.stop) == ("action", 7, 8)


def test_times_that_only_lerobot_refuses(copy):
    edit_table(data_file(copy, 2), {"timestamp": lambda rows: [time + 0.0005 * (time > 1.0) for time in rows]})
    (found,) = check_path(copy)
    assert (found.code, found.severity, found.place.episode) == ("uneven-times", Severity.NOTE, 2)


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_damaged_video_is_placed(copy, damage):
    video = copy / layout.VIDEO.format(video_key=layout.image_key("front"), **layout.place(4))
    content = bytearray(video.read_bytes())
    middle = content.index(b"mdat") + 40
    content[middle : middle + 30] = bytes(30)
    if damage == "missing":
        video.unlink()
    else:
        video.write_bytes(content if damage == "flipped" else content[:-50])
    found = above_notes(check_path(copy))
    assert [one.place.episode for one in found if one.code == "unreadable-pictures"] == [4]
    assert {one.severity for one in found} == {Severity.ERROR}


@pytest.mark.parametrize(
    "instruction, code",
    [
        ("  ", "empty-instruction"),
        ("TODO", "placeholder-instruction"),
        ("shut the \ufffd lid", "control-characters"),
        ("open the\x07 door", "control-characters"),
        ("lift  the lid ", "untidy-spaces"),
        ("Open the faucet.", "instruction-variants"),
        ("open the fuacet", "instruction-typo"),
        ("lift", "one-word-instruction"),
        ("lift_the_lid", "identifier-instruction"),
    ],
)
def test_a_bad_instruction_is_found(instruction, code, tmp_path):
    made = demonstrations()
    made[3].instruction = instruction
    found = check_path(write(tmp_path / "data", made, cameras=False))
    assert [(one.code, one.place.episode) for one in found] == [(code, 3)]


@pytest.mark.parametrize(
    "instruction", ["open the drawer", "push the puck to the hall", "pousse le palet à gauche", "打开水龙头 现在"]
)
def test_other_instructions_are_not_suspected(instruction, tmp_path):
    made = demonstrations()
    for one in made[:6]:
        one.instruction = instruction
    assert check_path(write(tmp_path / "data", made, cameras=False)) == ()


def test_a_task_that_nobody_does(copy):
    tasks = pq.read_table(copy / layout.TASKS)
    more = pa.table({"task_index": [len(tasks)], "task": ["fly"]}).cast(tasks.schema)
    pq.write_table(pa.concat_tables([tasks, more]), copy / layout.TASKS)
    (found,) = check_path(copy, pictures="none")
    assert found.code == "unused-task" and "'fly'" in found.seen


def test_exit_codes_and_output_for_ci(clean, copy, capsys):
    assert main(["data", "check", str(clean)]) == 0
    assert capsys.readouterr().out == "Nothing found.\n"
    (copy / layout.STATS).unlink()
    assert main(["data", "check", str(copy)]) == 0, "a warning is no error"
    assert "missing-statistics" in capsys.readouterr().out
    assert main(["data", "check", str(copy), "--fail-on", "warning", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"error": 0, "warning": 1, "note": 0}
    assert told["findings"][0]["place"] == {"feature": None, "episode": None, "start": None, "stop": None}
    assert main(["data", "check", str(copy / "nowhere")]) == 2
    assert "does-not-open" in capsys.readouterr().out


def test_info_tells_how_pictures_are_stored(clean, capsys):
    assert main(["data", "info", str(clean)]) == 0
    shown = capsys.readouterr().out
    assert "video (h264, a key frame every" in shown and "image (png)" in shown and "fits into the cache" in shown
    front, wrist = stored_forms(open_dataset(clean, decoded_bytes=2 * 10**6))
    total = sum(path.stat().st_size for path in clean.rglob("*.mp4"))
    num_frames = open_dataset(clean).num_frames
    assert front.bytes_per_frame == pytest.approx(total / num_frames) and wrist.codec == "png"
    assert front.decoded_bytes == num_frames * 24 * 32 * 3 and front.fits and not wrist.fits and front.read_ms > 0


def test_the_guide_explains_every_finding():
    """docs/data.md has one row per code, and no row for a code that no check gives."""
    given = set()
    for path in [ROOT / "src/volar/data/check.py", *(ROOT / "src/volar/data/inspection").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = node.args[0].value
                if (
                    isinstance(name, str)
                    and re.fullmatch("idle|lag|spike|[a-z]+(-[a-z]+)+", name)
                    and len(node.args) > 2
                ):
                    given.add(name)
    table = (ROOT / "docs/data.md").read_text().split("| code | severity |")[1].split("\n\n")[0]
    told = re.findall(r"^\| `([a-z-]+)` \|", table, flags=re.M)
    assert sorted(told) == sorted(given) and len(given) > len(CHECKS)
