"""The page says what the records say, treats every text as data, needs nothing but itself, reads well everywhere."""

import dataclasses
import io
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium, complaints, requests
from rich.console import Console
from synthetic_run import RUN, make_episode, write_run

from volar.core.robot import Outcome
from volar.evaluation import records, run, summary, training
from volar.evaluation.charts import line_chart, nice_ticks
from volar.evaluation.records import RecordFile
from volar.evaluation.report import describe_run, write_report
from volar.evaluation.run import Arm, RunInfo, begin
from volar.evaluation.summary import summarise
from volar.evaluation.tables import print_table, to_markdown
from volar.evaluation.training import Curve
from volar.evaluation.verdict import checks, verdict, warnings
from volar.evaluation.wording import duration, fact_rows, number, percent, points, sentence
from volar.statistics.intervals import Interval

SCHEMA = Path(__file__).parent.parent / "docs" / "results_schema.md"
EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return write_report(folder)


def small_run(
    folder: Path, outcomes: dict[str, str], *, info: RunInfo | None = None, task: str = "toy/push", **facts: object
) -> Path:
    """One task; arm -> one letter per seed: s(uccess), f(ailure), e(rror), - (not run yet)."""
    seeds = tuple(range(len(next(iter(outcomes.values())))))
    arms = {arm: Arm(role=arm) for arm in outcomes}
    begin(folder, info or replace(RUN, tasks=(task,), seeds=seeds, arms=arms))
    kinds = {"s": Outcome.SUCCESS, "f": Outcome.TIME_OUT, "e": Outcome.ERROR}
    with RecordFile(folder / "episodes.jsonl") as file:
        for arm, letters in outcomes.items():
            for seed, letter in enumerate(letters):
                if letter != "-":
                    error = "EpisodeError: the worker died" if letter == "e" else None
                    file.append(make_episode(task, seed, arm, kinds[letter], error=error, **facts))
    return folder


# Words


@pytest.mark.parametrize(
    ("control", "answer", "words"),
    [
        ("f" * 40, "yes", "Given the instruction of another task the success is 0 % instead of 90 %: −90 points"),
        (
            "s" * 36 + "f" * 4,
            "no",
            "the success is 90 % instead of 90 %: 0 points (95 % interval of the difference −9 to +9)",
        ),
        ("f" * 5 + "s" * 31 + "f" * 3 + "s", "undecided", "More episodes are needed to tell."),
    ],
)
def test_whether_language_is_used(tmp_path: Path, control: str, answer: str, words: str) -> None:
    found = summarise(small_run(tmp_path, {"policy": "s" * 36 + "f" * 4, "shuffled_instruction": control}))
    (check,) = checks(found)
    assert check.question == "Does it use the instruction?"
    assert check.answer == answer
    assert words in check.sentence.replace("\N{NO-BREAK SPACE}", " ")


def test_a_policy_that_never_succeeds_shows_nothing(tmp_path: Path) -> None:
    found = summarise(small_run(tmp_path, {"policy": "f" * 100, "blank_images": "f" * 100}))
    assert [check.answer for check in checks(found)] == ["undecided"]
    assert "too rarely to tell" in checks(found)[0].sentence


def test_rarely_may_still_be_better_than_random(tmp_path: Path) -> None:
    found = summarise(small_run(tmp_path, {"policy": "s" * 9 + "f" * 91, "random_actions": "f" * 100}))
    assert [check.answer for check in checks(found)] == ["yes"]


def test_verdicts_without_a_rate(tmp_path: Path) -> None:
    controls = summarise(small_run(tmp_path / "a", {"expert": "ss"}))
    assert verdict(controls) == "No policy took part in this run; there are only control arms."
    assert checks(controls) == ()
    broken = summarise(small_run(tmp_path / "b", {"policy": "eee", "expert": "sss"}))
    assert verdict(broken) == "No verdict: all 3 episodes of the policy broke, so that none could be scored."
    absent = summarise(small_run(tmp_path / "c", {"policy": "---", "expert": "sss"}))
    assert verdict(absent) == "No verdict yet: the policy has no finished episode."
    assert warnings(absent) == ("The run is not finished: policy has 0 of 3 episodes.",)
    info = replace(RUN, tasks=("toy/push", "toy/reach"), seeds=(0, 1), arms={"policy": Arm(role="policy")})
    partial = summarise(small_run(tmp_path / "d", {"policy": "ss"}, info=info))
    assert verdict(partial) == "No overall verdict: no episode could be scored on reach."


def test_numbers_in_words() -> None:
    plain = {rate: percent(rate).replace("\N{NO-BREAK SPACE}", "") for rate in (0.0, 0.004, 0.005, 0.85, 0.996, 1.0)}
    assert plain == {0.0: "0%", 0.004: "<1%", 0.005: "1%", 0.85: "85%", 0.996: ">99%", 1.0: "100%"}
    assert [points(gap) for gap in (0.79, -0.03, 0.004)] == ["+79", "−3", "0"]
    times = (0.0, 0.00001, 0.0001, 0.0124, 0.9999, 4.06, 9.97, 59.6, 552, 7380)
    words = [duration(seconds).replace("\N{NO-BREAK SPACE}", " ") for seconds in times]
    assert words == [
        "0 ms",
        "<0.1 ms",
        "0.1 ms",
        "12 ms",
        "1.0 s",
        "4.1 s",
        "10 s",
        "1 min 00 s",
        "9 min 12 s",
        "2 h 03 min",
    ]
    assert [number(value) for value in (6204423, 0.0482, 12345.6, 3.0)] == ["6,204,423", "0.0482", "12,346", "3"]
    assert [sentence(text) for text in ("uniform actions", " Done! ", "")] == ["Uniform actions.", "Done!", ""]
    rows = fact_rows({"a": {"peak_bytes": 2**20}, "seeds": [4, 5, 6], "odd": [4, 6], "none": None, "on": True})
    assert [value.replace("\N{NO-BREAK SPACE}", " ") for _, value in rows] == [
        "1.0 MiB",
        "4–6 (3)",
        "4, 6",
        "none",
        "yes",
    ]


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.0, 3000.0), (-2.0, 7.3), (0.31, 0.32), (5.0, 5.0), (0.0, 0.0)]
)
def test_ticks_enclose_and_are_few(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= 7
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_chart_geometry() -> None:
    chart = line_chart({"loss": Curve(steps=(10.0, 100.0), values=(1.0, 0.1))})
    assert chart is not None
    assert chart.lines[0].points == ((10.0, 0.0), (100.0, 90.0))
    assert chart.lines[0].dotted
    assert not chart.logarithmic
    chart = line_chart({"loss": Curve(steps=(10.0, 100.0), values=(10.0, 0.1))})
    assert chart is not None
    assert chart.logarithmic
    assert chart.lines[0].points == ((10.0, 0.0), (100.0, 100.0))
    assert line_chart({}) is None
    flat = line_chart({"loss": Curve(steps=(0.0,), values=(0.0,))})
    assert flat is not None
    assert np.isfinite(flat.lines[0].points).all()


def test_terminal_and_markdown(folder: Path) -> None:
    found = summarise(folder)
    stream = io.StringIO()
    print_table(found, Console(file=stream, width=80))
    text = stream.getvalue().replace("\N{NO-BREAK SPACE}", " ")
    assert max(map(len, text.splitlines())) <= 80
    for words in (
        "The policy succeeds in 88 % of episodes",
        "81–93 %",
        "87/98",
        "Does it use the instruction? Yes.",
        "Note:",
    ):
        assert words in text
    markdown = to_markdown(found).replace("\N{NO-BREAK SPACE}", " ")
    assert "| mean of tasks | 88 % · 81–93 % · 87/98 |" in markdown
    evil = replace(found, run=replace(found.run, title="a|b<script>"))
    assert "a\\|b\\<script\\>" in to_markdown(evil)


# The file


def test_results_follow_the_documented_schema(page: Path) -> None:
    results = json.loads(page.with_name("results.json").read_text(), parse_constant=pytest.fail)
    assert results["schema"] == summary.SCHEMA
    documented = set(re.findall(r"`(\w+)(?:\[\]|\{\})?`", SCHEMA.read_text()))
    types = (summary.Summary, summary.ArmResult, summary.Rate, summary.Difference, summary.Broken, summary.Film,
             run.RunInfo, run.Arm, Interval, records.Unpaired, training.Curve)  # fmt: skip
    keys = {field.name for kind in types for field in dataclasses.fields(kind)}
    assert keys - documented - {"estimate", "low", "high"} == set()
    assert set(results) == {field.name for field in dataclasses.fields(summary.Summary)}
    described = describe_run(page.parent)
    assert described["kind"] == "evaluation"
    assert described["checks"]["Does it use the instruction?"] == "yes"
    assert json.loads(json.dumps({key: described[key] for key in results})) == results


def test_page_is_whole_in_itself(page: Path) -> None:
    text = page.read_text()
    sources = re.findall(r"""(?:src|href|action|poster|url)\s*[=(]\s*["']?([^"'\s>)]{1,20})""", text)
    assert {source.partition(":")[0] for source in sources} <= {"data", "#result"}
    assert "<script" not in text
    assert "http:" not in text and "https:" not in text
    assert len(text) < 1_000_000
    assert "30 more in the run's folder" in text


def test_texts_are_data(tmp_path: Path) -> None:
    evil = replace(
        RUN, title=EVIL, tasks=(f"toy/{EVIL}",), seeds=(0, 1), arms={EVIL: Arm(role="policy", description=EVIL)},
        success_semantics=EVIL, settings={EVIL: EVIL}, fingerprint={EVIL: [EVIL]},
    )  # fmt: skip
    begin(tmp_path, evil)
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8")
    with RecordFile(tmp_path / "episodes.jsonl") as file:
        file.append(make_episode(f"toy/{EVIL}", 0, EVIL, instruction=EVIL, privileged=(EVIL,)), "x.jpg")
        file.append(make_episode(f"toy/{EVIL}", 1, EVIL, Outcome.ERROR, instruction=EVIL, error=EVIL))
    for name in ("compute", "phases"):
        (tmp_path / f"{name}.json").write_text(json.dumps({EVIL: 1.0}))
    text = write_report(tmp_path).read_text()
    assert text.count("&lt;script&gt;") > 12
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "default-src 'none'" in text


def test_a_page_with_only_broken_episodes_shows_no_rate(tmp_path: Path) -> None:
    text = write_report(small_run(tmp_path, {"policy": "eee"}), tmp_path / "elsewhere" / "page.html").read_text()
    assert "all 3 episodes of the policy broke" in text
    assert text.count("no scored episode") == 2
    assert text.count("EpisodeError: the worker died") == 3
    assert 'class="figure"' not in text
    assert "100\N{NO-BREAK SPACE}%" not in text
    assert (tmp_path / "elsewhere" / "results.json").exists()


def test_warnings_reach_the_page(tmp_path: Path) -> None:
    small_run(tmp_path, {"policy": "ss-", "blank_images": "sfs"}, latencies=(0.1,))
    lines = (tmp_path / "episodes.jsonl").read_text().replace("toy/push:0", "other", 1)
    lines = lines.replace('"executed_per_chunk": 4', '"executed_per_chunk": 8', 1)
    (tmp_path / "episodes.jsonl").write_text(lines)
    text = write_report(tmp_path).read_text()
    assert "One scene differed between arms" in text
    assert "policy has 2 of 3 episodes" in text
    assert "policy 4/8 and blank images 4" in text
    assert "Every arm meets the same scenes" not in text


def test_a_missing_film_is_no_reason_to_fail(tmp_path: Path) -> None:
    begin(tmp_path, replace(RUN, tasks=("toy/push",), seeds=(0,), arms={"policy": Arm(role="policy")}))
    with RecordFile(tmp_path / "episodes.jsonl") as file:
        file.append(make_episode("toy/push", 0), "films/gone.jpg")
    assert "What it looks like" not in write_report(tmp_path).read_text()


# The browser


@pytest.mark.parametrize("width", [1280, 768, 390, 320])
def test_page_reads_well_at_every_width(browser: Chromium, page: Path, width: int) -> None:
    browser.open(page, width=width)
    text = browser.evaluate("document.body.innerText").replace("\N{NO-BREAK SPACE}", " ")
    for words in (
        "The policy succeeds in 88 % of episodes (95 % interval 81 to 93 %)", "Does it use the instruction?\nyes",
        "2 episodes broke", "open the faucet", "What it looks like", "validation loss", "Compute ledger", "6,204,423",
        "9 min 02 s", "object and goal positions", "EpisodeError: the worker died",
    ):  # fmt: skip
        assert words in text
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    loaded = "[...document.images].length && [...document.images].every(image => image.naturalWidth > 0)"
    assert browser.evaluate(loaded)
    overlaps = """[...document.querySelectorAll('.range:not(.axis)')].filter(row => {
        const boxes = [...row.children].map(child => child.getBoundingClientRect()).filter(box => box.width);
        return boxes.some((box, i) => i && box.left < boxes[i - 1].right - 1);
    }).length"""
    assert browser.evaluate(overlaps) == 0
    cut = "[...document.querySelectorAll('.arm')].filter(arm => arm.scrollWidth > arm.clientWidth).length"
    assert browser.evaluate(cut) == 0
    assert complaints(browser) == []
    assert {url.partition(":")[0] for url in requests(browser)} == {"file", "data"}


def test_marks_stand_where_the_numbers_say(browser: Chromium, page: Path) -> None:
    browser.open(page, width=1000)
    policy = summarise(page.parent).arms[0]
    assert policy.overall is not None
    places = browser.evaluate("""(() => {
        const plot = document.querySelector('.task.mean .range.subject svg').getBoundingClientRect();
        const box = document.querySelector('.task.mean .range.subject circle').getBoundingClientRect();
        const line = document.querySelectorAll('.task.mean .range.subject line')[5].getBoundingClientRect();
        return [(box.left + box.right) / 2, line.left, line.right].map(x => (x - plot.left) / plot.width);
    })()""")
    assert places == pytest.approx([policy.overall.estimate, policy.overall.low, policy.overall.high], abs=0.006)


def test_keyboard_reaches_and_opens_everything(browser: Chromium, page: Path) -> None:
    browser.open(page, width=1000)
    reached = []
    for _ in range(browser.evaluate("document.querySelectorAll('a, summary, [tabindex]').length")):
        browser.press("Tab", 9)
        reached.append(browser.evaluate("document.activeElement.className || document.activeElement.innerText"))
        if reached[-1] == "Fingerprint":
            browser.press("Enter", 13)
    assert reached[0] == "skip"
    assert {"scroll", "strip", "Settings", "Fingerprint"} <= set(reached)
    assert browser.evaluate("[...document.querySelectorAll('details')].map(item => item.open)") == [False, True]
    assert "a524bb3f0d1c" in browser.evaluate("document.body.innerText")


def test_headings_and_pictures_have_names(browser: Chromium, page: Path) -> None:
    browser.open(page, width=1000)
    levels = browser.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(heading => +heading.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    images = [node for node in nodes if not node["ignored"] and node["role"]["value"] in ("image", "img")]
    assert images
    assert all(node["name"]["value"] for node in images)


def test_print_shows_the_details(browser: Chromium, page: Path) -> None:
    browser.open(page, width=1000)
    assert browser.pdf().startswith(b"%PDF")
    browser.call("Emulation.setEmulatedMedia", media="print")
    shown = browser.evaluate("[...document.querySelectorAll('details table')].map(table => table.checkVisibility())")
    height = browser.evaluate("document.querySelector('details table').getBoundingClientRect().height")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert shown == [True, True]
    assert height > 20


def test_injected_script_does_not_run(browser: Chromium, tmp_path: Path) -> None:
    evil = replace(
        RUN, title=EVIL, tasks=("toy/push",), seeds=(0,), arms={"policy": Arm(role="policy", description=EVIL)}
    )
    begin(tmp_path, evil)
    with RecordFile(tmp_path / "episodes.jsonl") as file:
        file.append(make_episode("toy/push", 0, instruction=EVIL))
    browser.open(write_report(tmp_path), width=800)
    assert browser.evaluate("document.title") == f"{EVIL} · volar report"
    assert browser.evaluate("document.querySelector('h1').textContent") == EVIL
    assert complaints(browser) == []
