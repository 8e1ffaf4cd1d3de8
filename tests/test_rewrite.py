"""Data sets are converted, merged and split without a number or a stored picture changing, or the reason is named."""

import errno
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from recordings import INSTRUCTIONS, SPEC, make_trajectory, open_writer, record

from volar.cli import main
from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.appending import EpisodeAppender
from volar.data.cutting import cut_video
from volar.data.dataset import Dataset
from volar.data.declaration import Declaration
from volar.data.formats import open_dataset
from volar.data.rewrite import ORIGIN, Choices, Piece, rewrite
from volar.data.selection import by_fractions, by_task, parse_episodes
from volar.data.video import VideoFile, encode_video

SAMPLE = Path(__file__).parent.parent.parent / "shared" / "data" / "lerobot_v3_sample"
SAMPLES = Path(__file__).parent / "samples"
with_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample written by lerobot is not beside the checkout")

WRIST = layout.image_key("wrist")


def make(root: Path, seeds: range, **changes: object) -> Path:
    with open_writer(root, **changes) as writer:
        for seed in seeds:
            record(writer, seed)
    return root


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "first", range(6))


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "second", range(7, 11), extra={"renderer": "another"})


def whole(root: Path | Dataset) -> Piece:
    dataset = root if isinstance(root, Dataset) else open_dataset(root)
    return Piece(dataset=dataset, episodes=tuple(range(len(dataset.episodes))))


def picture_bytes(root: Path, key: str) -> list[bytes]:
    files = sorted((root / "data").rglob("*.parquet"))
    return [cell["bytes"] for file in files for cell in pq.read_table(file, columns=[key])[key].to_pylist()]


def assert_same_rows(new: Dataset, old: Dataset, rows: np.ndarray) -> None:
    """Every number and every picture of `new` is that of `rows` of `old`, but for what numbers the episodes."""
    for name, values in old.arrays.items():
        if name not in ("episode_index", "index", "task_index"):
            assert np.array_equal(new.arrays[name], values[rows]) and new.arrays[name].dtype == values.dtype, name
    words = [[each.tasks[task] for task in each.arrays["task_index"]] for each in (new, old)]
    assert words[0] == [words[1][row] for row in rows]
    for camera in old.cameras:
        pictures = new.frames(camera.name, range(new.num_frames))
        assert np.array_equal(pictures, old.frames(camera.name, rows)), camera


# ---- JPEG ----


def test_jpeg_pictures_are_declared_small_and_close(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path / "d", range(2), camera_storage={"front": "jpeg", "wrist": "image"}))
    feature = dataset.features[layout.image_key("front")]
    assert feature["dtype"] == "image" and feature["info"]["image.quality"] == 95
    assert feature["info"]["image.chroma"] == "4:4:4"
    stored = picture_bytes(tmp_path / "d", layout.image_key("front"))
    picture = Image.open(io.BytesIO(stored[0]))
    assert picture.format == "JPEG" and picture.layer == [(1, 1, 1, 0), (2, 1, 1, 1), (3, 1, 1, 1)]  # colour kept whole
    truth = np.concatenate([make_trajectory(seed).images["front"] for seed in range(2)]).astype(int)
    shown = dataset.frames("front", range(dataset.num_frames)).astype(int)
    assert np.abs(shown - truth).mean() < 1.5
    wrist = dataset.frames("wrist", range(dataset.num_frames))
    assert np.array_equal(wrist, np.concatenate([make_trajectory(seed).images["wrist"] for seed in range(2)]))


# ---- convert ----


def test_a_copy_keeps_every_bit_and_says_where_it_comes_from(first: Path, tmp_path: Path) -> None:
    old = open_dataset(first)
    done = rewrite([whole(old)], tmp_path / "copy")
    new = open_dataset(tmp_path / "copy")
    assert_same_rows(new, old, np.arange(old.num_frames))
    assert (done.episodes, done.frames, done.encoded) == (6, old.num_frames, {"front": 0, "wrist": 0})
    assert new.spec == SPEC and new.facts["renderer"] == "none"
    assert new.episodes[3].source["seed"] == 3
    assert new.episodes[3].source[ORIGIN] == {"data": old.content_hash(), "episode": 3}
    for kind in ("*.mp4",):
        stored = [[path.read_bytes() for path in sorted(root.rglob(kind))] for root in (first, tmp_path / "copy")]
        assert stored[0] == stored[1] and len(stored[0]) == 6
    key = layout.image_key("wrist")
    assert picture_bytes(first, key) == picture_bytes(tmp_path / "copy", key)
    ours, theirs = (json.loads((root / layout.STATS).read_text()) for root in (tmp_path / "copy", first))
    assert ours["action"] == theirs["action"] and ours[key] == theirs[key]


@pytest.mark.parametrize("storage", ["image", "jpeg", "video"])
def test_another_storage_encodes_only_what_is_stored_otherwise(first: Path, tmp_path: Path, storage: str) -> None:
    done = rewrite([whole(first)], tmp_path / "new", choices=Choices(storage=storage))  # type: ignore[arg-type]
    kept = {"image": "wrist", "video": "front"}.get(storage)
    assert {camera for camera, count in done.encoded.items() if count == 0} == ({kept} if kept else set())
    old, new = open_dataset(first), open_dataset(tmp_path / "new")
    for camera in ("front", "wrist"):
        assert new.features[layout.image_key(camera)]["dtype"] == ("video" if storage == "video" else "image")
        shown, truth = (each.frames(camera, range(old.num_frames)).astype(int) for each in (new, old))
        exact = storage == "image" or camera == kept
        assert np.array_equal(shown, truth) if exact else np.abs(shown - truth).mean() < 6
    assert np.array_equal(new.arrays["action"], old.arrays["action"])


@with_sample
def test_what_lerobot_wrote_is_copied_out_of_shared_files(tmp_path: Path) -> None:
    """Its AV1 films hold all episodes in one file; each is cut out without touching a picture."""
    old = open_dataset(SAMPLE)
    done = rewrite([whole(old)], tmp_path / "new", choices=Choices(assume_nothing=True))
    new = open_dataset(tmp_path / "new")
    assert_same_rows(new, old, np.arange(old.num_frames))
    assert new.spec is None and set(done.encoded.values()) == {0}
    assert new.features["observation.images.front"]["info"]["video.codec"] == "av1"
    again = rewrite([whole(new)], tmp_path / "again", choices=Choices(assume_nothing=True))
    assert again.frames == old.num_frames
    origin = open_dataset(tmp_path / "again").episodes[2].source[ORIGIN]
    assert origin["before"] == {"data": old.content_hash(), "episode": 2}


@with_sample
def test_meaning_is_said_not_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="--robot FILE"):
        rewrite([whole(SAMPLE)], tmp_path / "no")
    with pytest.raises(ConfigError, match=r"(?s)does not fit.*cameras.*action.*7.*rate"):
        rewrite([whole(SAMPLE)], tmp_path / "no", choices=Choices(robot=SPEC))
    dataset = open_dataset(SAMPLE)
    action = replace(
        SPEC.action, names=tuple("abcdefg"), units=("rad",) * 7, low=(-1.0,) * 7, high=(1.0,) * 7, rate_hz=10.0
    )
    robot = replace(SPEC, action=action, cameras=dataset.cameras, proprioception=tuple("abcdefgh"))
    (tmp_path / "robot.json").write_text(json.dumps(robot.to_json()))
    said = [str(SAMPLE), "--out", str(tmp_path / "new"), "--robot", str(tmp_path / "robot.json"), "--json"]
    assert main(["data", "convert", *said]) == 0
    assert json.loads(capsys.readouterr().out)["data"][0]["episodes"] == len(dataset.episodes)
    assert open_dataset(tmp_path / "new").spec == robot
    assert not (tmp_path / "no").exists()


def test_a_wrong_label_of_the_rate_is_put_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As published conversions of LIBERO: one frame a control step of a 20 Hz robot, labelled 10 frames a second."""
    slow = replace(SPEC, action=replace(SPEC.action, rate_hz=10.0))
    labelled = open_dataset(make(tmp_path / "labelled", range(3), spec=slow, fps=10))
    rewrite([whole(labelled)], tmp_path / "old", choices=Choices(fps=10.0))
    with pytest.raises(ConfigError, match=r"rate: the robot acts at 10 Hz, the data set has 20"):
        rewrite([whole(labelled)], tmp_path / "no", choices=Choices(fps=20.0))  # its own robot says otherwise
    for wrong in (0.0, -20.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="positive number"):
            rewrite([whole(labelled)], tmp_path / "no", choices=Choices(fps=wrong))
    unsaid = open_dataset(tmp_path / "labelled")
    unsaid.spec = None
    with pytest.raises(ConfigError, match="--fps 20"):
        rewrite([whole(unsaid)], tmp_path / "no", choices=Choices(robot=SPEC))
    assert not (tmp_path / "no").exists()
    done = rewrite([whole(unsaid)], tmp_path / "new", choices=Choices(robot=SPEC, fps=20.0))
    new = open_dataset(tmp_path / "new")
    assert (new.fps, new.spec, new.facts[ORIGIN][0]["fps"]) == (20, SPEC, 10)
    assert done.encoded == {"front": 3, "wrist": 0}  # a film keeps its own times
    for episode in new.episodes:
        times = new.rows("timestamp", np.arange(episode.start, episode.stop))
        np.testing.assert_allclose(times.ravel(), np.arange(episode.stop - episode.start) / 20, atol=1e-6)
    assert np.array_equal(new.arrays["action"], labelled.arrays["action"])
    rows = range(new.num_frames)
    assert np.array_equal(new.frames("wrist", rows), labelled.frames("wrist", rows))
    assert np.abs(new.frames("front", rows).astype(int) - labelled.frames("front", rows)).mean() < 2
    words = [str(tmp_path / "old"), "--out", str(tmp_path / "cli"), "--fps", "20"]
    assert main(["data", "convert", *words]) == 2 and "20 frames a second" in capsys.readouterr().err


def test_a_feature_that_cannot_be_kept_is_named(first: Path, tmp_path: Path) -> None:
    dataset = open_dataset(first)
    dataset.features = {**dataset.features, "note": {"dtype": "string", "shape": [1], "names": None}}
    with pytest.raises(ConfigError, match=r"cannot carry over: \['note'\].*--leave-out"):
        rewrite([whole(dataset)], tmp_path / "new")
    rewrite([whole(dataset)], tmp_path / "new", choices=Choices(leave_out=("note", "executed_action", WRIST)))
    assert {"executed_action", WRIST}.isdisjoint(open_dataset(tmp_path / "new").features)
    assert open_dataset(tmp_path / "new").spec == replace(SPEC, cameras=SPEC.cameras[:1])
    with pytest.raises(ConfigError, match="without 'action'"):
        rewrite([whole(first)], tmp_path / "no", choices=Choices(leave_out=("action",)))
    with pytest.raises(ConfigError, match=r"'next\.reward'"):
        rewrite([whole(dataset)], tmp_path / "other", choices=Choices(leave_out=("next.rewards",)))


@pytest.mark.parametrize(
    ("name", "says", "encoded"),
    [
        ("rlds_tiny", Declaration(fps=5, state=("state", "gripper")), set()),
        (
            "robomimic_tiny.hdf5",
            Declaration(instruction="lift", state=("robot0_eef_pos",)),
            {"agentview_image", "robot0_eye_in_hand_image"},
        ),
    ],
)
def test_other_formats_become_lerobot(tmp_path: Path, name: str, says: Declaration, encoded: set[str]) -> None:
    """RLDS holds PNG and JPEG files, which are copied; robomimic holds bare pixels, which become PNG."""
    old = open_dataset(SAMPLES / name, declared=says)
    done = rewrite([whole(old)], tmp_path / "new", choices=Choices(assume_nothing=True))
    new = open_dataset(tmp_path / "new")
    assert_same_rows(new, old, np.arange(old.num_frames))
    assert {camera for camera, count in done.encoded.items() if count} == encoded
    assert new.facts[ORIGIN][0]["format"] == old.format and new.fps == old.fps


# ---- films ----


def test_a_cut_that_needs_other_pictures_is_not_made(tmp_path: Path) -> None:
    """Groups of two: frame 3 has no key frame of its own."""
    frames = make_trajectory(1, 10).images["front"]
    path = tmp_path / "film.mp4"
    path.write_bytes(encode_video(frames, 20))
    assert cut_video(path, 0.0, 10, 20) == path.read_bytes()
    assert cut_video(path, 3 / 20, 4, 20) is None
    part = cut_video(path, 4 / 20, 4, 20)
    assert part is not None
    (tmp_path / "part.mp4").write_bytes(part)
    times = VideoFile(tmp_path / "part.mp4").times
    np.testing.assert_allclose(times, np.arange(4) / 20, atol=1e-6)
    with av.open(str(path)) as one, av.open(str(tmp_path / "part.mp4")) as other:
        pictures = [[frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)] for film in (one, other)]
    assert np.array_equal(pictures[0][4:8], pictures[1])
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ConfigError, match=r"film\.mp4"):
        cut_video(path, 0.0, 4, 20)


# ---- merge ----


def test_merging_brings_tasks_together_and_keeps_who_said_what(first: Path, second: Path, tmp_path: Path) -> None:
    one, two = open_dataset(first), open_dataset(second)
    rewrite([whole(one), whole(two)], tmp_path / "both")
    both = open_dataset(tmp_path / "both")
    assert sorted(both.tasks) == sorted(INSTRUCTIONS)
    assert len(both.episodes) == 10 and both.num_frames == one.num_frames + two.num_frames
    for part, start in ((one, 0), (two, one.num_frames)):
        rows = np.arange(start, start + part.num_frames)
        assert np.array_equal(both.arrays["action"][rows], part.arrays["action"])
        assert np.array_equal(both.frames("front", rows), part.frames("front", range(part.num_frames)))
    assert [each["facts"] for each in both.facts[ORIGIN]] == [{"renderer": "none"}, {"renderer": "another"}]
    assert both.episodes[7].source[ORIGIN] == {"data": two.content_hash(), "episode": 1}


def test_every_difference_is_listed_before_anything_is_written(first: Path, tmp_path: Path) -> None:
    spec = replace(SPEC, action=replace(SPEC.action, gripper="positive_opens", rate_hz=10.0))
    other = make(tmp_path / "other", range(2), spec=spec, fps=10, robot_type="panda",
                 camera_storage={"front": "video", "wrist": "jpeg"})  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        rewrite([whole(first), whole(other)], tmp_path / "both")
    message = str(caught.value)
    for part in ("fps: 10 in", "robot_type: panda", "action.gripper: positive_opens", "storage.wrist: jpeg"):
        assert part in message
    assert not (tmp_path / "both").exists()


def test_two_storages_are_brought_together(first: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", range(2), camera_storage={"front": "image", "wrist": "image"})
    with pytest.raises(ConfigError, match="--storage"):
        rewrite([whole(first), whole(other)], tmp_path / "both")
    done = rewrite([whole(first), whole(other)], tmp_path / "both", choices=Choices(storage="image"))
    assert done.encoded == {"front": 6, "wrist": 0}  # the PNGs of the other are copied


def test_the_same_data_twice_is_refused(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "merge", str(first), str(first), "--out", str(tmp_path / "both")]) == 2
    assert "twice" in capsys.readouterr().err


# ---- split ----


def test_parts_of_a_split_make_the_whole(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "split", str(first), "--out", str(tmp_path / "parts"), "--fractions", "a", "0.5", "b", "0.5"]
    assert main([*words, "--json"]) == 0
    assert [each["episodes"] for each in json.loads(capsys.readouterr().out)["data"]] == [3, 3]
    old, parts = open_dataset(first), [open_dataset(tmp_path / "parts" / name) for name in "ab"]
    origins = [episode.source[ORIGIN]["episode"] for part in parts for episode in part.episodes]
    assert sorted(origins) == list(range(6))
    for part in parts:
        assert sorted(part.tasks) == sorted(INSTRUCTIONS)  # every task is shared out
        rows = [np.arange(old.episodes[e].start, old.episodes[e].stop) for e in _origins(part)]
        assert_same_rows(part, old, np.concatenate(rows))


def _origins(dataset: Dataset) -> list[int]:
    return [episode.source[ORIGIN]["episode"] for episode in dataset.episodes]


def test_listed_episodes_and_tasks(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept.json").write_text(json.dumps({"episodes": [1, 4]}))
    for name, chosen, expected in (("a", "4-5,0", [4, 5, 0]), ("b", f"@{tmp_path / 'kept.json'}", [1, 4])):
        assert main(["data", "split", str(first), "--out", str(tmp_path / name), "--episodes", chosen]) == 0
        assert _origins(open_dataset(tmp_path / name)) == expected
    assert main(["data", "split", str(first), "--out", str(tmp_path / "c"), "--by-task"]) == 0
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == sorted(w.replace(" ", "-") for w in INSTRUCTIONS)
    assert main(["data", "split", str(first), "--out", str(tmp_path / "d")]) == 2
    assert "--by-task" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "reason"), [("7", "0 to 5"), ("3-1", "'3-1'"), ("1,1", "more than once"), ("", "''")])
def test_bad_lists_of_episodes(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_episodes(text, 6)


def test_bad_fractions(first: Path) -> None:
    episodes = open_dataset(first).episodes
    with pytest.raises(ConfigError, match="sum to 1"):
        by_fractions(episodes, {"a": 0.5}, 0)
    with pytest.raises(ConfigError, match=r"nothing is left for \['b'\]"):
        by_fractions(episodes, {"a": 0.99, "b": 0.01}, 0)


def test_folders_of_tasks_are_safe_and_apart() -> None:
    from volar.data.episodes import EpisodeTable

    table = EpisodeTable(np.array([1, 1, 1, 1]), [("../Öl!",), ("l",), ("L ",), ("///",)])
    assert list(by_task(table)) == ["l", "l-2", "l-3", "task"]


# ---- what may go wrong ----


def test_a_killed_conversion_goes_on(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append, calls = EpisodeAppender.append, []

    def dies(self: EpisodeAppender, content: object) -> int:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return append(self, content)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(EpisodeAppender, "append", dies)
        with pytest.raises(KeyboardInterrupt):
            rewrite([whole(first)], tmp_path / "new")
    assert len(open_dataset(tmp_path / "new").episodes) == 3
    rewrite([whole(first)], tmp_path / "new")
    rewrite([whole(first)], tmp_path / "straight")
    assert open_dataset(tmp_path / "new").content_hash() == open_dataset(tmp_path / "straight").content_hash()
    with pytest.raises(ConfigError, match="other episodes"):
        rewrite([Piece(dataset=open_dataset(first), episodes=(5, 4, 3, 2, 1, 0))], tmp_path / "new")


def test_one_folder_one_writer(first: Path, second: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another recording"):
        rewrite([whole(first)], make(tmp_path / "taken", range(1)))
    rewrite([whole(first)], tmp_path / "new")
    info = json.loads((tmp_path / "new" / layout.INFO).read_text())
    appender = EpisodeAppender(tmp_path / "new", info, resume=True)
    with pytest.raises(ConfigError, match="Another process is writing"):
        rewrite([whole(first)], tmp_path / "new")
    appender.close()
    for out in (first, first / "below", first.parent):
        with pytest.raises(ConfigError, match="lie in one another"):
            rewrite([whole(first)], out)


def test_a_full_disk_leaves_source_and_saved_episodes_whole(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    synchronise, left = os.fsync, [30]

    def full(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        synchronise(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="disk is full"):
            rewrite([whole(first)], tmp_path / "new")
    assert before == {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    done = len(open_dataset(tmp_path / "new").episodes)
    assert 0 < done < 6
    rewrite([whole(first)], tmp_path / "new")
    assert_same_rows(open_dataset(tmp_path / "new"), open_dataset(first), np.arange(open_dataset(first).num_frames))
