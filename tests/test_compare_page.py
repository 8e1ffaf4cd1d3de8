"""What a comparison's folder says, and its page: the registered test decides, nothing is joined or left out in silence,
every text is data, the page needs nothing but itself and works by keyboard."""

import dataclasses
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium, complaints, requests
from scipy.stats import norm
from synthetic_compare import (
    FIRST_SEED,
    TASKS,
    episode,
    plan,
    quick_records,
    run_info,
    write_comparison,
    write_looks,
    write_small,
)

from volar.cli import report
from volar.comparison import ledger, protocol, result, session
from volar.comparison.analyse import analyse
from volar.comparison.axes import amount
from volar.comparison.discord import frame_steps
from volar.comparison.figures import difference_scale, scatters
from volar.comparison.ledger import Ledger, write_ledgers
from volar.comparison.markdown import to_markdown
from volar.comparison.outcomes import Outcomes
from volar.comparison.page import write_comparison_page
from volar.comparison.protocol import freeze
from volar.comparison.result import PairOutcome, Result
from volar.comparison.words import guard_sentences
from volar.core.errors import ConfigError
from volar.envs.difficulty import GROUPS, harder_tasks
from volar.evaluation import records, run, summary
from volar.evaluation.run import begin
from volar.evaluation.wording import percent
from volar.statistics import bootstrap
from volar.statistics.agreement import cohen_kappa
from volar.statistics.intervals import Interval, Pairs, paired_difference, wilson
from volar.statistics.multiple import holm
from volar.statistics.paired import equivalence_paired
from volar.statistics.sequential import confidence_sequence, group_sequential
from volar.statistics.unpaired import Counts, unpaired_difference

SCHEMA = Path(__file__).parent.parent / "docs" / "compare_schema.md"
EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
TASK = "metaworld/push"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(tmp_path_factory.mktemp("comparison"))


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    (folder / "labels.json").write_text(json.dumps(some_labels(folder)))
    return write_comparison_page(folder)


@pytest.fixture(scope="module")
def found(folder: Path, page: Path) -> Result:
    return analyse(folder)


def some_labels(folder: Path) -> dict[str, dict[str, str]]:
    """Ten failed episodes as a person saw them, eight of them as the rules did; and one that is no failure here."""
    failed = [one for one in records.read(folder / "episodes.jsonl") if one.episode.success is False][:10]
    labels = {"|".join(map(str, one.key)): {"stage": "unknown", "cause": "time-out", "by": "Ada"} for one in failed}
    for key in list(labels)[:2]:
        labels[key] = {"stage": "grasp", "cause": "dropped", "by": "Ada"}
    return labels | {"nobody|metaworld/push|1": {"stage": "reach", "cause": "stuck", "by": "Ada"}}


def pair_of(found: Result, other: str = "b") -> PairOutcome:
    return next(pair for pair in found.pairs if pair.other == other and pair.registered)


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


# Who is better


@pytest.mark.parametrize(
    ("reference", "other", "standing", "words"),
    [
        ("f" * 24 + "s" * 16, "s" * 40, "better", "b is better than a by 60 points: 95 % interval 45 to 74"),
        ("s" * 40, "f" * 24 + "s" * 16, "worse", "b is worse than a by 60 points: 95 % interval 45 to 74"),
        ("sf" * 100, "sf" * 100, "equivalent", "equivalent within the registered margin of 5 points"),
        ("sf" * 10, "fs" * 10, "undecided", "b and a are not separated: the difference lies between −"),
        ("sf" * 10, "-" * 20, "not compared", "were not compared: no scene of every task was met and scored in both"),
    ],
)
def test_the_verdict_is_one_of_five(tmp_path: Path, reference: str, other: str, standing: str, words: str) -> None:
    found = analyse(write_small(tmp_path, {"a": reference, "b": other}, design="fixed"))
    assert pair_of(found).standing == standing
    assert words in plain(found.verdict[0])
    assert ("paired episodes" in found.verdict[0]) == (standing != "not compared")


def test_a_fixed_design_is_tango_and_schuirmann(tmp_path: Path) -> None:
    found = pair_of(analyse(write_small(tmp_path, {"a": "sfsfffssff" * 4, "b": "sfssffsssf" * 4}, design="fixed")))
    pairs = Pairs(both=16, first_only=8, second_only=0, neither=16)
    assert found.interval == found.fixed == found.tasks[TASK]
    assert vars(found.interval) == pytest.approx(vars(paired_difference([pairs])), abs=1e-9)
    equivalence = equivalence_paired([pairs], margin=0.05)
    assert not equivalence.equivalent
    assert found.standing == "better"
    assert (found.scenes, found.wins, found.losses) == (40, 8, 0)


def test_an_anytime_design_is_the_confidence_sequence(tmp_path: Path) -> None:
    first, second = "sfsff" * 12, "ssfsf" * 12
    found = pair_of(analyse(write_small(tmp_path, {"a": first, "b": second})))
    values = np.array([(two == "s") - (one == "s") for one, two in zip(first, second, strict=True)], dtype=float)
    expected = confidence_sequence(values[:, None])
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (expected.low[-1], expected.high[-1])
    assert found.p == expected.p[-1]
    assert found.monitor is not None
    assert found.monitor.e_value[-1] == pytest.approx(expected.e_value[-1], abs=1e-6)
    assert found.monitor.scenes[-1] == 60
    assert found.interval.high - found.interval.low > found.fixed.high - found.fixed.low  # type: ignore[union-attr]


def test_a_group_design_waits_for_its_looks(tmp_path: Path) -> None:
    words = {"a": "f" * 25, "b": "s" * 25}
    looks = {"design": "group", "looks": (20, 40), "max_episodes": 40}
    found = pair_of(analyse(write_small(tmp_path / "a", words, **looks)))
    boundary = group_sequential([0.5], alpha=0.05).boundaries[0]
    alone = Pairs(both=0, first_only=20, second_only=0, neither=0)
    expected = paired_difference([alone], confidence=float(1 - 2 * norm.sf(boundary)))
    assert found.standing == "better"
    assert found.interval is not None
    assert found.interval.low == pytest.approx(expected.low, abs=1e-9)
    assert found.monitor is not None
    assert found.monitor.stopped == 20
    early = analyse(write_small(tmp_path / "b", {"a": "f" * 15, "b": "s" * 15}, **looks))
    assert pair_of(early).standing == "not compared"
    assert any("not finished" in deviation for deviation in early.deviations)


def test_without_a_margin_nothing_is_equivalent(tmp_path: Path) -> None:
    found = analyse(write_small(tmp_path, {"a": "sf" * 100, "b": "sf" * 100}, design="fixed", margin=0.0))
    assert pair_of(found).standing == "undecided"


def test_three_arms_are_corrected_lettered_and_ranked(tmp_path: Path) -> None:
    words = {"a": "s" * 20 + "f" * 40, "b": "s" * 27 + "f" * 32 + "s", "c": "s" * 55 + "f" * 5}
    found = analyse(write_small(tmp_path, words, design="fixed"))
    b, c = pair_of(found, "b"), pair_of(found, "c")
    assert b.p is not None and c.p is not None
    assert (b.adjusted_p, c.adjusted_p) == pytest.approx(holm([b.p, c.p]))
    assert [arm.letters for arm in found.arms] == ["c", "b", "a"]
    strengths = [arm.strength.estimate for arm in found.arms if arm.strength]
    assert strengths == sorted(strengths)
    assert [(pair.reference, pair.other) for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair.registered for pair in found.pairs] == [True, True, False]


def test_separated_alone_is_not_separated_after_correction(tmp_path: Path) -> None:
    words = {"a": "s" * 20 + "f" * 20, "b": "s" * 25 + "f" * 15, "c": "s" * 22 + "f" * 18}
    found = analyse(write_small(tmp_path, words, design="fixed"))
    pair = pair_of(found)
    assert pair.p is not None and pair.adjusted_p is not None and pair.interval is not None
    assert pair.p < 0.05 < pair.adjusted_p
    assert pair.interval.low > 0
    assert pair.standing == "undecided"
    assert "not separated after correction for 2 comparisons" in pair.sentence


def test_members_of_an_arm_count_once_per_scene(tmp_path: Path) -> None:
    """Three policies that always agree are no more evidence than one."""
    one = analyse(write_small(tmp_path / "one", {"a": "ssff" * 10, "b": "sssf" * 10}, design="fixed"))
    wanted = plan({"a": ("a@0", "a@1", "a@2"), "b": ("b@0", "b@1", "b@2")}, tasks=(TASK,), scenes=40, design="fixed")
    freeze(tmp_path / "three", wanted)
    begin(tmp_path / "three", run_info(wanted), beside=session.BESIDE)
    with quick_records(tmp_path / "three") as file:
        for member in wanted.members:
            for k, letter in enumerate(("ssff" if member[0] == "a" else "sssf") * 10):
                file.append(episode(member, TASK, FIRST_SEED + k, letter == "s"))
    write_looks(tmp_path / "three")
    three = analyse(tmp_path / "three")
    assert vars(pair_of(three).interval) == pytest.approx(vars(pair_of(one).interval), abs=1e-9)
    assert vars(three.arms[0].overall) == pytest.approx(vars(wilson(20, 40)), abs=1e-9)
    assert "40 paired scenes with 3 policies of each arm" in three.verdict[0]
    assert "so the verdict holds for the recipes too" in three.verdict[0]
    assert three.arms[0].spread == bootstrap.SeedSpread(rates=(0.5, 0.5, 0.5), deviation=0.0, excess=0.0)
    assert one.arms[0].spread is None and pair_of(one).recipes is None


# What is not joined


def test_scenes_that_differ_broke_or_are_missing_are_left_out(tmp_path: Path) -> None:
    found = analyse(write_small(tmp_path, {"a": "ssssffff", "b": "ds-esfff"}, pairing="paired"))
    pair = pair_of(found)
    assert vars(pair.left_out) == {"missing": 1, "broken": 1, "different": 1}
    assert (pair.scenes, pair.wins, pair.losses) == (5, 1, 0)
    text = "\n".join(found.warnings)
    assert "One scene began differently for b and a although task and seed are the same: left out" in text
    assert "One scene was not met by every policy of b and a: left out of their difference." in text
    assert "One episode of the arms broke" in text
    assert [(one.arm, one.seed) for one in found.broken] == [("b", FIRST_SEED + 3)]


def test_unpaired_arms_are_analysed_as_such_and_said_so(tmp_path: Path) -> None:
    words = {"a": "d" * 10 + "f" * 30, "b": "d" * 28 + "f" * 12}
    found = analyse(write_small(tmp_path, words, design="fixed", pairing="unpaired"))
    pair = pair_of(found)
    expected = unpaired_difference([Counts(first=28, first_episodes=40, second=10, second_episodes=40)])
    assert vars(pair.interval) == pytest.approx(vars(expected), abs=1e-9)
    assert not pair.paired
    assert pair.monitor is None
    assert "episodes on different scenes" in pair.sentence
    assert "compared as independent samples" in found.warnings[0]
    assert "paired episodes" not in pair.sentence


def test_an_arm_without_a_task_is_not_compared(tmp_path: Path) -> None:
    wanted = plan({"a": ("a",), "b": ("b",)}, tasks=(TASK, "metaworld/reach"), scenes=20, design="fixed")
    freeze(tmp_path, wanted)
    begin(tmp_path, run_info(wanted), beside=session.BESIDE)
    with quick_records(tmp_path) as file:
        for k in range(20):
            file.append(episode("a", TASK, FIRST_SEED + k, True))
            file.append(episode("b", TASK, FIRST_SEED + k, k % 2 == 0))
            file.append(episode("a", "metaworld/reach", FIRST_SEED + k, True))
    found = analyse(tmp_path)
    assert pair_of(found).standing == "not compared"
    assert pair_of(found).interval is None
    assert pair_of(found).tasks["metaworld/reach"] is None
    assert pair_of(found).tasks[TASK] is not None
    assert found.arms[1].overall is None
    assert found.arms[1].letters == ""
    assert any("b has no scored episode on metaworld/reach" in warning for warning in found.warnings)
    text = write_comparison_page(tmp_path).read_text()
    assert "no common scene" in text


def test_unequal_terms_are_told(tmp_path: Path) -> None:
    write_small(tmp_path, {"a": "sf" * 10, "b": "ss" * 10}, execute={})
    lines = (tmp_path / "episodes.jsonl").read_text().splitlines()
    changed = [
        line.replace('"executed_per_chunk": 16', '"executed_per_chunk": 8').replace(
            '"privileged": []', '"privileged": ["object positions"]'
        )
        if '"arm": "b"' in line
        else line
        for line in lines
    ]
    (tmp_path / "episodes.jsonl").write_text("\n".join(changed) + "\n")
    write_looks(tmp_path)
    entries = {"a": "x86_64, 2 cores", "b": "H200"}
    write_ledgers(
        tmp_path / "ledger.json",
        {
            arm: {arm: Ledger(hardware=where, training_flops=1e15 if arm == "a" else 2e15)}
            for arm, where in entries.items()
        },
    )
    found = analyse(tmp_path)
    text = "\n".join(found.warnings)
    assert "carry out different numbers of actions between two looks: a 16 and b 8" in text
    assert "only b (object positions) used what a real robot does not have" in text
    assert "Times were taken on different hardware (H200 and x86_64, 2 cores)" in text
    assert "with 2 times the training FLOPs" in found.verdict[0]


def test_compute_that_is_unknown_is_not_called_equal(tmp_path: Path) -> None:
    found = analyse(write_small(tmp_path, {"a": "sf" * 10, "b": "sf" * 10}))
    assert "equal training FLOPs intended, not counted" in found.verdict[0]
    assert found.arms[0].axes["training_flops"] is None
    assert found.arms[0].axes["evaluations"] == 10
    assert [chart.axis.name for chart in scatters(found.arms, found.axes)] == [
        "evaluations", "latency_median", "latency_p95",
    ]  # fmt: skip
    text = write_comparison_page(tmp_path).read_text()
    assert "Success against network evaluations per decision" in text
    assert "Success against training samples" not in text
    assert text.count('class="unknown">unknown<') >= 20


# Bad input


def test_a_folder_without_a_comparison_or_an_episode(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No comparison in .*protocol.json is missing"):
        analyse(tmp_path)
    wanted = plan({"a": ("a",), "b": ("b",)}, tasks=(TASK,), scenes=10)
    freeze(tmp_path, wanted)
    begin(tmp_path, run_info(wanted), beside=session.BESIDE)
    with pytest.raises(ConfigError, match="No record file"):
        analyse(tmp_path)
    (tmp_path / "episodes.jsonl").write_text("")
    with pytest.raises(ConfigError, match="no finished episode yet"):
        analyse(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines, lines[0]], "repeats arm 'a'"),
        (lambda lines: [lines[0].replace('"total_reward": 0.0', '"total_reward": NaN'), *lines[1:]], "finite number"),
        (lambda lines: [lines[0].replace('"arm": "a"', '"arm": "z"'), *lines[1:]], "holds arm 'z'"),
        (lambda lines: [lines[0].replace(TASK, "toy/x"), *lines[1:]], "holds task 'toy/x'"),
        (lambda lines: [lines[0][:40], *lines[1:]], "is not JSON"),
    ],
)  # fmt: skip
def test_damaged_records_are_refused(tmp_path: Path, change: object, message: str) -> None:
    write_small(tmp_path, {"a": "sf", "b": "ss"})
    path = tmp_path / "episodes.jsonl"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")  # type: ignore[operator]
    with pytest.raises(ConfigError, match=message):
        analyse(tmp_path)


def test_a_cut_off_record_is_said_in_the_result(tmp_path: Path) -> None:
    write_small(tmp_path, {"a": "sfsf", "b": "ssss"})
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    found = analyse(tmp_path)
    assert any("is unfinished" in warning for warning in found.warnings)
    assert any("episodes.jsonl was changed after the look" in deviation for deviation in found.deviations)
    assert pair_of(found).left_out.missing == 1


def test_a_changed_promise_and_changed_records_show(tmp_path: Path) -> None:
    write_small(tmp_path, {"a": "f" * 30, "b": "s" * 30})
    text = (tmp_path / "protocol.json").read_text()
    (tmp_path / "protocol.json").write_text(text.replace('"margin": 0.05', '"margin": 0.2'))
    path = tmp_path / "episodes.jsonl"
    path.write_text(path.read_text().replace('"outcome": "success"', '"outcome": "time_out"'))
    found = analyse(tmp_path)
    assert "protocol.json was changed after it was frozen." in found.deviations
    assert any("was judged better, the records now say" in warning for warning in found.warnings)
    shown = write_comparison_page(tmp_path).read_text()
    assert 'class="deviation some"' in shown
    assert "The run kept what was registered" not in shown


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "expected an object"),
        ('{"a|b|1": {"stage": "x", "cause": "y"}}', "missing 'by'"),
        ('{"a|b|1": {"stage": "x", "cause": "y", "by": "me", "why": ""}}', "No key named 'why'"),
    ],
)
def test_damaged_labels_are_refused(tmp_path: Path, content: str, message: str) -> None:
    write_small(tmp_path, {"a": "sf", "b": "ss"})
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        analyse(tmp_path)


# Guards


def test_all_successes_separate_nothing(tmp_path: Path) -> None:
    found = analyse(write_small(tmp_path, {"a": "s" * 30, "b": "s" * 30}, design="fixed"))
    assert found.saturation.arms == ("a", "b")
    assert found.saturation.tasks == (TASK,)
    assert "metaworld/shelf-place" in found.saturation.harder
    (guard,) = guard_sentences(found)
    assert guard.title == "Not separable here."
    assert "Harder ones to try: metaworld/shelf-place" in guard.sentence
    assert "these tasks can hardly separate them" in plain(found.verdict[0])
    text = write_comparison_page(tmp_path).read_text()
    assert "Not separable here." in text
    assert "How they fail" not in text
    assert "Label failures" not in text


def test_all_failures_are_told_without_a_winner(tmp_path: Path) -> None:
    found = analyse(write_small(tmp_path, {"a": "f" * 30, "b": "f" * 30}, design="fixed"))
    assert pair_of(found).interval is not None
    assert pair_of(found).interval.estimate == 0  # type: ignore[union-attr]
    assert pair_of(found).standing == "undecided"
    assert found.saturation.arms == ()


def test_ignored_language_and_vision_are_told(found: Result) -> None:
    checks = {control.name: control.check for control in found.controls if control.check}
    assert checks["flow/shuffled_instruction"].answer == "yes"
    assert checks["equilibrium/blank_images"].answer == "yes"
    assert {control.name: control.member for control in found.controls}["expert"] is None
    control = next(one for one in found.controls if one.name == "flow/shuffled_instruction")
    deaf = replace(control, check=replace(checks["flow/shuffled_instruction"], answer="no"))
    titles = [guard.title for guard in guard_sentences(replace(found, controls=(deaf,)))]
    assert "flow@0 ignores the instruction." in titles


def test_a_control_is_compared_on_its_own_scenes(found: Result, folder: Path) -> None:
    control = next(one for one in found.controls if one.name == "flow/shuffled_instruction")
    assert {rate.scored for rate in control.tasks.values()} == {40}
    outcomes = Outcomes(records.read(folder / "episodes.jsonl"))
    own = np.mean([
        [outcomes.episodes("flow@0", task)[seed].success for seed in outcomes.episodes(control.name, task)]
        for task in TASKS
    ])  # fmt: skip
    assert control.overall is not None and control.difference is not None
    assert control.difference.estimate == pytest.approx(own - control.overall.estimate)


def test_harder_tasks_are_the_next_group() -> None:
    names = [name for group in GROUPS["metaworld"] for name in group]
    assert len(names) == len(set(names)) == 50
    assert harder_tasks(["metaworld/reach", "metaworld/soccer"])[0] == "metaworld/assembly"
    assert harder_tasks(["metaworld/disassemble"]) == ()
    assert harder_tasks(["toy/reach-red"]) == ()


# Failures, films, drawing


def test_hand_labels_are_merged_and_judge_the_rules(found: Result, page: Path) -> None:
    agreement = found.failures.agreement
    assert agreement is not None
    assert (agreement.labelled, agreement.same, agreement.unknown) == (10, 0.8, 1)
    assert sum(one.count for one in found.failures.counts) == len(found.failures.episodes)
    assert any((one.stage, one.cause, one.count) == ("grasp", "dropped", 2) for one in found.failures.counts)
    text = plain(page.read_text())
    assert "Rules against hand labels: 80 % the same on 10 episodes" in text
    assert "1 labels in labels.json name no failed episode" in text


def test_kappa() -> None:
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(["a"], ["a"]) is None
    assert cohen_kappa([], []) is None
    with pytest.raises(ValueError, match="same cases"):
        cohen_kappa(["a"], [])


def test_frames_of_a_film_are_dated() -> None:
    assert frame_steps(episode("a", TASK, 0, True, steps=40)) == (0, 16, 32, 40)
    long = frame_steps(episode("a", TASK, 0, False, steps=160))
    assert len(long) == 8
    assert (long[0], long[-1]) == (0, 160)


def test_discordant_scenes_are_of_one_beginning(found: Result) -> None:
    assert found.discordant
    for scene in found.discordant:
        assert scene.reference.success != scene.other.success
        assert scene.reference.member.partition("@")[2] == scene.other.member.partition("@")[2]
        assert scene.winner == (scene.other if scene.other.success else scene.reference).member.partition("@")[0]


def test_marks_of_charts_stand_where_the_numbers_are(found: Result) -> None:
    scale = difference_scale([Interval(estimate=0.1, low=-0.05, high=0.2), None], 0.05)
    assert [tick.text for tick in scale.ticks] == ["−5", "0", "+5", "+10", "+15", "+20"]
    assert scale.at(0.1) == pytest.approx(60)
    charts = {chart.axis.name: chart for chart in scatters(found.arms, found.axes)}
    equal = [dot.across for dot in charts["training_flops"].dots]
    assert len(set(equal)) == 3
    assert max(equal) - min(equal) == pytest.approx(6)
    apart = [dot.across for dot in charts["action_flops"].dots]
    assert apart[0] < apart[1] < apart[2]
    assert charts["evaluations"].logarithmic


def test_amounts_in_words() -> None:
    units = [
        (1.21e15, "flops"),
        (930e6, "flops"),
        (0.0, "joules"),
        (0.028, "seconds"),
        (2.0**30, "bytes"),
    ]
    assert [plain(amount(value, unit)) for value, unit in units] == [
        "1.21 PFLOP", "930 MFLOP", "0 J", "28 ms", "1,024 MiB",
    ]  # fmt: skip
    assert amount(None, "flops") == "unknown"


# The files


def test_result_follows_the_documented_schema(page: Path, found: Result) -> None:
    content = json.loads(page.with_name("result.json").read_text(), parse_constant=pytest.fail)
    assert content["schema"] == result.SCHEMA
    assert set(content) == {field.name for field in dataclasses.fields(Result)}
    documented = set(re.findall(r"`(\w+)(?:\[\]|\{\})?`", SCHEMA.read_text()))
    types = [value for value in vars(result).values() if isinstance(value, type) and dataclasses.is_dataclass(value)]
    types += [protocol.Protocol, protocol.ArmPlan, summary.Rate, bootstrap.SeedSpread]
    elsewhere = {summary.Broken: SCHEMA, run.RunInfo: None, ledger.Ledger: None}
    keys = {field.name for kind in types if kind not in elsewhere for field in dataclasses.fields(kind)}
    assert keys - documented - {"estimate", "low", "high"} == set()
    assert json.loads(json.dumps(found.to_json())) == content


def test_markdown_for_a_pull_request(found: Result) -> None:
    text = plain(to_markdown(found))
    assert f"- **{plain(found.pairs[0].sentence)}**" in text
    assert found.pairs[0].sentence.startswith("flow is better than regression by ")
    assert found.arms[0].overall is not None
    assert f"| mean of tasks | {plain(percent(found.arms[0].overall.estimate))} ·" in text
    assert "| registered test | +" in text
    assert "| training FLOPs | 1.21 PFLOP | 1.21 PFLOP | 1.21 PFLOP |" in text
    assert text.count("none.") == 1
    evil = replace(found, deviations=("a|b<script>",))
    assert "a\\|b\\<script\\>" in to_markdown(evil)


def test_volar_report_makes_it_anew(tmp_path: Path) -> None:
    write_small(tmp_path / "run", {"a": "sf", "b": "ss"})
    output = report.main([str(tmp_path / "run"), "--out", str(tmp_path / "page.html")])
    assert output.data == {"report": str(tmp_path / "page.html"), "results": str(tmp_path / "result.json")}
    assert "2 paired episodes" in (tmp_path / "summary.md").read_text()
    assert "2 paired episodes" in (tmp_path / "page.html").read_text()


def test_page_is_whole_in_itself(page: Path) -> None:
    text = page.read_text()
    sources = re.findall(r"""(?:src|href|action|poster|url)\s*[=(]\s*["']([^"'\s>)]{1,20})""", text)
    assert {source.partition(":")[0] for source in sources} <= {"data", "#verdict"}
    assert "http:" not in text and "https:" not in text
    films = sum(map(len, re.findall(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", text)))
    assert films > 10_000
    assert len(text) - films < 400_000


def test_texts_are_data(tmp_path: Path) -> None:
    write_evil(tmp_path)
    text = write_comparison_page(tmp_path).read_text()
    assert text.count("&lt;script&gt;") > 10
    assert text.count("<script") == 2
    assert "\\u003cscript\\u003e" in text
    assert "<img src=x" not in text


def write_evil(folder: Path) -> None:
    wanted = plan({EVIL: (EVIL,), "b": ("b",)}, tasks=(f"toy/{EVIL}",), scenes=4, question=EVIL, success_semantics=EVIL)
    arms = tuple(replace(arm, where=EVIL, description=EVIL, overrides={EVIL: EVIL}) for arm in wanted.arms)
    wanted = replace(wanted, arms=arms)
    freeze(folder, wanted)
    begin(folder, replace(run_info(wanted), settings={EVIL: EVIL}), beside=session.BESIDE)
    (folder / "films").mkdir()
    with quick_records(folder) as file:
        for k in range(4):
            facts = {"privileged": (EVIL,), "told": EVIL}
            file.append(episode(EVIL, f"toy/{EVIL}", FIRST_SEED + k, k > 1, **facts), f"films/{k}.jpg")
            file.append(episode("b", f"toy/{EVIL}", FIRST_SEED + k, k % 2 == 0))
            (folder / "films" / f"{k}.jpg").write_bytes(b"\xff\xd8")
    write_looks(folder)
    key = f"{EVIL}|toy/{EVIL}|{FIRST_SEED}"
    (folder / "labels.json").write_text(json.dumps({key: {"stage": EVIL, "cause": EVIL, "by": EVIL}}))


# The browser


@pytest.mark.parametrize("width", [1400, 800, 360])
def test_page_reads_well_at_every_width(browser: Chromium, page: Path, width: int) -> None:
    browser.open(page, width=width)
    text = plain(browser.evaluate("document.body.innerText"))
    for words in (
        "flow is better than regression by", "95 % interval", "Deviations: none.", "Does it use the instruction?",
        "inference FLOPs per executed action", "Solved by one, not by the other", "3 episodes of the arms broke",
        "EpisodeError: the worker died", "standard deviation",
    ):  # fmt: skip
        assert words in text
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert browser.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    overlaps = """[...document.querySelectorAll('.range:not(.axis)')].filter(row => {
        const boxes = [...row.children].map(child => child.getBoundingClientRect()).filter(box => box.width);
        return boxes.some((box, i) => i && box.left < boxes[i - 1].right - 1);
    }).length"""
    assert browser.evaluate(overlaps) == 0
    crowded = """[...document.querySelectorAll('.axis .plot, .area')].filter(axis => {
        const boxes = [...axis.querySelectorAll(':scope > span:not(.up)')].map(tick => tick.getBoundingClientRect())
            .filter(box => box.width);
        return boxes.some((box, i) => i && box.left < boxes[i - 1].right + 2);
    }).length"""
    assert browser.evaluate(crowded) == 0
    assert complaints(browser) == []
    assert {url.partition(":")[0] for url in requests(browser)} <= {"file", "data"}


def test_intervals_stand_where_the_numbers_say(browser: Chromium, page: Path, found: Result) -> None:
    browser.open(page, width=1000)
    places = browser.evaluate("""(() => {
        const row = document.querySelector('#differences').parentNode.querySelector('.range.subject');
        const plot = row.querySelector('svg').getBoundingClientRect();
        const line = [...row.querySelectorAll('line')].at(-1).getBoundingClientRect();
        const zero = row.querySelector('.zero').getBoundingClientRect();
        return [zero.left, line.left, line.right].map(x => (x - plot.left) / plot.width);
    })()""")
    pairs = [pair for pair in found.pairs if pair.registered]
    shown = [one for pair in pairs for one in (pair.interval, pair.fixed, pair.recipes, *pair.tasks.values())]
    scale = difference_scale(shown, 0.05)
    interval = pairs[0].interval
    assert interval is not None
    assert places == pytest.approx([scale.at(value) / 100 for value in (0.0, interval.low, interval.high)], abs=0.006)


def test_cost_axis_is_chosen_by_keyboard(browser: Chromium, page: Path) -> None:
    browser.open(page, width=1000)
    shown = """[...document.querySelectorAll('.scatter')].filter(chart => chart.checkVisibility())
        .map(chart => chart.getAttribute('aria-label').split('.')[0])"""
    assert browser.evaluate(shown) == ["Success against inference FLOPs per executed action"]
    browser.evaluate("document.querySelector('.choice input:checked').focus()")
    browser.press("ArrowDown", 40)
    assert browser.evaluate(shown) == ["Success against inference FLOPs per decision"]


def test_films_are_shown_at_the_same_step(browser: Chromium, page: Path) -> None:
    browser.open(page, width=1000)
    captions = "[...document.querySelector('.duel').querySelectorAll('.moment + p')].map(p => p.textContent)"
    places = (
        "[...document.querySelector('.duel').querySelectorAll('.moment img')].map(img => parseFloat(img.style.left))"
    )
    end = browser.evaluate(captions)
    assert end[0] == "seen at step 160" or end[1] == "seen at step 160"
    browser.evaluate("document.querySelector('.duel input').focus()")
    browser.press("Home", 36)
    assert browser.evaluate(captions) == ["seen at step 0", "seen at step 0"]
    assert browser.evaluate(places) == [0, 0]
    for _ in range(60):
        browser.press("ArrowRight", 39)
    seen = [int(caption.split()[3].strip(",")) for caption in browser.evaluate(captions)]
    steps = browser.evaluate("[...document.querySelector('.duel').querySelectorAll('.side')].map(s => s.dataset.steps)")
    assert seen == [max(at for at in map(int, side.split()) if at <= 60) for side in steps]


def test_hand_labels_are_kept_and_saved(browser: Chromium, page: Path, tmp_path: Path) -> None:
    browser.open(page, width=1000)
    browser.evaluate("localStorage.clear()")
    browser.open(page, width=1000)
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    assert browser.evaluate("document.querySelector('#hand .state').textContent").startswith("10 labels")
    browser.evaluate("document.querySelector('#hand [name=open]').focus()")
    browser.press(" ", 32)
    browser.evaluate("document.querySelector('#hand [name=by]').value = 'Grace'")
    key = browser.evaluate("document.querySelector('#hand .what').textContent")
    for name in ("stage", "cause"):
        browser.evaluate(f"document.querySelector('#hand [name={name}]').focus()")
        browser.press("ArrowDown", 40)
    browser.evaluate("document.querySelector('#hand [name=next]').focus()")
    browser.press("Enter", 13)
    assert browser.evaluate("document.querySelector('#hand .what').textContent") != key
    assert browser.evaluate("document.querySelector('#hand .state').textContent").startswith("11 labels")
    browser.open(page, width=1000)
    assert browser.evaluate("document.querySelector('#hand .state').textContent").startswith("11 labels")
    browser.evaluate("document.querySelector('#hand [name=save]').focus()")
    browser.press("Enter", 13)
    saved = tmp_path / "labels.json"
    for _ in range(600):  # the browser writes when it likes
        if saved.exists():
            break
        time.sleep(0.05)
    labels = json.loads(saved.read_text())
    assert len(labels) == 11
    (new,) = [label for label in labels.values() if label["by"] == "Grace"]
    assert new["stage"] and new["cause"]
    assert complaints(browser) == []


def test_keyboard_reaches_everything(browser: Chromium, page: Path) -> None:
    browser.open(page, width=1000)
    reached = []
    for _ in range(
        browser.evaluate("document.querySelectorAll('a, summary, [tabindex], input, select, button').length")
    ):
        browser.press("Tab", 9)
        reached.append(browser.evaluate("document.activeElement.name || document.activeElement.className || "
                                        "document.activeElement.innerText || document.activeElement.type"))  # fmt: skip
    assert reached[0] == "skip"
    assert {
        "scroll",
        "strip",
        "axis",
        "range",
        "arm",
        "stage",
        "cause",
        "next",
        "save",
        "Settings",
        "Fingerprint",
    } <= set(reached)


def test_everything_has_a_name(browser: Chromium, page: Path) -> None:
    browser.open(page, width=1000)
    levels = browser.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(heading => +heading.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    asked = ("image", "img", "slider", "radio", "combobox", "textbox", "checkbox", "button")
    named = [node for node in nodes if not node["ignored"] and node["role"]["value"] in asked]
    assert len(named) > 20
    assert [node["role"]["value"] for node in named if not node["name"]["value"]] == []


def test_print_shows_every_axis_that_differs_and_no_form(browser: Chromium, page: Path) -> None:
    browser.open(page, width=1000)
    assert browser.pdf().startswith(b"%PDF")
    browser.call("Emulation.setEmulatedMedia", media="print")
    shown = browser.evaluate(
        "[...document.querySelectorAll('.scatter')]"
        ".map(chart => [chart.classList.contains('same'), chart.checkVisibility()])"
    )
    forms = browser.evaluate("[...document.querySelectorAll('form, .moments')].some(item => item.checkVisibility())")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert len(shown) > 8
    assert all(visible != same for same, visible in shown)
    assert not forms


def test_injected_script_does_not_run(browser: Chromium, tmp_path: Path) -> None:
    write_evil(tmp_path)
    browser.open(write_comparison_page(tmp_path), width=800)
    assert browser.evaluate("document.title") == f"{EVIL} · volar comparison"
    assert browser.evaluate("document.querySelector('h1').textContent") == EVIL
    assert browser.evaluate("document.querySelector('#hand .state').textContent").startswith("1 label,")
    assert {url.partition(":")[0] for url in requests(browser)} <= {"file", "data"}
