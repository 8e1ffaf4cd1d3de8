"""Recording survives whatever kills it; reading gives back what was recorded, or names the file that is damaged."""

import contextlib
import errno
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from recordings import INSTRUCTIONS, SPEC, make_trajectory, open_writer, record
from torch.utils.data import DataLoader

from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.dataset import Dataset
from volar.data.describe import describe_dataset
from volar.data.features import cached_features
from volar.data.formats import open_dataset
from volar.data.video import encode_video
from volar.data.windows import WindowBatch, Windows, selected_frames, split_episodes

HERE = Path(__file__).parent
SAMPLE = HERE.parent.parent / "shared" / "data" / "lerobot_v3_sample"
with_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample written by lerobot is not beside the checkout")


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "recorded"
    with open_writer(root) as writer:
        for seed in range(6):
            assert record(writer, seed) == seed
    return root


@pytest.fixture
def copy(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "copy"))


def assert_holds(dataset: Dataset, seeds: list[int]) -> None:
    """Every number and every losslessly stored picture is what the seeds made, bit for bit."""
    made = [make_trajectory(seed) for seed in seeds]
    assert [episode.source["seed"] for episode in dataset.episodes] == seeds
    assert [episode.length for episode in dataset.episodes] == [len(episode.actions) for episode in made]
    for name, part in {
        layout.ACTION: [episode.actions for episode in made],
        layout.STATE: [episode.proprioception for episode in made],
        layout.EXECUTED: [episode.executed for episode in made],
        layout.REWARD: [episode.rewards[:, None] for episode in made],
    }.items():
        assert np.array_equal(dataset.arrays[name], np.concatenate(part)), name
    tasks = [dataset.tasks[task] for task in dataset.arrays["task_index"]]
    assert tasks == [INSTRUCTIONS[s % 3] for s, e in zip(seeds, made, strict=True) for _ in e.actions]
    everything = range(dataset.num_frames)
    assert np.array_equal(dataset.frames("wrist", everything), np.concatenate([e.images["wrist"] for e in made]))
    film = np.concatenate([episode.images["front"] for episode in made])
    assert np.abs(dataset.frames("front", everything).astype(int) - film).mean() < 4


# ---- writing ----


def test_what_is_recorded_is_read(recorded: Path) -> None:
    dataset = open_dataset(recorded)
    assert_holds(dataset, list(range(6)))
    assert (dataset.spec, dataset.fps, dataset.facts) == (SPEC, 20.0, {"renderer": "none"})
    assert dataset.cameras == SPEC.cameras


def test_stats_json_is_exact_once_closed(recorded: Path) -> None:
    stored = json.loads((recorded / layout.STATS).read_text())
    dataset = open_dataset(recorded)
    values = dataset.arrays[layout.ACTION].astype(np.float64)
    assert stored["action"]["count"] == [dataset.num_frames]
    np.testing.assert_allclose(stored["action"]["std"], values.std(0), rtol=1e-12)
    for name, quantile in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
        np.testing.assert_allclose(stored["action"][name], np.quantile(values, quantile, axis=0), rtol=1e-12)
    pixels = dataset.frames("wrist", range(dataset.num_frames)).reshape(-1, 3) / 255
    wrist = stored["observation.images.wrist"]
    assert np.shape(wrist["mean"]) == (3, 1, 1)
    np.testing.assert_allclose(np.ravel(wrist["mean"]), pixels.mean(0), rtol=1e-9)
    np.testing.assert_allclose(np.ravel(wrist["std"]), pixels.std(0), rtol=1e-9)
    np.testing.assert_allclose(np.ravel(wrist["q99"]), np.quantile(pixels, 0.99, axis=0), rtol=1e-9)
    np.testing.assert_allclose(np.ravel(wrist["min"]), pixels.min(0), rtol=1e-9)


def test_a_reopened_recording_goes_on(tmp_path: Path) -> None:
    for start in (0, 2):
        with open_writer(tmp_path / "d") as writer:
            assert writer.saved == [{"seed": seed, "success": True} for seed in range(start)]
            for seed in range(start, start + 2):
                record(writer, seed)
    assert_holds(open_dataset(tmp_path / "d"), [0, 1, 2, 3])
    straight = tmp_path / "straight"
    with open_writer(straight) as writer:
        for seed in range(4):
            record(writer, seed)
    assert (tmp_path / "d" / layout.STATS).read_bytes() == (straight / layout.STATS).read_bytes()
    assert open_dataset(tmp_path / "d").content_hash() == open_dataset(straight).content_hash()


def test_kill_9_at_random_moments_loses_only_the_episode_in_progress(tmp_path: Path) -> None:
    root, generator, saved = tmp_path / "d", np.random.default_rng(0), 0
    for _ in range(10):
        child = subprocess.Popen([sys.executable, HERE / "recordings.py", root], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(int(generator.integers(1, 4))):
            saved = int(child.stdout.readline()) + 1
        time.sleep(generator.uniform(0, 0.05))
        child.kill()
        rest = child.communicate()[0].split()
        saved = int(rest[-1]) + 1 if rest else saved
        dataset = open_dataset(root)
        assert len(dataset.episodes) in (saved, saved + 1)  # one more: killed between saving and saying so
        assert_holds(dataset, list(range(len(dataset.episodes))))
        saved = len(dataset.episodes)
    with open_writer(root) as writer:
        assert writer.num_episodes == saved
    assert not list(root.rglob("*.tmp"))


class Killed(BaseException):
    """Ends the process's work on the spot: no handler of ours catches it."""


def test_death_before_any_single_file_is_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, replace_file = tmp_path / "d", os.replace
    with open_writer(root) as writer:
        record(writer, 0)
    for moment in range(8):
        calls = []

        def dying(source: Path, target: Path, moment: int = moment, calls: list[Path] = calls) -> None:
            calls.append(target)
            if len(calls) > moment:
                raise Killed
            replace_file(source, target)

        open_before = len(open_dataset(root).episodes)
        with open_writer(root) as writer:
            monkeypatch.setattr(os, "replace", dying)
            with contextlib.suppress(Killed):
                record(writer, open_before)
            monkeypatch.setattr(os, "replace", replace_file)
        dataset = open_dataset(root)
        assert_holds(dataset, list(range(len(dataset.episodes))))
        assert len(dataset.episodes) == open_before + (
            layout.INFO in {p.relative_to(root).as_posix() for p in calls[:moment]}
        )
    assert len(open_dataset(root).episodes) > 1  # the last moments lie after everything was in place


def test_a_full_disk_is_said_and_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "d"
    with open_writer(root) as writer:
        record(writer, 0)
        with monkeypatch.context() as full:

            def no_space(descriptor: int) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            full.setattr(os, "fsync", no_space)
            with pytest.raises(OSError, match=r"disk is full.*intact.*resume"):
                record(writer, 1)
        assert not list(root.rglob("*.tmp"))
        record(writer, 1)
    assert_holds(open_dataset(root), [0, 1])


def test_another_recording_is_never_touched(recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="already holds a data set"):
        open_writer(recorded, resume=False)
    with pytest.raises(ConfigError, match=r"another recording(.|\n)*extra.renderer: none there, egl now"):
        open_writer(recorded, extra={"renderer": "egl"})
    slow = replace(SPEC, action=replace(SPEC.action, rate_hz=10.0))
    with pytest.raises(ConfigError, match=r"fps: 20 there, 10 now(.|\n)*rate_hz: 20.0 there, 10.0 now"):
        open_writer(recorded, spec=slow, fps=10)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds files but no data set"):
        open_writer(tmp_path)
    with open_writer(tmp_path / "d"), pytest.raises(ConfigError, match="Another process is writing"):
        open_writer(tmp_path / "d")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"fps": 30}, "fps is 30, but the robot's actions come at 20 Hz"),
        ({"camera_storage": {"front": "video"}}, r"No storage chosen for camera\(s\) \['wrist'\]"),
        ({"camera_storage": {"front": "video", "wrsit": "image"}}, "Did you mean 'wrist'"),
        ({"extra": {"env": object()}}, "must be plain JSON"),
        ({"spec": replace(SPEC, cameras=(replace(SPEC.cameras[0], height=25), SPEC.cameras[1]))}, "even sides"),
    ],
)
def test_a_recording_that_cannot_be_is_refused(changes: dict, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=complaint):
        open_writer(tmp_path / "d", **changes)
    assert not (tmp_path / "d").exists()


def test_an_episode_that_does_not_belong_is_refused(tmp_path: Path) -> None:
    good = make_trajectory(0)
    spoiled = good.actions.copy()
    spoiled[2, 1] = np.nan
    with open_writer(tmp_path / "d") as writer:
        for bad, complaint in (
            (replace(good, actions=spoiled), "actions is not finite at step 2"),
            (replace(good, images={"front": good.images["front"]}), "no frame for every step of camera 'wrist'"),
            (
                replace(good, images=good.images | {"wrist": good.images["wrist"][:, :9]}),
                "camera 'wrist' must be uint8",
            ),
            (replace(good, image_steps=(0, 4)), "no frame for every step"),
            (replace(good, proprioception=good.proprioception[:, :2]), "proprioception must be"),
        ):
            with pytest.raises(ConfigError, match=f"Episode 0.*{complaint}"):
                writer.add(bad, "x", source={})
        assert writer.num_episodes == 0
    with pytest.raises(ConfigError, match="no episodes yet"):
        open_dataset(tmp_path / "d")


# ---- reading ----


@with_sample
def test_the_sample_of_lerobot_is_read_exactly() -> None:
    dataset = open_dataset(SAMPLE)
    table = pq.read_table(SAMPLE / "data/chunk-000/file-000.parquet")
    assert (dataset.num_frames, len(dataset.episodes), dataset.fps, dataset.spec) == (111, 4, 10.0, None)
    for name in ("action", "observation.state", "timestamp", "task_index"):
        assert np.array_equal(dataset.arrays[name], np.array(table[name].to_pylist(), dtype=dataset.arrays[name].dtype))
    with av.open(str(SAMPLE / "videos/observation.images.front/chunk-000/file-000.mp4")) as film:
        front = np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])
    cells = table["observation.images.wrist"].to_pylist()
    wrist = np.stack([np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in cells])
    assert np.array_equal(dataset.frames("front", range(111)), front)
    assert np.array_equal(dataset.frames("wrist", range(111)), wrist)
    # Both cameras filmed the same moving square before different walls, so the frames belong to the same moments.
    assert np.abs(front[..., :2].astype(int) - wrist[..., :2]).mean((1, 2, 3)).max() < 4
    order = np.random.default_rng(0).permutation(111)
    shuffled = open_dataset(SAMPLE, decoded_bytes=0)
    for part in np.array_split(order, 20):
        assert np.array_equal(shuffled.frames("front", part), front[part])
        assert np.array_equal(shuffled.frames("wrist", part), wrist[part])


@with_sample
def test_statistics_of_the_sample_are_the_true_ones() -> None:
    truth = json.loads(SAMPLE.with_name("lerobot_v3_sample.true_stats.json").read_text())
    described = json.loads(json.dumps(describe_dataset(SAMPLE)))
    assert (described["kind"], described["episodes"], described["frames"]) == ("dataset", 4, 111)
    for feature, numbers in truth.items():
        for name, values in numbers.items():
            np.testing.assert_allclose(described["statistics"][feature][name], values, rtol=0, atol=1e-9)


def test_frames_do_not_depend_on_how_they_are_kept(recorded: Path, tmp_path: Path) -> None:
    plain = open_dataset(recorded, decoded_bytes=0)
    wanted = [5, 5, 0, plain.num_frames - 1, 3]
    for camera in ("front", "wrist"):
        expected = plain.frames(camera, wanted)
        memory, disk = open_dataset(recorded), open_dataset(recorded, decoded_folder=tmp_path)
        for dataset in (memory, disk):
            for _ in range(2):
                assert np.array_equal(dataset.frames(camera, wanted), expected)
        assert np.array_equal(open_dataset(recorded, decoded_folder=tmp_path).frames(camera, wanted), expected)


def test_a_stored_frame_is_not_decoded_again(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(recorded)
    first = dataset.frames("wrist", [1, 4])

    def forbidden(*arguments: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("volar.data.files.decode_picture", forbidden)
    assert np.array_equal(dataset.frames("wrist", [4, 1]), first[::-1])
    with pytest.raises(AssertionError, match="decoded again"):
        dataset.frames("wrist", [2])


def test_unknown_camera_is_named(recorded: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'wrist'"):
        open_dataset(recorded).frames("wirst", [0])


# ---- damage ----


def edit_json(path: Path, change: Callable[[dict], None]) -> None:
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def edit_column(path: Path, name: str, values: np.ndarray) -> None:
    table = pq.read_table(path)
    position = table.column_names.index(name)
    column = (
        pa.FixedSizeListArray.from_arrays(values.ravel(), values.shape[1]) if values.ndim == 2 else pa.array(values)
    )
    pq.write_table(table.set_column(position, name, column), path)


def test_damaged_files_are_named(copy: Path) -> None:
    video = copy / "videos/observation.images.front/chunk-000/file-002.mp4"
    for path in (copy / "data/chunk-000/file-003.parquet", copy / layout.TASKS, copy / layout.INFO, video):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ConfigError, match=path.name):
            open_dataset(copy)
        path.write_bytes(content)
        path.rename(path.with_name("away"))
        with pytest.raises(ConfigError, match=path.name):
            open_dataset(copy)
        path.with_name("away").rename(path)
    flipped = bytearray(video.read_bytes())
    flipped[len(flipped) // 3] ^= 64
    video.write_bytes(flipped)
    with pytest.raises(ConfigError, match=r"file-002\.mp4 is not what was recorded"):
        dataset = open_dataset(copy)
        dataset.frames("front", range(dataset.num_frames))


def test_any_damage_is_either_named_or_harmless(copy: Path) -> None:
    """Cuts, flips and holes in every file: a ConfigError that names the place, or the same data. Never another error,
    never other data."""

    def content(root: Path) -> list[bytes]:
        dataset = open_dataset(root)
        pictures = [dataset.frames(camera.name, range(dataset.num_frames)).tobytes() for camera in SPEC.cameras]
        return [array.tobytes() for array in dataset.arrays.values()] + pictures

    whole, generator, named = content(copy), np.random.default_rng(0), 0
    files = [path for path in sorted(copy.rglob("*.*")) if path.is_file() and path.name not in (".lock", "stats.json")]
    for path in files:
        good = path.read_bytes()
        for _ in range(6):
            bad, place = bytearray(good), int(generator.integers(len(good)))
            kind = generator.integers(4)
            if kind == 0:
                bad = bad[:place]
            elif kind == 1:
                bad[place] ^= 1 << int(generator.integers(8))
            elif kind == 2:
                bad[place : place + 16] = generator.bytes(len(bad[place : place + 16]))
            else:
                del bad[place : place + int(generator.integers(1, 64))]
            path.write_bytes(bad)
            try:
                assert content(copy) == whole, f"{path} damaged at {place} (kind {kind}) gave other data"
            except ConfigError as error:
                assert str(copy) in str(error)
                named += 1
        path.write_bytes(good)
    assert named > 3 * len(files)


def test_contradictions_are_told(copy: Path) -> None:
    data, info = copy / "data/chunk-000/file-004.parquet", copy / layout.INFO
    good = info.read_bytes()
    for change, complaint in (
        (lambda i: i.update(codebase_version="v1.6"), "version v1.6, which volar does not read. It reads.*v3.0"),
        (lambda i: i.update(fps=30), "at 30 frames a second is due"),
        (lambda i: i.update(total_frames=1), "info.json counts 1 frames"),
        (lambda i: i.update(total_episodes=9), "info.json counts 9 episodes"),
        (lambda i: i["features"]["action"].update(shape=[5]), "contradicts itself"),
        (lambda i: i["features"]["observation.state"].update(shape=[5]), "has 3 numbers a row, 5 are declared"),
        (lambda i: i["features"]["observation.images.wrist"].update(shape=[18, 18, 1]), "contradicts itself"),
        (lambda i: i["volar"]["spec"]["action"].update(gripper="positive_opens"), "not what was recorded"),
    ):
        edit_json(info, change)
        with pytest.raises(ConfigError, match=complaint):
            open_dataset(copy)
        info.write_bytes(good)
    actions = make_trajectory(4).actions
    actions[1, 0] = np.inf
    edit_column(data, "action", actions)
    with pytest.raises(ConfigError, match=r"'action' is not finite.*episode\(s\) \[4\]"):
        open_dataset(copy)
    edit_column(data, "action", make_trajectory(4).actions)
    edit_column(data, "index", np.arange(len(actions)))
    with pytest.raises(ConfigError, match="has index 0, by the episode table"):
        open_dataset(copy)


def test_a_video_of_another_rate_is_told(copy: Path) -> None:
    path = copy / "videos/observation.images.front/chunk-000/file-001.mp4"
    row = copy / "meta/episodes/chunk-000/file-001.parquet"
    table = pq.read_table(row)
    pq.write_table(table.drop_columns([layout.CHECKSUM + "observation.images.front"]), row)
    path.write_bytes(encode_video(make_trajectory(1).images["front"], 13.0))
    with pytest.raises(ConfigError, match=r"file-001\.mp4 has no frame at.*frame rate differs"):
        dataset = open_dataset(copy)
        dataset.frames("front", range(dataset.num_frames))


def test_no_data_set_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"no meta/info\.json"):
        open_dataset(tmp_path)


# ---- windows and features ----


def slow_window(dataset: Dataset, row: int, horizon: int) -> tuple[list[np.ndarray], list[bool]]:
    """One step at a time, as the definition reads."""
    actions, valid, episode = [], [], dataset.arrays["episode_index"][row]
    for ahead in range(horizon):
        inside = row + ahead < dataset.num_frames and dataset.arrays["episode_index"][row + ahead] == episode
        actions.append(dataset.arrays["action"][row + ahead] if inside else actions[-1])
        valid.append(bool(inside))
    return actions, valid


@pytest.mark.parametrize(("horizon", "stride"), [(1, 1), (5, 1), (50, 3)])
def test_windows_equal_a_slow_reading(recorded: Path, horizon: int, stride: int) -> None:
    dataset, chosen = open_dataset(recorded), (1, 4, 5)
    windows = Windows(
        dataset, horizon=horizon, cameras=["front", "wrist"], episodes=chosen, stride=stride, images=True, features=None
    )
    rows = [row for e in chosen for row in range(dataset.episodes[e].start, dataset.episodes[e].stop, stride)]
    assert len(windows) == len(rows)
    order = np.random.default_rng(0).permutation(len(rows))
    batch = windows.__getitems__(order.tolist())
    for position, index in enumerate(order):
        row = rows[index]
        actions, valid = slow_window(dataset, row, horizon)
        assert np.array_equal(batch.actions[position], actions) and batch.valid[position].tolist() == valid
        assert np.array_equal(batch.proprioception[position], dataset.arrays["observation.state"][row])
        assert batch.instructions[position] == dataset.tasks[dataset.arrays["task_index"][row]]
        assert batch.episode[position] == dataset.arrays["episode_index"][row]
        assert batch.frame[position] == dataset.arrays["frame_index"][row]
        for camera in ("front", "wrist"):
            assert np.array_equal(batch.images[camera][position], dataset.frames(camera, [row])[0])
    assert np.array_equal(windows[int(order[0])].actions[0], batch.actions[0])


def test_no_picture_of_the_chunk_is_decoded(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from volar.data import files

    decode, rows = files.decode_picture, []
    monkeypatch.setattr(
        files,
        "decode_picture",
        lambda cell, camera, path, row: (rows.append(row), decode(cell, camera, path, row))[1],
    )
    dataset = open_dataset(recorded, decoded_bytes=0)
    windows = Windows(dataset, horizon=50, cameras=["wrist"], episodes=range(6), images=True, features=None)
    windows.__getitems__([0, 7, 11])
    assert sorted(rows) == [0, 7, 11]


def as_it_is(batch: WindowBatch) -> WindowBatch:
    return batch


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_the_same(recorded: Path, context: str) -> None:
    dataset = open_dataset(recorded)
    windows = Windows(dataset, horizon=4, cameras=["front"], episodes=range(6), images=True, features=None)
    expected = windows.__getitems__(range(len(windows)))  # also opens decoders before the workers are made
    loader = DataLoader(windows, batch_size=8, num_workers=1, collate_fn=as_it_is, multiprocessing_context=context)
    assert np.array_equal(np.concatenate([batch.images["front"] for batch in loader]), expected.images["front"])


def test_windows_refuse_what_does_not_fit(recorded: Path) -> None:
    dataset = open_dataset(recorded)
    good = {"horizon": 4, "cameras": ["front"], "episodes": range(6), "images": True, "features": None}
    for changes, complaint in (
        ({"horizon": 0}, "horizon must be at least 1"),
        ({"cameras": ["top"]}, "No camera"),
        ({"episodes": [5, 6]}, r"episodes 0 to 5, asked for \[6\]"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"features": {"front": np.zeros((3, 2))}}, "'front' have 3 rows, stride 1"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            Windows(dataset, **(good | changes))


def test_split_holds_out_of_every_task(recorded: Path) -> None:
    dataset = open_dataset(recorded)
    split = split_episodes(dataset, 0.4, seed=0)
    assert sorted(split.train + split.validation) == list(range(6))
    assert {dataset.episodes[e].tasks for e in split.validation} == {(task,) for task in INSTRUCTIONS}
    assert split == split_episodes(dataset, 0.4, seed=0)
    assert len({split_episodes(dataset, 0.4, seed=seed).validation for seed in range(5)}) > 1
    assert split_episodes(dataset, 0.0, seed=0).validation == ()
    with pytest.raises(ConfigError, match="must be in"):
        split_episodes(dataset, 1.0, seed=0)


def test_features_are_computed_once_and_a_killed_pass_goes_on(recorded: Path, tmp_path: Path) -> None:
    dataset, seen = open_dataset(recorded), []

    def compute(pictures: np.ndarray) -> np.ndarray:
        seen.append(len(pictures))
        if len(seen) == 20:
            raise Killed
        return pictures.astype(np.float32).mean((1, 2))

    arguments = {"stride": 2, "compute": compute, "folder": tmp_path, "progress": False, "batch": 1}
    with pytest.raises(Killed):
        cached_features(dataset, "front", key="a", **arguments)
    features = cached_features(dataset, "front", key="a", **arguments)
    rows = selected_frames(dataset, 2)
    assert len(seen) == 20 + len(rows) - 16 < 20 + len(rows)
    expected = dataset.frames("front", rows).astype(np.float32).mean((1, 2)).astype(np.float16)
    assert features.dtype == np.float16 and np.array_equal(features, expected)
    before = len(seen)
    cached_features(dataset, "front", key="a", **arguments)
    assert len(seen) == before
    cached_features(dataset, "front", key="b", **arguments)
    assert len(seen) == before + len(rows)
    windows = Windows(
        dataset, horizon=2, cameras=[], episodes=[2, 5], stride=2, images=False, features={"front": features}
    )
    sent = pickle.dumps(windows)  # as to a worker: the place of the features, not the features
    assert features[1:4].tobytes() not in sent and b"features.npy" in sent
    batch = pickle.loads(sent).__getitems__(range(len(windows)))
    at = [dataset.episodes[e].start + f for e, f in zip(batch.episode, batch.frame, strict=True)]
    assert np.array_equal(batch.features["front"], expected[np.searchsorted(rows, at)])


def test_features_that_do_not_fit_half_precision_are_refused(recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="do not fit float16"):
        cached_features(
            open_dataset(recorded), "front", key="a", compute=lambda pictures: np.full((len(pictures), 2), 1e6),
            folder=tmp_path, progress=False,
        )  # fmt: skip


# ---- the original ----

PEER = os.environ.get("VOLAR_LEROBOT_PYTHON")


@pytest.mark.skipif(not PEER, reason="VOLAR_LEROBOT_PYTHON names no python that has lerobot")
def test_lerobot_reads_what_we_write(recorded: Path, tmp_path: Path) -> None:
    assert PEER
    out = tmp_path / "peer.npz"
    subprocess.run([PEER, HERE / "lerobot_reads.py", recorded, out], check=True, capture_output=True)
    theirs, dataset = np.load(out, allow_pickle=False), open_dataset(recorded)
    for name in (layout.ACTION, layout.STATE, layout.EXECUTED, "timestamp", "episode_index", "index"):
        assert np.array_equal(theirs[name], dataset.arrays[name]), name
    assert np.array_equal(theirs["wrist"], dataset.frames("wrist", range(dataset.num_frames)))
    assert np.abs(theirs["front"].astype(int) - dataset.frames("front", range(dataset.num_frames))).max() <= 3
    assert theirs["task"].tolist() == [dataset.tasks[task] for task in dataset.arrays["task_index"]]
    windows = Windows(dataset, horizon=7, cameras=[], episodes=range(6), images=False, features=None)
    batch = windows.__getitems__(range(len(windows)))
    assert np.array_equal(theirs["chunk"], batch.actions) and np.array_equal(~theirs["padded"], batch.valid)
    np.testing.assert_allclose(theirs["mean"], dataset.statistics()[layout.ACTION].mean, rtol=1e-6)


def test_writing_needs_no_torch() -> None:
    code = "import sys, volar.data.writer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
