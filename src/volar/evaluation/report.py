"""The page: one HTML file that shows an evaluation to a person, without network, script or any other file.

All texts of a run (instructions, names, error messages) are data and escaped; a content policy in the page forbids
requests. The charts are inline SVG: they print, need no script and weigh a hundredth of a plotting library.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from volar.core.atomic import write_files
from volar.data.marks import DESTINATION, DONE, NAMED, NEXT, SOURCE, colour_of
from volar.evaluation.charts import RateChart, line_chart, rate_chart
from volar.evaluation.films import data_uri
from volar.evaluation.summary import Film, Summary, summarise
from volar.evaluation.tables import result_rows, robustness_rows
from volar.evaluation.training import share_of_phases
from volar.evaluation.verdict import EXPLANATIONS, checks, difference_text, verdict, warnings
from volar.evaluation.wording import duration, fact_rows, label, number, percent, percent_range, sentence, task_labels

FILMS = {True: 2, False: 1}  # of one task, arm and outcome, for the policy and for a control arm
FILM_BYTES = 20 * 2**20  # of the page; what does not fit is left in the run's folder
CURVES = {"loss": "training loss", "validation_loss": "validation loss"}

# Okabe & Ito, "Color Universal Design" (2008); the order keeps neighbours apart for every kind of colour vision.
# Each arm has a shape of its own as well, for print without colour.
MARKS = (
    ("#0072b2", "circle"),
    ("#d55e00", "square"),
    ("#cc79a7", "diamond"),
    ("#595959", "cross"),
    ("#009e73", "triangle"),
    ("#e69f00", "square"),
    ("#56b4e9", "circle"),
)


# What the colour of a mark means, as far as the marks of a run have it.
LEGEND = {
    NEXT: "where the gripper acts next", SOURCE: "where from", DESTINATION: "where to", NAMED: "an object by its name",
    DONE: "done already",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Caption:
    """pictures: of the strip, counted from 1, such as 'pictures 2 to 4'. words: what the arm told itself at them."""

    pictures: str
    words: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ShownFilm:
    """A film as the page shows it."""

    film: Film
    source: str
    video: bool
    captions: tuple[Caption, ...]

    @property
    def marked(self) -> bool:
        return any(thought.marks for thought in self.film.thoughts)


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Summarise the run in `folder`, write the page to `out` (default: report.html in the folder) and `results.json`
    beside it. Returns the page's path. Raises ConfigError where `summarise` does."""
    summary = summarise(folder)
    out = out or folder / "report.html"
    results = json.dumps(summary.to_json(), indent=1, ensure_ascii=False) + "\n"
    write_files({out.with_name("results.json"): results.encode(), out: render(summary, folder).encode()})
    return out


def describe_run(folder: Path) -> dict[str, Any]:
    """What `volar info RUN --json` prints: kind, verdict, checks and everything of results.json."""
    summary = summarise(folder)
    answers = {check.question: check.answer for check in checks(summary)}
    return {"kind": "evaluation", "verdict": verdict(summary), "checks": answers, **summary.to_json()}


def render(summary: Summary, folder: Path) -> str:
    """The page as text. folder: where the films lie."""
    environment = Environment(
        loader=PackageLoader("volar.evaluation", ""), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        percent=percent, percent_range=percent_range, duration=duration, number=number, label=label,
        facts=fact_rows, difference=difference_text, sentence=sentence,
    )  # fmt: skip
    films = _shown(summary, folder)
    style = (Path(__file__).parent / "report.css").read_text()
    return environment.get_template("report.html").render(
        summary=summary, run=summary.run, style=style,
        settings={"tasks": summary.run.tasks, "seeds": summary.run.seeds, **summary.run.settings},
        verdict=verdict(summary), checks=checks(summary), warnings=warnings(summary),
        names=task_labels(summary.run.tasks), rows=result_rows(summary),
        marks={arm.name: MARKS[i % len(MARKS)] for i, arm in enumerate(summary.arms)}, explanations=EXPLANATIONS,
        differences={difference.other: difference for difference in summary.differences},
        films=films, films_left=sum((folder / film.path).is_file() for film in summary.films) - len(films),
        chart=line_chart({CURVES[name]: summary.curves[name] for name in CURVES if name in summary.curves}),
        shares=share_of_phases(summary.phases),
        robustness=robustness_rows(summary), rate_charts=_rate_charts(summary),
        suite=summary.run.settings.get("suite"),
        thinking=any(arm.tokens is not None for arm in summary.arms), legend=_legend(films),
    )  # fmt: skip


def _legend(films: Sequence[ShownFilm]) -> list[tuple[str, str]]:
    """(colour, words) of the marks that these films bear."""
    met = {colour_of(mark) for shown in films for thought in shown.film.thoughts for mark in thought.marks}
    return [(colour, words) for colour, words in LEGEND.items() if colour in met]


def _captions(film: Film) -> tuple[Caption, ...]:
    """Neighbouring pictures with the same words share a caption."""
    alike = itertools.groupby(enumerate(film.thoughts, start=1), key=lambda numbered: dict(numbered[1].words))
    captions = []
    for words, group in alike:
        numbers = [number for number, _ in group]
        some = f"pictures {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"picture {numbers[0]}"
        if words:
            captions.append(Caption(pictures=some, words=words))
    return tuple(captions)


def _rate_charts(summary: Summary) -> list[RateChart]:
    axes = dict.fromkeys(curve.axis for curve in summary.robustness)
    return [rate_chart(axis, [curve for curve in summary.robustness if curve.axis == axis]) for axis in axes]


def _shown(summary: Summary, folder: Path) -> list[ShownFilm]:
    """A few of each kind, ordered by task, then arm, then successes before failures."""
    roles = {arm.name: arm.role for arm in summary.arms}
    order = list(roles)
    films = sorted(
        summary.films,
        key=lambda film: (
            summary.run.tasks.index(film.task),
            order.index(film.arm),
            film.outcome != "success",
            film.seed,
        ),
    )
    shown: list[ShownFilm] = []
    kinds: dict[tuple[str, str, bool], int] = {}
    room = FILM_BYTES
    for film in films:
        kind = (film.task, film.arm, film.outcome == "success")
        if kinds.get(kind, 0) >= FILMS[roles[film.arm] == "policy"]:
            continue
        source = data_uri(folder, film.path)
        if source is None or len(source) > room:
            continue
        room -= len(source)
        kinds[kind] = kinds.get(kind, 0) + 1
        shown.append(
            ShownFilm(film=film, source=source, video=source.startswith("data:video"), captions=_captions(film))
        )
    return shown
