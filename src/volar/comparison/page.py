"""The page of a comparison: one HTML file that needs no network and no other file, and result.json, summary.md beside.

All texts are data and escaped. One inline script, allowed by its hash in a content policy that forbids requests, shows
two films at the same moment and takes hand labels; everything else works without it.
"""

import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from PIL import Image

from volar.comparison.analyse import analyse
from volar.comparison.axes import amount
from volar.comparison.figures import difference_scale, scatters, watch
from volar.comparison.labels import key_text
from volar.comparison.markdown import to_markdown
from volar.comparison.result import Discordant, FailedEpisode, PairOutcome, Result, Take
from volar.comparison.words import DESIGNS, chance, guard_sentences, limit, recipe_sentence
from volar.core.atomic import write_files
from volar.evaluation.films import GAP, data_uri
from volar.evaluation.report import MARKS
from volar.evaluation.wording import (
    duration,
    fact_rows,
    label,
    listed,
    number,
    percent,
    percent_range,
    points,
    sentence,
    task_labels,
)  # fmt: skip

FILM_BYTES = 12 * 2**20  # of the page, half for discordant scenes and half for labelling
DISCORDANT = 3  # scenes shown with films, of one pair and winner, no two of the same task while there are others
LISTED = 100  # further discordant scenes, without films
LABELLED = 2000  # failed episodes that the page offers for labelling


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A film as the page shows it. frames, frame_width, height: of the strip in pixels; frames = 0 when they are not
    known, so that it cannot be shown moment by moment."""

    take: Take
    source: str
    width: int
    height: int
    frames: int
    frame_width: int


@dataclass(frozen=True, kw_only=True)
class ShownScene:
    """A discordant scene with the films of both sides; steps: of the longer episode."""

    scene: Discordant
    strips: tuple[Strip, ...]
    steps: int


def write_comparison_page(folder: Path, out: Path | None = None) -> Path:
    """Analyse `folder`; write the page to `out` (default: report.html in the folder), result.json and summary.md beside
    it. Returns the page's path. Raises ConfigError where `analyse` does."""
    result = analyse(folder)
    out = out or folder / "report.html"
    plain = json.dumps(result.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_files({
        out.with_name("result.json"): plain.encode(), out.with_name("summary.md"): to_markdown(result).encode(),
        out: render(result, folder).encode(),
    })  # fmt: skip
    return out


def render(result: Result, folder: Path) -> str:
    """The page as text. folder: where the films lie."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("volar.comparison", ""), PackageLoader("volar.evaluation", "")]),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        percent=percent, percent_range=percent_range, points=points, limit=limit, duration=duration, number=number,
        label=label, listed=listed, facts=fact_rows, sentence=sentence, amount=amount, after=recipe_sentence,
        chance=chance,
    )  # fmt: skip
    protocol, script = result.registration.protocol, files("volar.comparison").joinpath("page.js").read_text()
    registered = [pair for pair in result.pairs if pair.registered]
    scenes, charts = _scenes(result, folder), scatters(result.arms, result.axes)
    return environment.get_template("page.html").render(
        result=result, protocol=protocol, run=result.run, registered=registered, scenes=scenes,
        style=files("volar.evaluation").joinpath("report.css").read_text()
        + files("volar.comparison").joinpath("page.css").read_text(),
        script=script, script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        names=task_labels(protocol.tasks), designs=DESIGNS, guards=guard_sentences(result),
        marks={arm.name: MARKS[i % len(MARKS)] for i, arm in enumerate(result.arms)},
        scale=difference_scale(_intervals(registered), protocol.margin), scatters=charts,
        chosen=next((k for k, chart in enumerate(charts) if len({dot.cost for dot in chart.dots}) > 1), 0),
        watches=[
            watch(pair, pair.monitor, looks=protocol.looks, planned=protocol.max_episodes, margin=protocol.margin)
            for pair in registered if pair.monitor is not None
        ],
        arms={arm.name: arm for arm in result.arms}, hands=_hands(result, folder),
        rest_scenes=_unshown(result, scenes)[:LISTED], failure_rows=_failure_rows(result),
        failed=Counter(one.arm for one in result.failures.episodes),
        discordant_left=len(result.discordant) - len(scenes), fingerprint=result.run.fingerprint,
    )  # fmt: skip


def _intervals(pairs: list[PairOutcome]) -> list[Any]:
    return [one for pair in pairs for one in (pair.interval, pair.fixed, pair.recipes, *pair.tasks.values())]


def _scenes(result: Result, folder: Path) -> list[ShownScene]:
    """A few of each pair and winner that have the films of both sides, as long as there is room."""
    shown: list[ShownScene] = []
    kinds: dict[tuple[str, str], int] = {}
    room = FILM_BYTES // 2
    for scene in _varied(result.discordant):
        kind = (scene.pair, scene.winner)
        if kinds.get(kind, 0) >= DISCORDANT:
            continue
        strips = tuple(filter(None, (_strip(folder, take) for take in (scene.reference, scene.other))))
        size = sum(len(strip.source) for strip in strips)
        if len(strips) < 2 or size > room:
            continue
        room -= size
        kinds[kind] = kinds.get(kind, 0) + 1
        shown.append(ShownScene(scene=scene, strips=strips, steps=max(scene.reference.steps, scene.other.steps)))
    order = [arm.name for arm in result.arms]
    return sorted(shown, key=lambda one: (order.index(one.scene.pair), one.scene.winner != one.scene.pair))


def _varied(scenes: Sequence[Discordant]) -> list[Discordant]:
    """Of each pair and winner, one scene of every task before the second of any; each scene once, whoever met it."""
    turns: dict[tuple[str, str, str], int] = {}
    seen: dict[tuple[str, str, str, int], int] = {}
    ranked = []
    for scene in scenes:
        place = (scene.pair, scene.winner, scene.task, scene.seed)
        seen[place] = seen.get(place, 0) + 1
        turn = turns[place[:3]] = turns.get(place[:3], 0) + 1
        ranked.append((seen[place], turn, scene))
    return [scene for *_, scene in sorted(ranked, key=lambda item: item[:2])]


def _unshown(result: Result, scenes: list[ShownScene]) -> list[Discordant]:
    shown = {id(one.scene) for one in scenes}
    return [scene for scene in result.discordant if id(scene) not in shown]


def _failure_rows(result: Result) -> list[tuple[tuple[str, str], dict[str, int]]]:
    """((stage, cause), arm -> count), the most frequent first."""
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for one in result.failures.counts:
        rows.setdefault((one.stage, one.cause), {})[one.arm] = one.count
    return sorted(rows.items(), key=lambda row: -sum(row[1].values()))


def _strip(folder: Path, take: Take) -> Strip | None:
    source = data_uri(folder, take.film) if take.film else None
    if source is None or not source.startswith("data:image"):
        return None
    try:
        width, height = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size
    except OSError:  # a damaged picture spoils neither the page nor its neighbour
        return None
    frames = len(take.frame_steps)
    frame_width, rest = divmod(width + GAP, frames) if frames else (0, 1)
    whole = rest == 0 and frame_width > GAP
    return Strip(
        take=take, source=source, width=width, height=height, frames=frames if whole else 0,
        frame_width=frame_width - GAP if whole else 0,
    )  # fmt: skip


def _hands(result: Result, folder: Path) -> dict[str, Any]:
    """What the labelling form needs: failed episodes of all arms in turn, the first of them with films."""
    episodes = _in_turn(result)[:LABELLED]
    films: list[str] = []
    room = FILM_BYTES // 2
    rows = []
    for one in episodes:
        source = data_uri(folder, one.film) if one.film else None
        place = None
        if source is not None and source.startswith("data:image") and len(source) <= room:
            room -= len(source)
            place = len(films)
            films.append(source)
        rows.append({
            "key": key_text((one.member, one.task, one.seed)), "arm": one.arm, "member": one.member, "task": one.task,
            "seed": one.seed, "steps": one.steps, "film": place, "path": one.film,
            "rule": [one.rule.stage, one.rule.cause, one.rule.evidence],
        })  # fmt: skip
    return {
        "labels": {
            key_text((one.member, one.task, one.seed)): {"stage": one.hand.stage, "cause": one.hand.cause, "by": one.by}
            for one in result.failures.episodes if one.hand is not None
        },
        "store": f"volar labels {result.registration.sha256[:16]}", "episodes": rows, "films": films,
        "left": len(result.failures.episodes) - len(episodes),
    }  # fmt: skip


def _in_turn(result: Result) -> list[FailedEpisode]:
    """Those with films first, then one of each arm after the other."""
    places: dict[str, int] = {}
    ranked = []
    for one in sorted(result.failures.episodes, key=lambda one: one.film is None):
        places[one.arm] = places.get(one.arm, 0) + 1
        ranked.append((one.film is None, places[one.arm], one))
    return [one for *_, one in sorted(ranked, key=lambda item: item[:2])]
