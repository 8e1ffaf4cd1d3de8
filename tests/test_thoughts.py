"""Thoughts made visible and usable: drawn, recorded, summed up, shown; by a person, an oracle, or chance."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium, complaints
from PIL import Image
from synthetic_run import RUN, make_episode

from volar.core.robot import Outcome, Trajectory
from volar.core.thoughts import Mark, Thought
from volar.data.marks import DESTINATION, DONE, LEGIBLE, NAMED, NEXT, mark_picture
from volar.evaluation.episodes import keep_film
from volar.evaluation.records import RecordFile, read
from volar.evaluation.report import write_report
from volar.evaluation.run import Arm, begin
from volar.evaluation.summary import summarise
from volar.evaluation.tables import to_markdown
from volar.evaluation.verdict import checks

GREY = np.full((48, 64, 3), 128, np.uint8)


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def centre_of(picture: np.ndarray, colour: str) -> np.ndarray:
    """Of all pixels of exactly that colour: u, v in fractions."""
    rows, columns = np.nonzero((picture == rgb(colour)).all(-1))
    assert len(rows), f"nothing is {colour}"
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / picture.shape[1::-1]


# Marks on pictures


@pytest.mark.parametrize(
    ("mark", "colour"),
    [
        (Mark(camera="top", centre=(0.3, 0.6)), NEXT),
        (Mark(camera="top", centre=(0.7, 0.4), size=(0.25, 0.2), role="destination"), DESTINATION),
        (Mark(camera="top", centre=(0.5, 0.5), role="destination", done=True), DONE),
        (Mark(camera="top", centre=(0.4, 0.4), size=(0.2, 0.2), role="cube"), NAMED),
    ],
)
def test_a_mark_stands_where_it_says(mark: Mark, colour: str) -> None:
    drawn = mark_picture(GREY, [replace(mark, role=mark.role)])
    assert drawn.shape == (192, 256, 3)
    shape = drawn.copy()
    if mark.role == "cube":
        shape[: round(192 * 0.3) + 30, round(256 * 0.51) :] = 128  # its name
    assert centre_of(shape, colour) == pytest.approx(mark.centre, abs=0.01)
    changed = np.argwhere((drawn != 128).any(-1))
    reach = (np.array(mark.size[::-1]) / 2 if mark.size != (0.0, 0.0) else np.array([0.05, 0.05])) + 0.06
    if mark.role != "cube":
        assert (np.abs(changed / drawn.shape[:2] - mark.centre[::-1]) < reach).all()


def test_a_box_encloses_what_it_marks() -> None:
    drawn = mark_picture(GREY, [Mark(camera="top", centre=(0.5, 0.5), size=(0.5, 0.25), role="source")])
    inner = drawn[round(192 * 0.4) : round(192 * 0.6), round(256 * 0.28) : round(256 * 0.72)]
    assert (inner == 128).all()


def test_names_and_numbers_stay_on_the_picture() -> None:
    corner = mark_picture(GREY, [Mark(camera="top", centre=(1.0, 1.0), role="red cube")])
    assert (corner[:, :200] != 128).any(), "the name is written to the left where there is no room"
    plain = mark_picture(GREY, [Mark(camera="top", centre=(0.2, 0.2))])
    numbered = mark_picture(GREY, [Mark(camera="top", centre=(0.2, 0.2), order=3)])
    assert (plain != numbered).any()


def test_small_pictures_grow_and_large_ones_do_not() -> None:
    for side, grown in ((32, 192), (96, 192), (100, 200), (256, 256)):
        picture = mark_picture(np.zeros((side, side, 3), np.uint8), [])
        assert picture.shape == (grown, grown, 3)
        assert grown >= LEGIBLE


# Films, records, summaries

POINT = Mark(camera="top", centre=(0.25, 0.5))
THOUGHTS = (
    Thought(words={"subtask": "grasp the cube"}, marks=(POINT,), tokens=6),
    Thought(words={"subtask": "grasp the cube"}, marks=(POINT,), ages={"subtask": 1, "marks": 0}, tokens=0),
    Thought(words={"subtask": "carry <it>"}, marks=(replace(POINT, done=True),), ages={"subtask": 0}, tokens=3),
)


def seen(looks: int) -> Trajectory:
    frames = np.full((looks + 1, 48, 48, 3), 128, np.uint8)
    nothing = np.zeros((4 * looks, 2), np.float32)
    return Trajectory(
        images={"front": frames, "top": frames}, proprioception=nothing, actions=nothing, executed=nothing,
        rewards=nothing[:, 0], image_steps=tuple(range(0, 4 * looks + 1, 4)),
    )  # fmt: skip


def test_a_film_bears_the_marks_of_its_camera_and_look(tmp_path: Path) -> None:
    episode = make_episode(thoughts=THOUGHTS, trajectory=seen(3))
    path = keep_film(tmp_path, episode)
    assert path is not None
    strip = np.asarray(Image.open(tmp_path / path)).astype(int)
    assert strip.shape == (2 * 192, 4 * 194 - 2, 3)
    for row, camera in enumerate(("front", "top")):
        for look in range(4):
            picture = strip[row * 192 : (row + 1) * 192, look * 194 : look * 194 + 192]
            marked = (np.abs(picture - 128) > 60).any()
            assert marked == (camera == "top" and look < 3), (camera, look)
    bare = keep_film(tmp_path, make_episode(seed=1, trajectory=seen(3)))
    assert bare is not None
    assert Image.open(tmp_path / bare).size == (4 * 50 - 2, 96)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scenes: the policy that thinks, the truth, and thoughts from elsewhere."""
    folder = tmp_path_factory.mktemp("thinking")
    arms = {name: Arm(role=name) for name in ("policy", "oracle_thoughts", "shuffled_thoughts", "expert")}
    begin(folder, replace(RUN, tasks=("metaworld/push",), seeds=tuple(range(40)), arms=arms))
    with RecordFile(folder / "episodes.jsonl") as file:
        for arm in arms:
            for seed in range(40):
                episode = make_episode(seed=seed, arm=arm, thoughts=() if arm == "expert" else THOUGHTS)
                if arm == "shuffled_thoughts":
                    episode = replace(episode, outcome=Outcome.TIME_OUT)
                film = None if arm == "expert" or seed else keep_film(folder, replace(episode, trajectory=seen(3)))
                file.append(episode, film)
    return folder


def test_thoughts_are_recorded(run: Path) -> None:
    episode = read(run / "episodes.jsonl")[0].episode
    assert episode.thoughts == THOUGHTS


def test_records_without_thoughts_are_still_read(run: Path, tmp_path: Path) -> None:
    line = json.loads((run / "episodes.jsonl").read_text().splitlines()[0])
    del line["thoughts"]
    (tmp_path / "episodes.jsonl").write_text(json.dumps(line) + "\n")
    assert read(tmp_path / "episodes.jsonl")[0].episode.thoughts == ()


def test_tokens_and_ages_are_summed_up(run: Path) -> None:
    summary = summarise(run)
    policy, *_, expert = summary.arms
    assert policy.tokens == 3
    assert policy.thought_age == pytest.approx(1 / 3)
    assert expert.tokens is None
    assert expert.thought_age is None
    assert summary.films[0].thoughts == THOUGHTS
    assert "policy thinks 3 tokens per decision" in to_markdown(summary)


def test_whether_thoughts_are_followed(run: Path) -> None:
    (check,) = checks(summarise(run))
    assert (check.question, check.answer) == ("Does it follow its thoughts?", "yes")


def test_the_page_says_nothing_of_thoughts_where_nobody_thinks(tmp_path: Path) -> None:
    begin(tmp_path, replace(RUN, tasks=("metaworld/push",), seeds=(0,), arms={"policy": Arm(role="policy")}))
    with RecordFile(tmp_path / "episodes.jsonl") as file:
        file.append(make_episode())
    page = write_report(tmp_path).read_text()
    assert "tokens thought" not in page
    assert "told itself" not in page


@pytest.mark.parametrize("width", [1280, 390])
def test_thoughts_are_legible_on_the_page(browser: Chromium, run: Path, width: int) -> None:
    browser.open(write_report(run), width=width)
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    text = browser.evaluate("document.body.innerText")
    assert "tokens thought per decision" in text
    assert "where the gripper acts next, done already." in text.replace("\N{NO-BREAK SPACE}", " ").replace("  ", " ")
    browser.evaluate("document.querySelector('.told').open = true")
    told = browser.evaluate("document.querySelector('.told').innerText")
    assert "pictures 1 to 2" in told
    assert "carry <it>" in told
    assert complaints(browser) == []
    Image.open(io.BytesIO(browser.screenshot())).verify()
