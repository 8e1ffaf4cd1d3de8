"""Every LeRobot-like format gives the same numbers and pictures; what is damaged, absurd or elsewhere is refused."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from older_formats import MODALITY, write_gr00t, write_lines, write_v2
from recordings import open_writer, record
from torch.utils.data import DataLoader

from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.dataset import Dataset
from volar.data.formats import open_dataset
from volar.data.windows import WindowBatch, Windows, split_episodes


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("formats") / "recorded"
    with open_writer(root) as writer:
        for seed in range(6):
            record(writer, seed)
    return root


@pytest.fixture(scope="module")
def v21(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v2(recorded, tmp_path_factory.mktemp("formats") / "v21")


@pytest.fixture
def copy(v21: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(v21, tmp_path / "copy"))


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def assert_same(dataset: Dataset, original: Dataset) -> None:
    rows = range(original.num_frames)
    assert sorted(dataset.arrays) == sorted(original.arrays)
    for name, values in original.arrays.items():
        assert dataset.arrays[name].dtype == values.dtype and np.array_equal(dataset.arrays[name], values), name
        assert np.array_equal(dataset.rows(name, rows), values), name
    for camera in ("front", "wrist"):
        assert np.array_equal(dataset.frames(camera, rows), original.frames(camera, rows)), camera
    assert (dataset.tasks, dataset.fps) == (original.tasks, original.fps)
    assert [(e.start, e.stop, e.tasks) for e in dataset.episodes] == [
        (e.start, e.stop, e.tasks) for e in original.episodes
    ]
    assert dataset.statistics() == original.statistics()


# ---- older versions ----


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
@pytest.mark.parametrize("lazy", [False, True])
def test_older_versions_hold_the_same(recorded: Path, tmp_path: Path, version: str, lazy: bool) -> None:
    dataset = open_dataset(write_v2(recorded, tmp_path / "old", version), lazy=lazy)
    assert dataset.format == f"LeRobot {version}"
    assert_same(dataset, open_dataset(recorded))


def test_what_was_noted_of_an_episode_is_kept(copy: Path) -> None:
    path = copy / "meta/episodes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["success"] = False
    write_lines(path, lines)
    assert [episode.source for episode in open_dataset(copy).episodes[1:3]] == [{}, {"success": False}]


def test_damage_of_older_versions_is_named(copy: Path) -> None:
    video = copy / "videos/chunk-001/observation.images.front/episode_000005.mp4"
    parquet = copy / "data/chunk-000/episode_000003.parquet"
    for path in (video, parquet, copy / "meta/episodes.jsonl", copy / "meta/tasks.jsonl", copy / layout.INFO):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])
        with pytest.raises(ConfigError, match=path.name):
            open_dataset(copy)
        path.unlink()
        with pytest.raises(ConfigError, match=path.name):
            open_dataset(copy)
        path.write_bytes(content)
    shutil.copy(copy / "data/chunk-000/episode_000002.parquet", parquet)
    with pytest.raises(ConfigError, match=r"episode_000003\.parquet holds|has (index|episode_index)"):
        open_dataset(copy)


def test_contradictions_of_older_versions_are_told(copy: Path) -> None:
    info, episodes, tasks = (copy / "meta" / name for name in ("info.json", "episodes.jsonl", "tasks.jsonl"))
    lines = [json.loads(line) for line in episodes.read_text().splitlines()]
    words = [json.loads(line) for line in tasks.read_text().splitlines()]
    for path, content, complaint in (
        (episodes, lines[:-1], "counts 6 episodes, there are 5"),
        (episodes, [*lines[:2], lines[3], lines[2], *lines[4:]], "episode 2 is missing, out of order"),
        (episodes, [{**lines[0], "length": -3}, *lines[1:]], "episode 0 claims -3 frames"),
        (episodes, [{**lines[0], "length": 10**12}, *lines[1:]], "the episodes have"),
        (episodes, [{**lines[0], "tasks": "open"}, *lines[1:]], "tasks of episode 0 must be a list"),
        (tasks, words[1:], "no task 0"),
        (tasks, [*words[:2], {"task_index": 2}], "no words"),
    ):
        good = path.read_bytes()
        write_lines(path, content)
        with pytest.raises(ConfigError, match=complaint):
            open_dataset(copy)
        path.write_bytes(good)
    good = info.read_bytes()
    for change, complaint in (
        (lambda i: i.update(chunks_size=0), "no positive chunks_size"),
        (lambda i: i.update(fps=30), "at 30 frames a second is due"),
        (lambda i: i.update(codebase_version="v1.6"), "version v1.6, which volar does not read"),
        (lambda i: i.update(data_path="data/{episode_index}{chunk_index}.parquet"), "data_path is damaged"),
    ):
        edit(info, change)
        with pytest.raises(ConfigError, match=complaint):
            open_dataset(copy)
        info.write_bytes(good)


# ---- absurd sizes, and files elsewhere ----


def test_absurd_sizes_are_refused_before_memory_is_asked_for(copy: Path) -> None:
    info, episodes = copy / layout.INFO, copy / "meta/episodes.jsonl"
    good, lines = info.read_bytes(), [json.loads(line) for line in episodes.read_text().splitlines()]
    for change, complaint in (
        (lambda i: i["features"]["observation.images.front"].update(shape=[1_000_000, 1_000_000, 3]), "at most 16384"),
        (lambda i: i["features"]["observation.images.front"].update(shape=[16_384, 16_384, 3]), "declared are 16384"),
        (lambda i: i["features"]["action"].update(shape=[10**15]), "4 numbers a row, 1000000000000000 are declared"),
        (lambda i: i["features"]["action"].update(shape=[10**9] * 9), "numbers a row, 1" + "0" * 81),
        (lambda i: i.update(total_frames=10**12), "counts 1000000000000 frames"),
        (lambda i: i.update(total_episodes=10**12), "counts 1000000000000 episodes"),
        (lambda i: i.update(data_path="data/{episode_index:0999999999d}"), "data_path is damaged"),
    ):
        edit(info, change)
        with pytest.raises(ConfigError, match=complaint):
            open_dataset(copy).frames("front", [0, 1])
        info.write_bytes(good)
    added = 10**12 - lines[0]["length"]
    write_lines(episodes, [{**lines[0], "length": 10**12}, *lines[1:]])
    edit(info, lambda i: i.update(total_frames=i["total_frames"] + added))
    for lazy in (False, True):
        with pytest.raises(ConfigError, match="1000000000000 frames are declared in data/chunk-000/episode_000000"):
            open_dataset(copy, lazy=lazy).rows("action", [0])


def test_nothing_outside_the_root_is_read(copy: Path, tmp_path: Path) -> None:
    parquet = copy / "data/chunk-000/episode_000000.parquet"
    outside = parquet.rename(tmp_path / "outside.parquet")
    parquet.symlink_to(outside)
    with pytest.raises(ConfigError, match=r"episode_000000\.parquet is a link out of the data set"):
        open_dataset(copy)
    parquet.unlink()
    os.mkfifo(parquet)
    with pytest.raises(ConfigError, match=r"episode_000000\.parquet is missing"):
        open_dataset(copy)
    parquet.unlink()
    shutil.copy(outside, copy / "inside.parquet")
    parquet.symlink_to(copy / "inside.parquet")
    open_dataset(copy)
    for template in ("../{episode_index}", "/etc/{episode_index}", "data/../../{episode_index}"):
        edit(copy / layout.INFO, lambda info, template=template: info.update(data_path=template))
        with pytest.raises(ConfigError, match="outside the data set"):
            open_dataset(copy)


def test_words_that_are_not_utf8_are_refused(copy: Path, recorded: Path, tmp_path: Path) -> None:
    path = copy / "meta/tasks.jsonl"
    path.write_bytes(path.read_bytes().replace(b"open", b"\xff\xfe"))
    with pytest.raises(ConfigError, match=r"tasks\.jsonl is corrupt: it is not UTF-8"):
        open_dataset(copy)
    root = Path(shutil.copytree(recorded, tmp_path / "v3"))
    table = pq.read_table(root / layout.TASKS)
    raw = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe"))
    words = pa.concat_arrays([raw, pa.array(table["task"].to_pylist()[1:])])
    pq.write_table(table.set_column(table.column_names.index("task"), "task", words), root / layout.TASKS)
    with pytest.raises(ConfigError, match=r"tasks\.parquet: column .task. is not UTF-8"):
        open_dataset(root)


def test_what_is_no_data_set_is_told_with_what_would_be(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ConfigError, match=r"(?s)no meta/info\.json.*GR00T: meta/modality\.json"):
        open_dataset(tmp_path)


# ---- GR00T ----


@pytest.fixture
def gr00t(recorded: Path, tmp_path: Path) -> Path:
    return write_gr00t(recorded, tmp_path / "gr00t")


@pytest.mark.parametrize("lazy", [False, True])
def test_gr00t_is_shown_as_its_modalities_say(recorded: Path, gr00t: Path, lazy: bool) -> None:
    dataset, original = open_dataset(gr00t, lazy=lazy), open_dataset(recorded)
    rows = np.arange(original.num_frames)
    assert dataset.format == "GR00T"
    assert dataset.features["action"]["names"] == ["grip", "move.dx", "move.dy", "move.dz"]
    assert dataset.features["observation.state"]["names"] == ["position.x", "position.y", "height"]
    actions, times = dataset.rows("action", rows), dataset.rows("timestamp", rows)
    assert np.array_equal(actions, original.arrays["action"][:, [3, 0, 1, 2]])
    assert np.array_equal(dataset.rows("observation.state", rows), original.arrays["observation.state"])
    assert [camera.name for camera in dataset.cameras] == ["ego"]
    assert np.array_equal(dataset.frames("ego", rows), original.frames("front", rows))
    np.testing.assert_allclose(times, original.arrays["timestamp"], atol=1e-6)
    for name in ("frame_index", "index", "task_index"):
        assert np.array_equal(dataset.rows(name, rows), original.arrays[name])
    annotation = dataset.rows("annotation.human.action.task_description", rows)
    assert np.array_equal(annotation[:, 0], original.arrays["task_index"])
    assert dataset.content_hash() == open_dataset(gr00t, lazy=not lazy).content_hash()


def test_an_annotation_is_the_instruction(recorded: Path, gr00t: Path) -> None:
    """Two annotations with columns of their own; the one that describes the task counts, not task_index."""
    tasks = gr00t / "meta/tasks.jsonl"
    tasks.write_text(tasks.read_text() + json.dumps({"task_index": 3, "task": "valid"}) + "\n")
    for path in gr00t.glob("data/*/*.parquet"):
        table = pq.read_table(path)
        three = pa.array([3] * len(table))
        table = table.append_column("annotation.human.action.task_description", table["task_index"])
        table = table.append_column("annotation.human.validity", three)
        pq.write_table(table.set_column(table.column_names.index("task_index"), "task_index", three), path)
    column = {"dtype": "int64", "shape": [1], "names": None}
    names = ("human.action.task_description", "human.validity")
    edit(gr00t / layout.INFO, lambda info: info["features"].update({f"annotation.{name}": column for name in names}))
    edit(gr00t / "meta/modality.json", lambda data: data.update(annotation={name: {} for name in names}))
    dataset, original = open_dataset(gr00t), open_dataset(recorded)
    assert np.array_equal(dataset.arrays["task_index"], original.arrays["task_index"])
    assert (dataset.arrays["annotation.human.validity"] == 3).all()
    windows = Windows(dataset, horizon=2, cameras=[], episodes=range(6), images=False, features=None)
    assert set(windows.__getitems__(range(len(windows))).instructions) == set(original.tasks)


def test_modalities_that_do_not_fit_are_told(gr00t: Path) -> None:
    path = gr00t / "meta/modality.json"
    for change, complaint in (
        (lambda m: m["action"].update(grip={"start": 2, "end": 4}), r"'move' \(0 to 3\) and 'grip'.*overlap"),
        (lambda m: m["action"].update(grip={"start": 3, "end": 5}), "'grip' has start 3 and end 5.*0 to 4"),
        (lambda m: m["state"].update(height={"start": 2}), "'height' has start 2 and end None"),
        (lambda m: m["state"].update(height={"start": 0, "end": 1, "original_key": "x"}), "cut from 'x'"),
        (lambda m: m["video"].update(ego={"original_key": "observation.images.frnt"}), "Did you mean"),
        (lambda m: m["annotation"].update(validity={}), "no column 'annotation.validity'"),
        (lambda m: m.update(action={}), "declares no action"),
        (lambda m: m.update(action=[]), "declares no action"),
        (lambda m: m.update(state=["x"]), "'state' must map names to objects"),
    ):
        path.write_text(json.dumps(MODALITY))
        edit(path, change)
        with pytest.raises(ConfigError, match=complaint):
            open_dataset(gr00t)


# ---- other places, and more than memory ----


def upload(root: Path, url: str) -> None:
    files = fsspec.filesystem("memory")
    for path in root.rglob("*"):
        if path.is_file():
            files.pipe_file(f"{url.removeprefix('memory://')}/{path.relative_to(root).as_posix()}", path.read_bytes())


@pytest.mark.parametrize("lazy", [False, True])
def test_a_data_set_at_a_url_is_the_same(recorded: Path, v21: Path, tmp_path: Path, lazy: bool) -> None:
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", recorded)
    upload(v21, "memory://bucket/v21")
    for url, original in (
        (f"file://{recorded}", recorded), (f"zip://::file://{archive}", recorded), ("memory://bucket/v21", v21),
    ):  # fmt: skip
        dataset, expected = open_dataset(url, lazy=lazy, copies=tmp_path / "copies"), open_dataset(original)
        assert_same(dataset, expected)
        assert dataset.content_hash() == expected.content_hash()
        assert np.array_equal(pickle.loads(pickle.dumps(dataset)).rows("action", [3]), expected.arrays["action"][[3]])


def test_opening_lazily_copies_only_the_tables(v21: Path, tmp_path: Path) -> None:
    upload(v21, "memory://bucket/lazy")
    dataset = open_dataset("memory://bucket/lazy", lazy=True, copies=tmp_path)
    assert {path.name for path in tmp_path.rglob("*.*")} == {"info.json", "episodes.jsonl", "tasks.jsonl"}
    dataset.rows("action", [dataset.episodes[4].start])
    assert {path.name for path in tmp_path.rglob("*.parquet")} == {"episode_000004.parquet"}


def test_copies_are_bounded_and_follow_their_source(v21: Path, tmp_path: Path) -> None:
    upload(v21, "memory://bucket/small")
    stranger = tmp_path / "stranger.parquet"
    stranger.write_bytes(b"x" * 10_000)
    dataset = open_dataset("memory://bucket/small", lazy=True, copies=tmp_path, copied_bytes=40_000)
    for _ in range(3):
        for episode in dataset.episodes:
            dataset.frames("front", [episode.start], keep=False)
            held = sum(path.stat().st_size for path in (tmp_path / "volar-copies").rglob("*") if path.is_file())
            assert held <= 40_000 * 1.05 + max(path.stat().st_size for path in v21.rglob("*.*"))
    assert stranger.exists()
    files = fsspec.filesystem("memory")
    changed = files.cat_file("/bucket/small/meta/tasks.jsonl").replace(b"faucet", b"window")
    files.pipe_file("/bucket/small/meta/tasks.jsonl", changed)
    assert "open the window" in open_dataset("memory://bucket/small", lazy=True, copies=tmp_path).tasks


def test_what_is_wrong_at_a_url_is_told(v21: Path, tmp_path: Path) -> None:
    upload(v21, "memory://bucket/broken")
    fsspec.filesystem("memory").rm("/bucket/broken/meta/tasks.jsonl")
    for url, complaint in (
        ("memory://bucket/broken", "memory://bucket/broken/meta/tasks.jsonl is missing"),
        ("memory://bucket/nowhere", "no such file or folder"),
        ("nosuchprotocol://bucket/x", "nosuchprotocol://bucket/x cannot be read: Protocol not known"),
        (f"zip://::file://{tmp_path}/none.zip", "none.zip is missing"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            open_dataset(url, copies=tmp_path)


def as_it_is(batch: WindowBatch) -> WindowBatch:
    return batch


def test_lazy_windows_are_the_same_in_bounded_memory(
    recorded: Path, v21: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volar.data.dataset.NUMBER_BYTES", 2_000)  # about two episodes
    for root in (recorded, v21):
        eager, lazy = open_dataset(root, decoded_bytes=0), open_dataset(root, decoded_bytes=0, lazy=True)
        assert split_episodes(lazy, 0.4, seed=1) == split_episodes(eager, 0.4, seed=1)
        chosen = split_episodes(lazy, 0.4, seed=1).train
        theirs, ours = (
            Windows(dataset, horizon=5, cameras=["front"], episodes=chosen, stride=2, images=True, features=None)
            for dataset in (eager, lazy)
        )
        order = np.random.default_rng(0).permutation(len(theirs)).tolist()
        expected, batch = theirs.__getitems__(order), ours.__getitems__(order)
        for name in ("actions", "proprioception", "valid", "episode", "frame"):
            assert np.array_equal(vars(batch)[name], vars(expected)[name]), name
        assert batch.instructions == expected.instructions
        assert np.array_equal(batch.images["front"], expected.images["front"])
        sent, read = len(pickle.dumps(ours)), 0
        largest = max(sum(values.nbytes for values in lazy.numbers(range(e, e + 1)).values()) for e in range(6))
        while read < 20 * 2_000:
            for index in order:
                ours.__getitems__([index])
                read += largest // 4
                assert lazy.held_bytes <= 2_000 + largest
        assert len(pickle.dumps(ours)) == sent
        loader = DataLoader(ours, batch_size=4, num_workers=1, collate_fn=as_it_is, multiprocessing_context="fork")
        parts = [part.actions for part in loader]
        assert np.array_equal(np.concatenate(parts), theirs.__getitems__(range(len(theirs))).actions)


def test_a_lazy_set_is_checked_where_it_is_read(copy: Path) -> None:
    path = copy / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    wrong = pa.array(np.arange(len(table)) + 99)
    pq.write_table(table.set_column(table.column_names.index("index"), "index", wrong), path)
    dataset = open_dataset(copy, lazy=True)
    dataset.rows("action", [0])
    with pytest.raises(ConfigError, match="has index 99, by the episode table"):
        dataset.rows("action", [dataset.episodes[1].start])


@pytest.mark.parametrize("groups", [1, 3, 100])
def test_any_row_groups_give_the_same(recorded: Path, tmp_path: Path, groups: int) -> None:
    """All episodes in one file, whose row groups end where they like: lazily read blocks are a partition."""
    root = Path(shutil.copytree(recorded, tmp_path / "one"))
    paths = sorted((root / "data").rglob("*.parquet"))
    table = pa.concat_tables([pq.read_table(path) for path in paths])
    for path in paths:
        path.unlink()
    pq.write_table(table, paths[0], row_group_size=-(-len(table) // groups))
    for path in (root / "meta/episodes").rglob("*.parquet"):
        rows = pq.read_table(path)
        zero = pa.array([0])
        pq.write_table(rows.set_column(rows.column_names.index("data/file_index"), "data/file_index", zero), path)
    dataset, expected = open_dataset(root, lazy=True), open_dataset(recorded)
    blocks = {dataset.source.block(episode) for episode in range(6)}
    assert sorted(episode for block in blocks for episode in block) == list(range(6))
    assert_same(dataset, expected)
    pq.write_table(pa.concat_tables([table, table[:1]]), paths[0])  # a row of an episode that was never finished
    assert_same(open_dataset(root), expected)
