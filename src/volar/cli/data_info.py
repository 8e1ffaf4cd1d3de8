"""`volar data info PATH`: what a data set holds, how its pictures are stored, and how fast they are read."""

from dataclasses import asdict, dataclass
from typing import Any

import tyro

from volar.cli.output import Output
from volar.cli.tables import show

MOST_TASKS = 12  # shown to people


@dataclass(frozen=True, kw_only=True)
class Info:
    """Describe a data set: format, features, tasks, and of every camera the stored form, its size and its speed."""

    data: tyro.conf.Positional[str]
    """folder or URL of a data set"""
    read: bool = True
    """measure what a random picture costs; --no-read opens no camera file"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Info, prog="volar data info", args=arguments)

    from volar.data.describe import describe
    from volar.data.formats import open_dataset
    from volar.data.stored_form import stored_forms

    dataset = open_dataset(command.data, lazy=True)
    forms = [asdict(form) for form in stored_forms(dataset)] if command.read else []
    data = {**describe(dataset), "stored": forms}
    return Output(data, _text(command.data, data))


def _text(root: str, data: dict[str, Any]) -> str:
    lengths, tasks = data["episode_lengths"], data["tasks"]
    lines = [
        f"{root}: {data['format']}, {data['robot'] or 'robot not named'}, {data['fps']:g} frames a second",
        f"{data['episodes']} episodes of {lengths['min']} to {lengths['max']} frames (mean {lengths['mean']:.1f}), "
        f"{data['frames']} frames; content {data['content_hash']}",
        "",
        show(("feature", "type", "shape", "dimensions"), [_feature(*item) for item in data["features"].items()]),
        "",
        show(("episodes", "task"), [(count, task) for task, count in list(tasks.items())[:MOST_TASKS]]),
    ]
    if len(tasks) > MOST_TASKS:
        lines.append(f"and {len(tasks) - MOST_TASKS} more tasks")
    if labels := data["facts"].get("labels"):
        lines += ["", _labels(labels)]
    if data["stored"]:
        heads = ("camera", "pixels", "stored as", "bytes a frame", "random read", "decoded")
        lines += ["", show(heads, [_stored(form) for form in data["stored"]])]
    return "\n".join(lines)


def _labels(labels: dict[str, Any]) -> str:
    """Whoever labels by `write_thoughts` notes what they like."""
    said = [f"{kind}: {', '.join(labels[kind])}" for kind in ("marks", "words", "privileged") if labels.get(kind)]
    return "labels of every frame; " + "; ".join(said)


def _feature(name: str, feature: dict[str, Any]) -> tuple[str, ...]:
    names, shape = feature["names"], " x ".join(map(str, feature["shape"]))
    if isinstance(names, dict):
        names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
    named = "" if feature["dtype"] in ("video", "image") else ", ".join(map(str, names or []))
    return name, feature["dtype"], shape, named


def _stored(form: dict[str, Any]) -> tuple[str, ...]:
    every, size = form["key_frame_every"], form["bytes_per_frame"]
    keys = f", a key frame every {every:.3g}" if every and every > 1 else ""
    fits = "fits into the cache" if form["fits"] else "larger than the cache"
    return (
        form["camera"], f"{form['height']} x {form['width']}", f"{form['kind']} ({form['codec'] or 'unknown'}{keys})",
        "unknown" if size is None else f"{size:,.0f}", f"{form['read_ms']:.2f} ms",
        f"{form['decoded_bytes'] / 2**20:,.1f} MiB, {fits}",
    )  # fmt: skip
