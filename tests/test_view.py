"""The browser of episodes: what the data say is what is seen, films and curves keep step, texts stay texts, and nothing
is asked of any network."""

import base64
import io
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Chromium, complaints, requests
from PIL import Image
from recordings import SPEC, make_trajectory, open_writer

from volar.cli import main
from volar.core.errors import ConfigError
from volar.core.robot import Camera
from volar.data import layout
from volar.data.check import check
from volar.data.dataset import Dataset, Header, Options, Source
from volar.data.episodes import EpisodeTable
from volar.data.events import GripperEvent, Stretch, gripper_events, idle_stretches
from volar.data.findings import error, note, warning
from volar.data.formats import open_dataset
from volar.data.store import open_store
from volar.data.video import VideoDecoder, VideoFile
from volar.data.view import write_view

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
INSTRUCTIONS = ("open the faucet", "push the puck", EVIL)
LENGTHS = (30, 12, 26, 20, 8, 28, 25)
FINDINGS = (
    error("copy", "the same numbers as episode 3", "Remove one.", episode=5),
    warning("frozen", f"4 equal pictures {EVIL}", "Leave it out.", episode=2, feature="action", start=5, stop=9),
    note("idle", "0.3 s", "Trim.", episode=2, start=20, stop=26),
    note("constant-dimension", "grip", "Drop it.", feature="action"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven episodes at 20 frames a second, those with odd numbers failed. Frame t of camera front is grey, 8 t."""
    root = tmp_path_factory.mktemp("view") / "sorting"
    with open_writer(root) as writer:
        for number, length in enumerate(LENGTHS):
            trajectory = make_trajectory(number, length)
            grey = np.broadcast_to(8 * np.arange(length, dtype=np.uint8)[:, None, None, None], (length, 24, 32, 3))
            trajectory = replace(trajectory, images={**trajectory.images, "front": np.ascontiguousarray(grey)})
            source = {"seed": number, "success": number % 2 == 0, "note": EVIL}
            writer.add(trajectory, INSTRUCTIONS[number % 3], source=source)
    return root


@pytest.fixture(scope="module")
def page(data: Path) -> Path:
    return write_view(open_dataset(data), data.parent / "page", findings=FINDINGS, progress=False)


def index_of(page: Path) -> dict[str, Any]:
    text = page.read_text().partition('id="index">')[2].partition("</script>")[0]
    return json.loads(text)


def episode_of(page: Path, number: int) -> dict[str, Any]:
    text = (page.parent / f"episodes/{number:06d}.js").read_text()
    return json.loads(text.removeprefix("volarEpisode(").removesuffix(");\n"))


# The folder


def test_numbers_are_those_of_the_data(data: Path, page: Path) -> None:
    dataset = open_dataset(data)
    for episode in dataset.episodes:
        written = episode_of(page, episode.index)["values"]
        assert written.keys() == {"observation.state", "action", "executed_action", "next.reward"}
        for key, text in written.items():
            values = np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, episode.length).T
            np.testing.assert_array_equal(values, dataset.arrays[key][episode.start : episode.stop])
    panels = index_of(page)["panels"]
    assert [panel["title"] for panel in panels] == ["State", "Action and executed action", "Reward"]
    assert panels[1]["units"] == list(SPEC.action.units)
    both = np.concatenate([dataset.arrays["action"], dataset.arrays["executed_action"]])
    assert (panels[1]["low"], panels[1]["high"]) == (both.min(0).tolist(), both.max(0).tolist())


def test_films_are_copied_or_encoded_once(data: Path, page: Path) -> None:
    dataset = open_dataset(data)
    films = [page.parent / film for film in episode_of(page, 2)["films"]]
    assert films[0].read_bytes() == (data / "videos/observation.images.front/chunk-000/file-002.mp4").read_bytes()
    rows = np.arange(dataset.episodes[2].start, dataset.episodes[2].stop)
    shown = VideoDecoder().decode(VideoFile(films[1]), range(len(rows)))
    pictures = dataset.frames("wrist", rows).astype(float)
    for t in range(len(rows)):
        away = np.abs(pictures - shown[t]).mean((1, 2, 3))
        assert away[t] < away.min() + 1  # of 255; two frames away it is 3 more
    before = {path: path.stat().st_mtime_ns for path in page.parent.glob("films/*.mp4")}
    assert len(before) == 2 * len(LENGTHS)
    again = write_view(dataset, page.parent, findings=FINDINGS, progress=False)
    assert {path: path.stat().st_mtime_ns for path in again.parent.glob("films/*.mp4")} == before


def test_odd_cameras_stay_in_the_folder(tmp_path: Path) -> None:
    """Names that lead elsewhere or mean something to HTML, and sides that H.264 cannot store."""
    cameras = tuple(Camera(name=name, height=17, width=19) for name in ("../../<b>top", "?", "!"))
    spec = replace(SPEC, cameras=cameras)
    storage = {camera.name: "image" for camera in cameras}
    pictures = np.full((5, 17, 19, 3), 90, np.uint8)
    with open_writer(tmp_path / "data", spec=spec, camera_storage=storage) as writer:
        trajectory = replace(make_trajectory(0, 5), images=dict.fromkeys(storage, pictures))
        writer.add(trajectory, "look", source={})
    page = write_view(open_dataset(tmp_path / "data"), tmp_path / "page", progress=False)
    films = {(page.parent / film).resolve() for film in episode_of(page, 0)["films"]}
    assert films == set((tmp_path / "page").resolve().glob("films/*.mp4"))
    assert len(films) == 3
    assert all(VideoFile(film).frames_at(np.arange(5) / 20, 20) == list(range(5)) for film in films)


def test_command_line(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`main` gives exit codes and JSON; what the check says is what the page says."""
    words = ["data", "view", str(data), "--out", str(tmp_path / "page"), "--episodes", "5-6,1", "--json"]
    assert main(words) == 0
    found = index_of(Path(json.loads(capfd.readouterr().out)["page"]))
    assert [row["number"] for row in found["episodes"]] == [1, 5, 6]
    expected = check(open_dataset(data))
    assert [one["code"] for one in found["findings"]] == [f.code for f in expected if f.place.episode is None]
    for row in found["episodes"]:
        assert [code for _, code in row["flags"]] == [f.code for f in expected if f.place.episode == row["number"]]
    assert main([*words[:6], "7"]) == 2
    assert main([*words[:4], str(data / "page"), "--no-check"]) == 2
    assert not (data / "page").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/index.html").write_text("my own page")
    assert main([*words[:4], str(tmp_path / "mine"), "--no-check"]) == 2
    assert (tmp_path / "mine/index.html").read_text() == "my own page"


def test_a_damaged_film_is_refused(data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(data)
    path = data / "videos/observation.images.front/chunk-000/file-001.mp4"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ConfigError, match=r"file-001\.mp4"):
            write_view(dataset, tmp_path / "page", episodes=[1], progress=False)
    finally:
        path.write_bytes(whole)


def test_lazily_opened_data_give_the_same_page(data: Path, page: Path, tmp_path: Path) -> None:
    lazy = write_view(
        open_dataset(data, lazy=True), tmp_path, episodes=range(len(LENGTHS)), findings=FINDINGS, progress=False
    )
    assert lazy.read_text() == page.read_text()
    for script in page.parent.glob("episodes/*.js"):
        assert (tmp_path / "episodes" / script.name).read_text() == script.read_text()


# Events


def test_idle_stretches_are_the_planted_ones() -> None:
    generator = np.random.default_rng(0)
    values = np.cumsum(generator.uniform(0.5, 1.5, size=(200, 3)) * [1, -2, 0.1], axis=0)
    for start, stop in ((40, 60), (100, 107), (150, 200)):
        moved = values[start].copy()
        values[stop:] -= values[stop - 1] - moved
        values[start:stop] = moved
    noise = generator.uniform(-1, 1, size=values.shape) * 0.002 * np.ptp(values, axis=0)
    low, high = values.min(0), values.max(0)
    expected = [Stretch(start=40, stop=60), Stretch(start=150, stop=200)]  # 7 frames are shorter than half a second
    assert idle_stretches(values, low, high, fps=20) == expected
    assert idle_stretches(values + noise, low, high, fps=20) == expected
    assert idle_stretches(values[:5], low, high, fps=20) == []
    assert idle_stretches(np.zeros((30, 2)), np.zeros(2), np.zeros(2), fps=20) == [Stretch(start=0, stop=30)]


def test_gripper_events_are_changes_of_side() -> None:
    course = np.array([0, 0.1, 0.5, 0.6, 0.4, 0.9, 1, 0.6, 0.5, 0.7, 0.2, 0.2], dtype=np.float64)
    values = np.stack([course[::-1], course, 0.1 * course], axis=1)
    names = ("wrist", "left_Gripper", "jaw")
    low, high = np.array([-1.0, -1, -1]), np.array([1.0, 1, 1])  # it went further in other episodes; the jaw trembles
    for polarity, kinds in {
        "positive_closes": ["closes", "opens"], "positive_opens": ["opens", "closes"], "none": ["rises", "falls"],
    }.items():  # fmt: skip
        found = gripper_events(values, low, high, names, polarity)
        assert found == [
            GripperEvent(frame=frame, name="left_Gripper", kind=kind)
            for frame, kind in zip((5, 10), kinds, strict=True)
        ]
    assert gripper_events(np.zeros((4, 3)), np.zeros(3), np.zeros(3), names, "none") == []


# The page in a browser


def wait(browser: Chromium, condition: str) -> None:
    for _ in range(600):  # a busy machine may take its time
        if browser.evaluate(condition):
            return
        time.sleep(0.05)
    raise AssertionError(f"never true: {condition}")


def open_list(browser: Chromium, page: Path, *, width: int = 1400) -> None:
    browser.open(page, width=width)


def open_episode(browser: Chromium, page: Path, number: int, *, width: int = 1400) -> None:
    open_list(browser, page, width=width)
    browser.evaluate(f"location.hash = '#{number}'")
    wait(browser, f"document.querySelector('h2')?.textContent === 'Episode {number}'")


def click(browser: Chromium, selector: str, across: float = 0.5) -> None:
    """With the mouse, at a share of the element's width."""
    where = browser.evaluate(f"""(() => {{
        const element = document.querySelector({json.dumps(selector)});
        element.scrollIntoView({{block: 'nearest'}});
        const box = element.getBoundingClientRect();
        return {{x: box.left + {across} * box.width, y: box.top + box.height / 2}};
    }})()""")
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)


def numbers_listed(browser: Chromium) -> list[int]:
    return browser.evaluate("[...document.querySelectorAll('#list b')].map(one => +one.textContent)")


def frame_shown(browser: Chromium) -> str:
    return browser.evaluate("document.querySelector('.controls output').textContent")


def brightness(browser: Chromium) -> int:
    """Of the first film's middle, as painted. A frame that was sought is painted some time after the search ends."""
    wait(browser, "[...document.querySelectorAll('video')].every(one => !one.seeking && one.readyState >= 2)")
    where = browser.evaluate("""(() => {
        const box = document.querySelector('video').getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2];
    })()""")
    png = base64.b64decode(browser.call("Page.captureScreenshot")["data"])
    return Image.open(io.BytesIO(png)).convert("L").getpixel((int(where[0]), int(where[1])))  # type: ignore[return-value]


def becomes(browser: Chromium, grey: int) -> bool:
    """Whether the first film is painted so bright in the end."""
    for _ in range(100):
        if abs(brightness(browser) - grey) <= 3:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("width", [1400, 800, 360])
def test_page_reads_well_at_every_width(browser: Chromium, page: Path, width: int) -> None:
    open_episode(browser, page, 2, width=width)
    wait(browser, "[...document.querySelectorAll('video')].every(one => one.readyState >= 2)")
    text = browser.evaluate("document.body.innerText")
    for words in ("Episode 2", EVIL, "✓ success", "26 frames, 1.30 s", "seed 2", "front", "wrist", "frozen",
                  "Leave it out.", "Action and executed action", "grip normalised", "Reward"):  # fmt: skip
        assert words in text
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert browser.evaluate("document.querySelector('#list').checkVisibility()") == (width > 832)
    assert complaints(browser) == []
    assert all(url.startswith((page.parent.as_uri(), "data:")) for url in requests(browser))


def test_texts_stay_texts(browser: Chromium, page: Path) -> None:
    open_episode(browser, page, 2)
    assert browser.evaluate("document.title") == "Episode 2 · sorting · volar episodes"
    assert browser.evaluate("document.querySelector('.instruction').textContent") == EVIL
    assert browser.evaluate("document.querySelector('#filters [name=task]').options[3].text") == EVIL
    assert EVIL in browser.evaluate("document.querySelector('#episode .troubles').textContent")
    assert browser.evaluate("document.images.length + document.scripts.length") == 2
    assert complaints(browser) == []


def test_films_and_curves_follow_one_cursor(browser: Chromium, data: Path, page: Path) -> None:
    dataset = open_dataset(data)
    open_episode(browser, page, 0)
    states = dataset.arrays["observation.state"][:30]
    readings = "[...document.querySelectorAll('.panel .now')].map(one => one.textContent.replace('−', '-'))"
    for across, frame in ((0.0, 0), (1.0, 29), (0.6, 17)):
        click(browser, ".panel:not(.events) .plot", across=min(across, 0.999))
        assert frame_shown(browser).startswith(f"frame {frame} of 29")
        assert becomes(browser, 8 * frame)
        x = browser.evaluate("[...document.querySelectorAll('.panel:not(.events) .now')].slice(0, 3)"
                             ".map(one => one.textContent.replace('−', '-'))")  # fmt: skip
        assert [float(text) for text in x] == pytest.approx(states[frame].tolist(), rel=1e-3)
        line = browser.evaluate("getComputedStyle(document.querySelector('.plot'), '::after').left")
        plot = browser.evaluate("document.querySelector('.plot').clientWidth")
        assert float(line.removesuffix("px")) == pytest.approx(plot * frame / 29, abs=1.5)
    assert len(browser.evaluate(readings)) >= 8


def test_keys_turn_frames_and_episodes(browser: Chromium, page: Path) -> None:
    open_episode(browser, page, 0)
    browser.press("ArrowRight", 39)
    browser.press("ArrowRight", 39)
    assert frame_shown(browser).startswith("frame 2 ")
    assert becomes(browser, 16)
    browser.press("End", 35)
    assert frame_shown(browser).startswith("frame 29 ")
    browser.press("ArrowLeft", 37)
    assert frame_shown(browser).startswith("frame 28 of 29")
    browser.press("j", 74)
    wait(browser, "document.querySelector('h2').textContent === 'Episode 1'")
    assert browser.evaluate("document.querySelector('#list [aria-current]').hash") == "#1"
    browser.press("k", 75)
    wait(browser, "document.querySelector('h2').textContent === 'Episode 0'")
    browser.press("/", 191)
    assert browser.evaluate("document.activeElement.name") == "words"


def test_playing_ends_with_all_films_on_the_last_frame(browser: Chromium, page: Path) -> None:
    open_episode(browser, page, 0)
    click(browser, ".play")
    assert browser.evaluate("document.querySelector('.play').textContent") == "Pause"
    wait(browser, "document.querySelector('.controls output').textContent.startsWith('frame 29 ')")
    wait(browser, "document.querySelector('.play').textContent === 'Play'")
    wait(browser, "[...document.querySelectorAll('video')].every(one => Math.floor(one.currentTime * 20) === 29)")
    assert becomes(browser, 8 * 29)
    assert complaints(browser) == []


def test_list_is_searched_filtered_and_sorted(browser: Chromium, page: Path) -> None:
    open_list(browser, page)
    assert numbers_listed(browser) == list(range(7))

    def choose(name: str, value: str) -> list[int]:
        field = f"document.querySelector('#filters [name={name}]')"
        browser.evaluate(f"{field}.value = {value!r}; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")
        return numbers_listed(browser)

    assert choose("words", "FAUCET open") == [0, 3, 6]
    assert browser.evaluate("document.querySelector('#count').textContent") == "3 of 7 episodes"
    assert choose("order", "short") == [3, 6, 0]
    assert choose("success", "true") == [6, 0]
    assert choose("words", "no such thing") == []
    click(browser, "#filters [type=reset]")
    wait(browser, "document.querySelectorAll('#list b').length === 7")
    assert choose("least", "1.25") == [0, 2, 5, 6]
    assert choose("most", "1.3") == [2, 6]
    click(browser, "#filters [type=reset]")
    wait(browser, "document.querySelectorAll('#list b').length === 7")
    assert choose("order", "findings") == [5, 2, 0, 1, 3, 4, 6]
    assert choose("flag", "some") == [5, 2]
    assert choose("flag", "code idle") == [2]
    assert choose("flag", "none") == [0, 1, 3, 4, 6]
    assert choose("task", "1") == [1, 4]
    click(browser, "#list a")
    wait(browser, "document.querySelector('h2')?.textContent === 'Episode 1'")
    assert complaints(browser) == []


def test_a_finding_leads_to_its_frames(browser: Chromium, page: Path) -> None:
    open_episode(browser, page, 2)
    places = browser.evaluate("""(() => {
        const plot = document.querySelector('.events .plot').getBoundingClientRect();
        const band = document.querySelector('.band.warning').getBoundingClientRect();
        return [(band.left - plot.left) / plot.width, (band.right - plot.left) / plot.width];
    })()""")
    assert places == pytest.approx([5 / 25, 8 / 25], abs=0.01)
    click(browser, "#episode .troubles button")
    assert frame_shown(browser).startswith("frame 5 of 25")
    assert "grip" in browser.evaluate("document.querySelector('#general').textContent")


def test_everything_has_a_name(browser: Chromium, page: Path) -> None:
    open_episode(browser, page, 2)
    levels = browser.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(heading => +heading.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    asked = ("image", "img", "slider", "combobox", "searchbox", "spinbutton", "button", "link", "Video")
    named = [node for node in nodes if not node["ignored"] and node["role"]["value"] in asked]
    assert {node["role"]["value"] for node in named} >= set(asked) - {"img"}
    assert [node["role"]["value"] for node in named if not node["name"]["value"]] == []


class Numbers(Source):
    """One number a frame and no file."""

    def __init__(self, episodes: EpisodeTable) -> None:
        self.episodes = episodes

    def numbers(self, episodes: range, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        columns = self.episodes.bookkeeping(episodes, fps=10.0, tasks=("wait",))
        return columns | {"action": columns["index"][:, None].astype(np.float32)}

    def pictures(self, key: str, rows: np.ndarray) -> dict[int, np.ndarray]:
        raise AssertionError("there is no camera")

    def identity(self) -> Iterator[bytes]:
        return iter(())


def test_many_episodes_without_cameras(browser: Chromium, tmp_path: Path) -> None:
    episodes = EpisodeTable(np.full(203, 2), [("wait",)] * 203)
    columns = {**layout.BOOKKEEPING, "action": "float32"}
    header = Header(
        store=open_store(tmp_path / "data"), format="memory", info={}, fps=10.0, episodes=episodes, tasks=("wait",),
        features={name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in columns.items()},
    )  # fmt: skip
    page = write_view(Dataset(header, Numbers(episodes), Options()), tmp_path / "page", progress=False)
    open_list(browser, page)
    assert len(numbers_listed(browser)) == 200
    browser.evaluate("location.hash = '#201'")
    wait(browser, "document.querySelector('#list [aria-current]')?.hash === '#201'")
    open_list(browser, page)
    click(browser, "#more")
    assert numbers_listed(browser) == list(range(203))
    assert not browser.evaluate("document.querySelector('#more').checkVisibility()")
    click(browser, "#list li:nth-child(203) a")
    wait(browser, "document.querySelector('h2')?.textContent === 'Episode 202'")
    assert frame_shown(browser).startswith("frame 0 of 1")
    (page.parent / "episodes/000007.js").unlink()
    browser.evaluate("location.hash = '#7'")
    wait(browser, "document.querySelector('#episode').textContent.includes('000007.js is missing')")
    browser.evaluate("location.hash = '#8'")
    wait(browser, "document.querySelector('h2')?.textContent === 'Episode 8'")
