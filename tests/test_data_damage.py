"""A hundred damages to data sets of all formats, the faults that more of them found, and URLs on the command line.

`python bench/data_damage.py` does a thousand and more for every format.
"""

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import DAMAGES, FINE, MAKERS, Copy, make_plain, make_recorded, make_robomimic

from volar.cli import data
from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.formats import open_dataset
from volar.data.video import browsers_play

ROUNDS = 15  # of every format
FILM = "videos/observation.images.front/chunk-000/file-000.mp4"


@pytest.mark.parametrize("name", MAKERS)
def test_damage_is_refused_or_changes_nothing(name: str, tmp_path: Path) -> None:
    copy, kinds, told = Copy(MAKERS[name](tmp_path)), list(DAMAGES), []
    for turn in range(ROUNDS):
        kind = kinds[turn % len(kinds)]
        if (outcome := copy.read_damaged(kind, np.random.default_rng(turn))) is not None:
            assert outcome.says in FINE, (kind, outcome)
            told.append(outcome.says)
    assert told.count("refused") > ROUNDS // 2
    assert open_dataset(copy.root).num_frames  # it was mended after each


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return make_plain(tmp_path)


def test_a_count_of_episodes_asks_for_no_memory(plain: Path) -> None:
    path = plain / layout.INFO
    path.write_text(json.dumps(json.loads(path.read_text()) | {"total_episodes": 2**40}))
    with pytest.raises(ConfigError, match="counts 1099511627776 episodes, meta/episodes lists 3"):
        open_dataset(plain)


def test_films_with_strange_words_are_read_and_with_a_strange_codec_refused(plain: Path) -> None:
    film = plain / FILM
    pictures, good = open_dataset(plain).frames("front", [0, 1]), film.read_bytes()
    assert b"isom" in good[:32] and good.count(b"avc1") > 1
    film.write_bytes(good.replace(b"isom", b"iso\xdc", 1))
    dataset = open_dataset(plain)
    assert np.array_equal(dataset.frames("front", [0, 1]), pictures)
    assert dataset.source.stored("observation.images.front", 0) is not None
    place = good.rindex(b"avc1")
    film.write_bytes(good[:place] + b"\x01zzz" + good[place + 4 :])
    assert not browsers_play(film.read_bytes(), 20)
    with pytest.raises(ConfigError, match=r"file-000\.mp4 is corrupt"):
        open_dataset(plain).frames("front", [0])


def test_numbers_stored_as_something_else_are_refused(plain: Path) -> None:
    path = plain / layout.DATA.format(**layout.place(1))
    table = pq.read_table(path)
    for column, found in (
        (pa.array([[str(value) for value in row] for row in table["action"].to_pylist()]), "list<"),
        (pa.array([None] * len(table), pa.list_(pa.float32())), "missing values"),
        (pa.array([[1.0]] * len(table)), "1 numbers a row, 4 are declared"),
    ):
        pq.write_table(table.set_column(table.column_names.index("action"), "action", column), path)
        for lazy in (False, True):
            with pytest.raises(ConfigError, match=rf"action.*{found}"):
                open_dataset(plain, lazy=lazy).rows("action", range(20))


def test_negative_lengths_and_missing_cameras_are_told(plain: Path) -> None:
    path = plain / layout.EPISODES.format(**layout.place(1))
    table, good = pq.read_table(path), path.read_bytes()
    pq.write_table(table.set_column(table.column_names.index("length"), "length", [[-3]]), path)
    with pytest.raises(ConfigError, match=r"episode 1 claims rows .* length -3"):
        open_dataset(plain)
    path.write_bytes(good)
    shutil.rmtree(plain / "videos")
    with pytest.raises(ConfigError, match=r"file-000\.mp4 is missing"):
        open_dataset(plain)
    with pytest.raises(ConfigError, match=r"file-000\.mp4 is missing"):
        open_dataset(plain, lazy=True).frames("front", [0])


def test_instructions_of_hdf5_are_utf8(tmp_path: Path) -> None:
    root = make_robomimic(tmp_path)
    content = root.read_bytes()
    root.write_bytes(content.replace(b"lift the cube", b"lift\xfethe cube", 1))
    with pytest.raises(ConfigError, match=r"data\.hdf5 is truncated or corrupt.*utf-8"):
        open_dataset(root)


# ---- the command line reads data sets from URLs ----


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recorded(tmp_path_factory.mktemp("urls"))


@pytest.fixture(params=["file", "zip"])
def url(request: pytest.FixtureRequest, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOME", str(tmp_path))  # where copies are kept
    if request.param == "file":
        return f"file://{recorded}"
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in recorded.rglob("*.*"):
            if path.name != ".lock":
                archive.write(path, path.relative_to(recorded))
    return f"zip::file://{tmp_path}/data.zip"


def test_every_data_command_takes_a_url(url: str, recorded: Path, tmp_path: Path) -> None:
    def answer(*arguments: str) -> Mapping[str, Any]:
        return data.main([arguments[0], url, *arguments[1:]]).data

    original = open_dataset(recorded)
    assert answer("info")["content_hash"] == original.content_hash()
    assert answer("stats")["features"]["action"]["count"] == original.num_frames
    assert answer("check", "--pictures", "none")["counts"]["error"] == 0
    assert answer("convert", "--out", str(tmp_path / "new"))["data"][0]["frames"] == original.num_frames
    assert len(answer("curate", "--score", "smoothness", "--dimensions", "x", "y")["episodes"]) <= 3
    assert Path(answer("view", "--out", str(tmp_path / "page"), "--no-check")["page"]).is_file()
