"""Frames are labelled from what the robot did: where cameras look, what happens when, and in which words."""

import itertools
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from volar.cli import main
from volar.cli.collect import Collect, collect
from volar.core.calibration import Calibration, pinhole, read_calibrations
from volar.core.errors import ConfigError
from volar.core.objects import NamedObject
from volar.core.robot import ActionSpec
from volar.core.thoughts import Mark, Thought
from volar.data import layout
from volar.data.dataset import Dataset
from volar.data.formats import open_dataset
from volar.data.labels.course import Course, CourseReader, steady
from volar.data.labels.episode import Wanted, label
from volar.data.labels.keyframes import tell
from volar.data.labels.moves import AHEAD, ROBOT, THRESHOLD, TURNED, motion_words, move_words, seen_by
from volar.data.language import LASTING, language_rows, language_thoughts
from volar.data.thoughts import read_thoughts, write_thoughts
from volar.envs import make_env
from volar.envs.replay import Recorded, Replay

FPS = 20.0
OVERHEAD = pinhole(
    "top", height=100, width=200, fovy=53.13010235415598, position=np.array([0.0, 0.0, 1.0]), axes=np.eye(3)
)  # half a metre of the table is the picture's height


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(list(words))
    said = capsys.readouterr()
    return code, said.out + said.err


def actions_of(dataset: Dataset) -> ActionSpec:
    assert dataset.spec is not None
    return dataset.spec.action


@pytest.fixture(scope="session")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labels") / "pictured"
    collect(
        Collect(tasks=("tabletop/pick-place-red",), out=root, episodes=2, camera={"front": 96, "top": 64}, workers=1),
        progress=False,
    )
    return root


@pytest.fixture(scope="session")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without pictures."""
    root = tmp_path_factory.mktemp("labels") / "pushed"
    collect(Collect(tasks=("tabletop-state/push",), out=root, episodes=2, workers=1), progress=False)
    return root


# Where cameras look


def test_a_pinhole_projects_by_hand_computed_numbers() -> None:
    seen = OVERHEAD.project(np.array([[0.0, 0.0, 0.0], [0.25, 0.25, 0.0], [0.1, 0.0, 0.5], [0.0, 0.0, 2.0]]))
    np.testing.assert_allclose(seen.uv[:3], [[0.5, 0.5], [0.625, 0.25], [0.6, 0.5]], atol=1e-9)
    np.testing.assert_allclose(seen.depth, [1.0, 1.0, 0.5, -1.0])
    assert np.isnan(seen.uv[3]).all()  # behind the camera


def test_a_projected_cube_is_where_the_renderer_draws_it() -> None:
    env = make_env("tabletop/pick-place-red", cameras={"front": 192, "top": 128})
    try:
        world = env.unwrapped
        for seed in range(3):
            env.reset(seed)
            for _ in range(30):
                env.step(np.array([-1.0, 1.0, 1.0, -1.0], np.float32))  # the hand hides nothing from a far corner
            observation, known = env.observe(), world.calibrations()
            for (word, channel), camera in itertools.product((("red", 0), ("green", 1), ("blue", 2)), known.values()):
                cube = world.named_objects()[f"{word} cube"]
                picture = observation.images[camera.camera].astype(float)
                rest = np.delete(picture, channel, 2).max(-1)
                v, u = np.nonzero((picture[..., channel] > 1.8 * rest) & (picture[..., channel] > 40))
                centroid = (np.array([u.mean(), v.mean()]) + 0.5) / len(picture)
                uv = camera.project(cube.position[None]).uv[0]
                assert np.abs(uv - centroid).max() * len(picture) < 1.0, (seed, word, camera.camera)
    finally:
        env.close()


def test_metaworlds_goal_is_where_its_pictures_show_it_those_turned_by_180_degrees_too() -> None:
    cameras = dict.fromkeys(("topview", "corner", "corner2", "corner3", "corner4"), 160)
    env = make_env("metaworld-state/push", cameras=cameras)
    try:
        env.reset(1)
        observation, known = env.observe(), env.unwrapped.calibrations()
        assert set(known) == set(cameras)  # and not those that ride on the hand
        goal = observation.proprioception[[env.spec.proprioception.index(f"goal_{axis}") for axis in "xyz"]]
        for name, picture in observation.images.items():
            v, u = np.nonzero((picture[..., 1] > 120) & (picture[..., [0, 2]] < 80).all(-1))
            uv = known[name].project(goal[None]).uv[0]
            assert np.abs(uv * 160 - np.array([u.mean() + 0.5, v.mean() + 0.5])).max() < 1.5, name
    finally:
        env.close()


def test_calibrations_survive_a_file_and_damaged_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps([OVERHEAD.to_json()]))
    again = read_calibrations(path)["top"]
    np.testing.assert_array_equal(again.extrinsics, OVERHEAD.extrinsics)
    assert (again.height, again.width) == (100, 200)
    entry = OVERHEAD.to_json()
    mirrored = np.array(entry["extrinsics"]) * ([[1.0], [1.0], [-1.0], [1.0]])
    for damage, said in (
        ({"extrinsics": np.eye(3).tolist()}, "extrinsics"), ({"extrinsics": mirrored.tolist()}, "rotation"),
        ({"intrinsics": (-np.eye(3)).tolist()}, "focal"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            Calibration.from_json(entry | damage)
    path.write_text("{}")
    with pytest.raises(ConfigError, match="list"):
        read_calibrations(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_calibrations(tmp_path / "none.json")


# The thirteen words


def moved(way: tuple[float, float, float], turn: tuple[float, float, float] = (0, 0, 0), grip: int = 0) -> Course:
    """An even motion along `way` metres and `turn` radians within the time that a primitive looks ahead."""
    count = round(AHEAD * FPS) + 1
    share = np.linspace(0.0, 1.0, count)[:, None]
    closed = np.full(count, grip > 0)
    closed[-1] = grip < 0
    return Course(
        fps=FPS, instructions=("do it",) * count, hand=share * np.array(way),
        turn=Rotation.from_rotvec(share * np.array(turn)), closed=closed,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("course", "word"),
    [
        (moved((0.06, 0, 0)), "move forward"), (moved((-0.06, 0, 0)), "move backward"),
        (moved((0, 0.06, 0)), "move left"), (moved((0, -0.06, 0)), "move right"),
        (moved((0, 0, 0.06)), "move up"), (moved((0, 0, -0.06)), "move down"),
        (moved((0, 0, 0), turn=(0, -0.5, 0)), "tilt up"), (moved((0, 0, 0), turn=(0, 0.5, 0)), "tilt down"),
        (moved((0, 0, 0), turn=(0, 0, 0.5)), "rotate counterclockwise"),
        (moved((0, 0, 0), turn=(0, 0, -0.5)), "rotate clockwise"),
        (moved((0, 0, 0), grip=1), "open gripper"), (moved((0, 0, 0), grip=-1), "close gripper"),
        (moved((0.01, 0.01, 0.0)), "stop"),
    ],
)  # fmt: skip
def test_every_one_of_ecots_thirteen_words_is_said(course: Course, word: str) -> None:
    assert move_words(course, ROBOT)[0] == word


axis = st.floats(-0.15, 0.15)
angle = st.floats(-0.9, 0.9)


@given(way=st.tuples(axis, axis, axis), yaw=angle, grip=st.sampled_from((-1, 0, 1)))
@settings(deadline=None, max_examples=150)
def test_a_primitive_says_what_the_rule_says_and_its_mirror_says_the_opposite(
    way: tuple[float, float, float], yaw: float, grip: int
) -> None:
    said = move_words(moved(way, turn=(0.0, 0.0, yaw), grip=grip), ROBOT)[0]
    shortened = np.array(way) * min(1.0, 3 * THRESHOLD / max(sum(map(abs, way)), 1e-9))
    pairs = (("forward", "backward"), ("left", "right"), ("up", "down"))
    due = [
        (pair[0] if far > 0 else pair[1])
        for pair, far in zip(pairs, shortened, strict=True) if abs(far) > THRESHOLD
    ]  # fmt: skip
    words = said.replace(",", "").split()
    if all(abs(abs(far) - THRESHOLD) > 1e-6 for far in shortened):  # rounding decides on the border
        assert [word for word in words if word in itertools.chain(*pairs)] == due
    assert ("counterclockwise" in words) == (yaw > TURNED) and ("clockwise" in words) == (yaw < -TURNED)
    assert ("close" in words) == (grip < 0) and ("open" in words) == (grip > 0)
    assert (said == "stop") == (not due and abs(yaw) <= TURNED and not grip) or any(
        abs(abs(far) - THRESHOLD) <= 1e-6 for far in shortened
    )
    x, y, z = way
    opposite = move_words(moved((-x, -y, -z), turn=(0.0, 0.0, -yaw), grip=-grip), ROBOT)[0]
    swap = {
        a: b for pair in (*pairs, ("clockwise", "counterclockwise"), ("open", "close")) for a, b in (pair, pair[::-1])
    }
    assert [swap.get(word, word) for word in words] == opposite.replace(",", "").split()


def test_directions_are_those_of_the_picture() -> None:
    """To whoever looks at a picture from above, up on it is forward; at one from the front, away is forward."""
    front = make_env("tabletop/push", cameras={}).unwrapped.calibrations()["front"]  # type: ignore[attr-defined]
    for camera in (OVERHEAD, front):
        assert move_words(moved((0.06, 0.0, 0.0)), seen_by(camera))[0] == "move right"
        assert move_words(moved((0.0, 0.06, 0.0)), seen_by(camera))[0] == "move forward"
    assert motion_words(moved((0.041, -0.02, 0.0), grip=-1), seen_by(front))[0] == (
        "backward 2 cm, right 4 cm, close gripper"
    )


# What happens when


def thing(*place: float) -> NamedObject:
    return NamedObject(position=np.array(place), size=np.full(3, 0.02))


def course_of(hand: np.ndarray, closed: str = "", objects: tuple[Mapping[str, NamedObject], ...] = ()) -> Course:
    """closed: a # for every frame at which the gripper is told to hold."""
    flags = np.array([letter == "#" for letter in closed.ljust(len(hand), ".")])
    return Course(fps=FPS, instructions=("do it",) * len(hand), hand=hand, turn=None, closed=flags, objects=objects)


def test_a_grasp_and_a_release_are_keyframes_and_the_end_is_one_where_the_hand_goes_on() -> None:
    hand = np.zeros((60, 3))
    hand[:, 0] = np.linspace(0.0, 0.3, 60)
    story = tell(course_of(hand, "." * 15 + "#" * 25))
    assert [(each.frame, each.kind) for each in story.keyframes] == [(15, "closes"), (40, "opens"), (59, "ends")]
    hand[40:, 0] = hand[40, 0]
    assert [each.kind for each in tell(course_of(hand, "." * 15 + "#" * 25)).keyframes] == ["closes", "opens"]
    # Closed from the start: nothing is held.
    assert [each.kind for each in tell(course_of(hand, "#" * 60)).keyframes] == ["ends"]


def test_a_single_flicker_of_the_gripper_is_no_event() -> None:
    flags = np.array([letter == "#" for letter in "...#.....####.###"])
    assert "".join("#" if flag else "." for flag in steady(flags, 2)) == ".........########"


def test_what_is_shoved_is_touched_and_left_but_what_is_carried_or_moves_by_itself_is_not() -> None:
    frames = np.arange(80)
    hand = np.stack([np.clip(frames - 20, 0, 30) * 0.005 - 0.02, np.zeros(80), np.zeros(80)], axis=1)
    puck = np.maximum(hand[:, 0], 0.0) + 0.02
    objects = tuple(
        {"puck": thing(x, 0.0, 0.0), "lift": thing(0.5, 0.5, 0.01 * frame), "region": thing(0.15, 0.0, 0.0)}
        for frame, x in enumerate(puck)
    )
    story = tell(course_of(hand, "#" * 80, objects))
    assert [each.kind for each in story.keyframes] == ["touches", "leaves"]
    (transfer,) = story.transfers
    assert (transfer.thing, transfer.place, transfer.held) == ("puck", "region", False)
    assert abs(transfer.begin - 24) <= 3 and abs(transfer.end - 50) <= 3
    # A detector that loses things for a while changes nothing, as long as it sees them begin and end.
    gaps = tuple({} if 30 <= frame < 36 or frame > 75 else now for frame, now in enumerate(objects))
    assert tell(course_of(hand, "#" * 80, gaps)).transfers[0].place == "region"
    held = tell(course_of(hand, "." * 22 + "#" * 40, objects))
    assert [each.kind for each in held.keyframes] == ["closes", "opens"]
    assert [each.thing for each in held.transfers] == ["puck"]


def test_where_nothing_else_is_known_the_hand_halts_and_turns_back() -> None:
    there = np.concatenate([np.linspace(0.0, 0.3, 31), np.linspace(0.29, 0.0, 30)])
    hand = np.stack([there, np.zeros(61), np.zeros(61)], axis=1)
    story = tell(course_of(hand, "#" * 61))
    assert [each.kind for each in story.keyframes] == ["halts", "ends"]
    assert abs(story.keyframes[0].frame - 30) <= 2


def test_regions_order_and_next_point_by_hand() -> None:
    hand = np.zeros((40, 3))
    hand[10:, 0], hand[30:, 0] = 0.25, -0.25
    wanted = Wanted(
        marks=("point", "regions", "order"), words=("subtask", "plan"), cameras=(OVERHEAD,), directions=None
    )
    thoughts = label(course_of(hand, "." * 12 + "#" * 20), wanted)
    before, between, after = thoughts[0], thoughts[20], thoughts[35]
    right, left = (0.625, 0.5), (0.375, 0.5)
    # The action of frame 12 closes the gripper; what is seen before it still leads there.
    for frame, place in ((12, right), (13, left)):
        (point,) = (mark for mark in thoughts[frame].marks if not any(mark.size) and not mark.order)
        assert point.centre == pytest.approx(place)
    assert [mark.centre for mark in before.marks if mark.role == "next" and not mark.order] == [pytest.approx(right)]
    assert [mark.centre for mark in between.marks if mark.role == "next" and not mark.order] == [pytest.approx(left)]
    for thought, done in ((before, (False, False)), (between, (True, False)), (after, (True, True))):
        regions = {mark.role: mark for mark in thought.marks if mark.size != (0.0, 0.0)}
        assert (regions["source"].done, regions["destination"].done) == done
        assert [(mark.order, mark.done) for mark in thought.marks if mark.order] == list(enumerate(done, start=1))
    assert regions["source"].centre == pytest.approx(right, abs=0.01)
    assert regions["source"].size == pytest.approx((0.0250, 0.0408), abs=1e-4)  # of a cube of 4 cm, seen from the side
    assert [before.words["subtask"], between.words["subtask"], after.words["subtask"]] == [
        "grasp it", "bring it to its place", "finish",
    ]  # fmt: skip
    assert after.words["plan"] == "1. grasp it 2. bring it to its place"


@pytest.mark.parametrize(
    ("instruction", "plan"),
    [
        ("put the red cube into the bowl", "1. grasp the red cube 2. bring the red cube to the bowl"),
        ("Pick up a blue mug and drop it into the tray.", "1. grasp the blue mug 2. bring the blue mug to the tray"),
        ("put the cup on the shelf, then the fork in the drawer", "1. grasp it 2. bring it to its place"),
        ("tidy up", "1. grasp it 2. bring it to its place"),
    ],
)
def test_names_come_from_an_instruction_that_says_one_thing_and_one_place(instruction: str, plan: str) -> None:
    hand = np.zeros((40, 3))
    course = replace(course_of(hand, "." * 12 + "#" * 20), instructions=(instruction,) * 40)
    assert label(course, Wanted(marks=(), words=("plan",), cameras=(), directions=None))[0].words["plan"] == plan


def test_what_lies_outside_the_picture_has_no_mark() -> None:
    hand = np.tile([5.0, 0.0, 0.0], (20, 1))
    wanted = Wanted(marks=("point", "regions"), words=(), cameras=(OVERHEAD,), directions=None)
    assert all(thought.marks == () for thought in label(course_of(hand, "." * 5 + "#" * 5), wanted))


# Language columns

segment = st.sampled_from((*LASTING, "gripper", "motion", "objects"))
fraction = st.integers(0, 1000).map(lambda number: number / 1000)
# Facts, of which the test makes thoughts: the type checker draws at random, which a strategy must not.
mark = st.fixed_dictionaries({
    "camera": st.sampled_from(("front", "top")), "centre": st.tuples(fraction, fraction),
    "size": st.tuples(fraction, fraction), "role": st.sampled_from(("next", "source", "red cube")),
    "order": st.integers(0, 3), "done": st.booleans(),
})  # fmt: skip
facts = st.tuples(st.dictionaries(segment, st.text(max_size=5)), st.lists(mark, max_size=3))


@given(drawn=st.lists(facts, min_size=1, max_size=12), fps=st.sampled_from((3.0, 20.0, 29.97)))
@settings(deadline=None, max_examples=80)
def test_thoughts_come_back_from_their_rows(drawn: list, fps: float) -> None:
    thoughts = [Thought(words=words, marks=tuple(Mark(**mark) for mark in marks)) for words, marks in drawn]
    rows = language_rows(thoughts, fps)
    single = tuple({**row, "timestamp": float(np.float32(row["timestamp"]))} for row in rows.lasting)  # as stored
    again = language_thoughts(
        type(rows)(lasting=single, events=rows.events), np.arange(len(thoughts)) / fps, where="here"
    )  # fmt: skip
    for ours, theirs in zip(thoughts, again, strict=True):
        assert dict(ours.words) == dict(theirs.words)
        assert sorted(map(repr, ours.marks)) == sorted(map(repr, theirs.marks))


def test_labels_of_other_annotators_are_read_and_what_is_no_thought_is_left_out() -> None:
    """As lerobot-annotate writes: sub-tasks that last, questions on the frame they were asked at."""
    row = {"role": "assistant", "camera": None, "tool_calls": None}
    rows = language_rows([Thought()] * 3, 10.0)
    asked = {
        "role": "user",
        "content": "where?",
        "style": "vqa",
        "camera": "observation.images.top",
        "tool_calls": None,
    }
    said = {"role": "assistant", "content": None, "style": None, "camera": None, "tool_calls": ["{}"]}
    lasting = tuple(
        {**row, "content": text, "style": "subtask", "timestamp": time} for text, time in (("b", 0.2), ("a", 0.0))
    )
    got = language_thoughts(type(rows)(lasting=lasting, events=((asked,), (said,), ())), np.arange(3) / 10, where="x")
    assert [thought.words for thought in got] == [{"subtask": "a"}, {"subtask": "a"}, {"subtask": "b"}]
    damaged = {**row, "style": "volar/marks", "content": '[{"centre": [2, 0], "size": [0, 0]}]', "camera": "top"}
    with pytest.raises(ConfigError, match="lies on the picture"):
        language_thoughts(type(rows)(lasting=(), events=((damaged,),)), np.arange(1) / 10, where="x")


# The command


def test_a_detector_names_what_the_simulator_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictured, told = tmp_path / "pictured", {}
    sharp = Collect(tasks=("tabletop/pick-place-red",), out=pictured, episodes=1, camera={"front": 256}, storage="jpeg")
    collect(sharp, progress=False)
    names = json.dumps(["red cube", "yellow bowl"])
    for who, options in (
        ("simulator", []),
        ("detector", ["--objects-options", f"names={names}", "detector=test_perception:Colours", "every=5"]),
    ):
        out = tmp_path / who
        words = ("--words", "plan", "objects", "subtask", "--marks", "regions")
        code, said = run(
            capsys, "data", "label", str(pictured), "--out", str(out), *words, "--objects", who, *options
        )  # fmt: skip
        assert code == 0, said
        labelled = open_dataset(out)
        told[who] = read_thoughts(labelled, [0, 30])
        assert labelled.facts["labels"]["objects"] == [who, *options[1:]]
    assert labelled.facts["labels"]["privileged"] == []
    for ours, theirs in zip(told["detector"], told["simulator"], strict=True):
        assert ours.words["plan"] == theirs.words["plan"] and ours.words["subtask"] == theirs.words["subtask"]
    first = [{mark.role: mark for mark in told[who][0].marks if mark.camera == "front"} for who in told]
    for role in ("source", "destination"):
        np.testing.assert_allclose(first[1][role].centre, first[0][role].centre, atol=0.03)


def test_pictures_are_labelled_and_the_copy_is_whole(
    pictured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in pictured.rglob("*") if path.is_file()}
    out = tmp_path / "labelled"
    words = ("task", "plan", "objects", "subtask", "move", "gripper", "motion")
    code, said = run(
        capsys, "data", "label", str(pictured), "--out", str(out), "--marks", "point", "order", "regions", "objects",
        "--words", *words, "--objects", "simulator",
    )  # fmt: skip
    assert code == 0, said
    assert before == {path: path.read_bytes() for path in pictured.rglob("*") if path.is_file()}
    source, labelled = open_dataset(pictured), open_dataset(out)
    for name in source.numeric:
        np.testing.assert_array_equal(source.arrays[name], labelled.arrays[name])
    np.testing.assert_array_equal(source.frames("front", [0, 9]), labelled.frames("front", [0, 9]))
    assert source.content_hash() != labelled.content_hash()
    first = read_thoughts(labelled, [0])[0]
    assert tuple(first.words) == words or set(first.words) == set(words)
    assert first.words["task"] == "put the red cube into the bowl"
    assert first.words["plan"] == "1. grasp the red cube 2. bring the red cube to the yellow bowl"
    assert first.words["objects"].startswith("red cube [") and "yellow bowl [" in first.words["objects"]
    assert {mark.camera for mark in first.marks} == {"front", "top"}
    # The label is where the hand will be: at the grasp the marked place is the hand's own.
    course = CourseReader(labelled, actions_of(labelled)).read(0)
    grasp = tell(course).keyframes[0].frame
    camera = {entry["camera"]: entry for entry in labelled.facts["calibrations"]}["front"]
    uv = Calibration.from_json(camera).project(course.hand[grasp][None]).uv[0]
    point = next(mark for mark in first.marks if mark.camera == "front" and mark.role == "next" and not mark.order)
    assert point.centre == pytest.approx(uv.tolist(), abs=1e-4)
    assert labelled.facts["labels"]["privileged"] == ["simulator state: names, places and sizes of objects"]
    assert main(["data", "check", str(out)]) == 0
    code, said = run(capsys, "data", "info", str(out), "--no-read")
    assert code == 0 and "marks: point, order, regions, objects" in said and "privileged: simulator state" in said
    code, said = run(capsys, "data", "view", str(out), "--out", str(tmp_path / "page"), "--no-check", "--episodes", "0")
    script = (tmp_path / "page" / "episodes" / "000000.js").read_text()
    assert code == 0 and '"subtask":"grasp the red cube"' in script and '"role":"source"' in script
    # Labels travel: what is split off carries them.
    assert main(["data", "split", str(out), "--out", str(tmp_path / "part"), "--episodes", "1"]) == 0
    part, start = open_dataset(tmp_path / "part"), labelled.episodes[1].start
    assert read_thoughts(part, range(part.num_frames)) == read_thoughts(labelled, range(start, labelled.num_frames))


def test_a_set_without_pictures_is_labelled_in_the_coordinates_of_a_camera_that_nobody_recorded(
    pushed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for camera in ("front", "top"):
        out = tmp_path / camera
        choices = ("--marks", "point", "--cameras", camera, "--words", "move")
        code, said = run(capsys, "data", "label", str(pushed), "--out", str(out), *choices)
        assert code == 0, said
        thoughts = read_thoughts(open_dataset(out), [0, 5])
        assert [mark.camera for thought in thoughts for mark in thought.marks] == [camera] * 2
    assert main(["data", "label", str(pushed), "--out", str(tmp_path / "any"), "--marks", "point"]) == 0


def test_the_columns_are_what_lerobot_declares(pushed: Path, tmp_path: Path) -> None:
    out = tmp_path / "labelled"
    dataset = open_dataset(pushed)
    write_thoughts(
        dataset, lambda episode: [Thought(words={"subtask": "push"})] * dataset.episodes[episode].length, out,
        facts={"by": "a test"},
    )  # fmt: skip
    info = json.loads((out / layout.INFO).read_text())
    for key in layout.LANGUAGE:
        assert info["features"][key] == {"dtype": "language", "shape": [1], "names": None}
    schema = pq.read_schema(next((out / "data").rglob("*.parquet")))
    row = schema.field(layout.PERSISTENT).type.value_type
    assert [(field.name, field.nullable) for field in row] == [
        ("role", False), ("content", True), ("style", True), ("timestamp", False), ("camera", True),
        ("tool_calls", True),
    ]  # fmt: skip
    assert str(row.field("timestamp").type) == "float" and "json" in str(row.field("tool_calls").type)
    assert "timestamp" not in [field.name for field in schema.field(layout.EVENTS).type.value_type]
    with pytest.raises(ConfigError, match="thoughts were given"):
        write_thoughts(dataset, lambda episode: [Thought()], tmp_path / "short", facts={})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Say which labels to make"),
        (("--marks", "points"), "Did you mean 'point'"),
        (("--words", "sub-task"), "Did you mean 'subtask'"),
        (("--marks", "point", "--cameras", "fornt"), "Did you mean 'front'"),
        (("--marks", "objects"), "nobody says where they are"),
        (("--words", "subtask", "--objects", "detector"), "go together"),
        (("--words", "subtask", "--objects", "detector", "--objects-options", "names=[]"), "a detector sees nothing"),
        (("--words", "move", "--directions", "back"), "calibrated camera"),
        (("--marks", "point", "--hand", "hand_x", "hand_y", "hand_w"), "Did you mean 'hand_"),
        (("--marks", "point", "--calibration", "none.json"), "cannot be read"),
    ],
)
def test_bad_choices_are_named_before_anything_is_written(
    words: tuple[str, ...], said: str, pushed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(capsys, "data", "label", str(pushed), "--out", str(tmp_path / "out"), *words)
    assert code == 2 and said in text, text
    assert not (tmp_path / "out").exists()


def test_a_robot_whose_gripper_is_not_named_or_that_has_two_is_refused(pushed: Path) -> None:
    dataset = open_dataset(pushed)
    for names in (("x", "y", "z", "finger"), ("left_gripper", "y", "z", "right_gripper")):
        robot = replace(actions_of(dataset), names=names)
        with pytest.raises(ConfigError, match="one hand"):
            CourseReader(dataset, robot)
    bare = replace(actions_of(dataset), names=("x", "y", "z", "w"), gripper="none")
    assert not CourseReader(dataset, bare).read(0).closed.any()
    opens = replace(actions_of(dataset), gripper="positive_opens")
    assert not CourseReader(dataset, opens).read(0).closed.any()  # the expert pushes with 1
    assert CourseReader(dataset, actions_of(dataset)).read(0).closed.all()


def test_a_set_that_nobody_labelled_says_how_to(pushed: Path) -> None:
    with pytest.raises(ConfigError, match="volar data label"):
        read_thoughts(open_dataset(pushed), [0])


def test_a_recording_that_its_simulator_does_not_repeat_is_refused(pushed: Path) -> None:
    dataset = open_dataset(pushed)
    where = dataset.episodes[0]
    rows = range(where.start, where.stop)
    recorded = Recorded(
        task=where.source["task"], seed=where.source["seed"], executed=dataset.rows(layout.EXECUTED, rows),
        proprioception=dataset.rows(layout.STATE, rows),
    )  # fmt: skip
    with Replay() as replay:
        seen = replay.objects(recorded)
        assert len(seen) == where.length and set(seen[0]) == {"red puck", "yellow region"}
        bent = recorded.executed.copy()
        bent[5, 0] *= -1
        with pytest.raises(ConfigError, match="replayed, step"):
            replay.objects(Recorded(task=recorded.task, seed=recorded.seed, executed=bent,
                                    proprioception=recorded.proprioception))  # fmt: skip
        with pytest.raises(ConfigError, match="stand elsewhere"):
            replay.calibrations("tabletop/push@camera=3")


def test_a_set_without_calibration_says_what_to_give(
    pushed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(pushed, bare)
    info = json.loads((bare / layout.INFO).read_text())
    block = info[layout.EXTENSION]
    del block["extra"]["calibrations"]
    block["crc32"] = layout.checksum(block)
    (bare / layout.INFO).write_text(json.dumps(info))
    code, text = run(capsys, "data", "label", str(bare), "--out", str(tmp_path / "out"), "--marks", "point")
    assert code == 2 and "--calibration simulator" in text
    code, text = run(capsys, "data", "label", str(bare), "--out", str(tmp_path / "out"), "--words", "move")
    assert code == 2 and "--directions robot" in text
    assert main(["data", "label", str(bare), "--out", str(tmp_path / "out"), "--marks", "point", "--words", "move",
                 "--calibration", "simulator"]) == 0  # fmt: skip
