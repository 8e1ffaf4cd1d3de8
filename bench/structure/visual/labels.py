"""The data of the study: demonstrations of `sort`, labelled by `volar data label`, and the same with labels that are
off, late, or boxes.

python bench/structure/visual/labels.py --out DATA
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from arms import CAMERA, DELAYS, DEMONSTRATIONS, ERRORS, PICTURE, PIXELS

from volar.cli.collect import Collect, collect
from volar.cli.data_label import Label, write_labels
from volar.core.thoughts import Mark, Thought
from volar.data.formats import open_dataset
from volar.data.thoughts import episode_thoughts, write_thoughts
from volar.envs.tabletop.tasks import sort

DETOURS = 300  # demonstrations of each of the 18
SEEN = 60  # demonstrations with pictures of each of the six trained tasks


@dataclass(frozen=True, kw_only=True)
class Data:
    """Collect and label what is not there yet."""

    out: Path
    parts: tuple[str, ...] = ("labelled", "error", "late", "boxed", "few", "by", "pictures")
    workers: int = 0


def moved(thought: Thought, way: Sequence[float]) -> Thought:
    """Every mark by `way` in fractions of the picture, held on it."""
    marks = []
    for mark in thought.marks:
        u, v = np.clip(np.add(mark.centre, way), 0.0, 1.0).tolist()
        marks.append(replace(mark, centre=(u, v)))
    return replace(thought, marks=tuple(marks))


def drawn_way(seed: Sequence[int], pixels: float) -> tuple[float, float]:
    """So many pixels of the study's picture, in a direction drawn by the seed, as fractions."""
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi)
    return float(pixels / PIXELS * np.cos(angle)), float(pixels / PIXELS * np.sin(angle))


def off(thoughts: Sequence[Thought], episode: int, pixels: float) -> list[Thought]:
    """As if every episode had been recorded with a calibration that is wrong in a direction of its own."""
    way = drawn_way([episode, 1], pixels)
    return [moved(thought, way) for thought in thoughts]


def late(thoughts: Sequence[Thought], episode: int, frames: int) -> list[Thought]:
    """Every label comes so many frames after its time."""
    return [thoughts[max(frame - frames, 0)] for frame in range(len(thoughts))]


def boxed(thoughts: Sequence[Thought], episode: int) -> list[Thought]:
    """A box for the next event: the source until it is done, then the destination."""
    return [replace(thought, marks=tuple(_next_box(thought.marks))) for thought in thoughts]


def _next_box(marks: Sequence[Mark]) -> list[Mark]:
    found = {mark.role: mark for mark in marks if mark.role in ("source", "destination")}
    source, destination = found.get("source"), found.get("destination")
    coming = destination if source is None or source.done else source
    return [] if coming is None else [replace(coming, role="next", done=False)]


def demonstrate(
    raw: Path, out: Path, tasks: Sequence[str], episodes: int, workers: int, camera: dict[str, int]
) -> None:
    """Collect and label."""
    if (out / "meta" / "info.json").exists():
        return
    names = tuple(f"tabletop-state/{task}" for task in tasks)
    collect(
        Collect(tasks=names, out=raw, episodes=episodes, max_steps=300, workers=workers, camera=camera, storage="jpeg")
    )
    write_labels(Label(data=str(raw), out=out, marks=("point", "order", "regions"), cameras=(CAMERA,),
                       calibration="simulator"))  # fmt: skip


def rewritten(source: Path, out: Path, change: Callable[[Sequence[Thought], int], list[Thought]], said: str) -> None:
    dataset = open_dataset(source)
    facts = {**dataset.facts["labels"], "changed": said}
    write_thoughts(dataset, lambda episode: change(episode_thoughts(dataset, episode), episode), out, facts=facts)


def main(command: Data) -> None:
    out = command.out
    wanted = {"labelled": (sort.TRAINED, DEMONSTRATIONS[-1])}
    if "few" in command.parts:
        wanted |= {f"labelled-{count}": (sort.TRAINED, count) for count in DEMONSTRATIONS[:-1]}
    if "by" in command.parts:
        wanted |= {"by": (tuple(sort.BY), DETOURS)}
    if "pictures" in command.parts:
        wanted |= {"pictures": (sort.TRAINED, SEEN)}
    for name, (tasks, episodes) in wanted.items():
        camera = {CAMERA: PICTURE} if name == "pictures" else {}
        demonstrate(out / f"raw-{name}", out / name, tasks, episodes, command.workers, camera)
    changes = {
        "error": {f"error-{pixels}": partial(off, pixels=pixels) for pixels in ERRORS},
        "late": {f"late-{frames}": partial(late, frames=frames) for frames in DELAYS},
        "boxed": {"boxed": boxed},
    }
    for part in command.parts:
        for name, change in changes.get(part, {}).items():
            rewritten(out / "labelled", out / name, change, name)


if __name__ == "__main__":
    main(tyro.cli(Data))
