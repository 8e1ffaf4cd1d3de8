"""The browser of episodes: what the data say is what is seen, films and curves keep step, texts stay texts, no network."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Chromium, find_chromium
from recordings import make_trajectory, open_writer

from volar.cli import main
from volar.cli.data_view import episode_numbers
from volar.core.errors import ConfigError
from volar.data.events import GripperEvent, Stretch, gripper_events, idle_stretches
from volar.data.formats import open_dataset
from volar.data.view import write_view

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
INSTRUCTIONS = ("open the faucet", "push the puck", EVIL)
LENGTHS = (30, 12, 45, 20, 8, 60, 25)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven episodes at 20 frames a second; those with odd numbers failed."""
    root = tmp_path_factory.mktemp("view") / "sorting"
    with open_writer(root) as writer:
        for number, length in enumerate(LENGTHS):
            source = {"seed": number, "success": number % 2 == 0, "note": EVIL}
            writer.add(make_trajectory(number, length), INSTRUCTIONS[number % 3], source=source)
    return root


@pytest.fixture(scope="module")
def page(data: Path) -> Path:
    return write_view(open_dataset(data), data.parent / "page", progress=False)


def episode_data(page: Path, number: int) -> dict[str, Any]:
    text = (page.parent / f"episodes/{number:06d}.js").read_text()
    return json.loads(text.removeprefix("volarEpisode(").removesuffix(");\n"))


def test_the_numbers_are_those_of_the_data(data: Path, page: Path) -> None:
    dataset = open_dataset(data)
    for episode in dataset.episodes:
        written = episode_data(page, episode.index)["values"]
        assert written.keys() == {"observation.state", "action", "executed_action", "next.reward"}
        for key, text in written.items():
            values = np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, episode.length).T
            np.testing.assert_array_equal(values, dataset.arrays[key][episode.start : episode.stop])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    binary = find_chromium()
    if binary is None:
        pytest.skip("no chromium or chrome on the PATH, so the page cannot be opened in a browser")
    chromium = Chromium(binary, tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


def wait(browser: Chromium, condition: str) -> None:
    for _ in range(600):  # a busy machine may take its time
        if browser.evaluate(condition):
            return
        time.sleep(0.05)
    raise AssertionError(f"never true: {condition}")


def open_episode(browser: Chromium, page: Path, number: int, *, width: int = 1400) -> None:
    browser.open(page, width=width)
    browser.evaluate(f"location.hash = '#{number}'")
    wait(browser, f"document.querySelector('h2')?.textContent === 'Episode {number}'")


def complaints(browser: Chromium) -> list[dict[str, object]]:
    kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Network.loadingFailed")
    return [event for event in browser.events if event["method"] in kinds]


def test_texts_stay_texts(browser: Chromium, page: Path) -> None:
    open_episode(browser, page, 2)
    assert browser.evaluate("document.title") == "sorting · volar episodes"
    assert browser.evaluate("document.querySelector('.instruction').textContent") == EVIL
    assert browser.evaluate("document.images.length") == 0
    assert complaints(browser) == []
