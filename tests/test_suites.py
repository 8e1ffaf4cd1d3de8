"""Suites: their tasks exist, their protocol is what is run, and whoever departs from it is told so in the record."""

import json
from itertools import chain

import pytest
from metaworld.env_dict import ML10_V3, ML45_V3, MT10_V3

from volar.cli import main
from volar.cli.scenes import EPISODES, FIRST_SEED, MAX_STEPS, choose_scenes
from volar.core.errors import ConfigError
from volar.envs import tasks
from volar.envs.perturbation import LEVELS, TABLE
from volar.envs.suites import Published, Suite, all_suites, find_suite
from volar.envs.task_names import parse_task
from volar.evaluation.episodes import paired_jobs
from volar.evaluation.records import RecordFile
from volar.evaluation.report import write_report
from volar.evaluation.run import Arm, RunInfo, begin
from volar.evaluation.summary import summarise
from volar.evaluation.tables import to_markdown

from synthetic_run import make_episode  # isort: skip

NONE = {"tasks": (), "episodes": None, "first_seed": None, "max_steps": None}


def test_every_task_of_every_suite_exists():
    known = {environment: set(tasks(environment)) for environment in ("metaworld", "tabletop")}
    for name, suite in all_suites().items():
        environment = parse_task(suite.tasks[0]).environment
        if environment in known:  # the others have test files of their own
            assert {parse_task(task).base for task in suite.tasks} <= known[environment]
        assert suite.name == name and suite.reading and suite.success


def test_meta_worlds_splits_are_the_packages_own():
    def names(group):
        return {f"metaworld/{name.removesuffix('-v3')}" for name in group}

    assert set(find_suite("metaworld-mt10").tasks) == names(MT10_V3)
    assert len(find_suite("metaworld-mt50").tasks) == 50
    for name, split in (("ml10", ML10_V3), ("ml45", ML45_V3)):
        train, test = find_suite(f"metaworld-{name}-train"), find_suite(f"metaworld-{name}-test")
        assert set(train.tasks) == names(split["train"]) and set(test.tasks) == names(split["test"])
        assert not set(train.tasks) & set(test.tasks)


def test_what_is_held_out_is_made_of_words_that_training_shows():
    train, held = find_suite("tabletop-compose-train"), find_suite("tabletop-compose-heldout")
    assert not set(train.tasks) & set(held.tasks)
    words = [set(chain.from_iterable(task.split("-") for task in suite.tasks)) for suite in (train, held)]
    assert words[1] <= words[0]


@pytest.mark.parametrize("name", ["tabletop-robustness", "metaworld-robustness"])
def test_a_robustness_suite_has_every_level_of_every_axis_once(name):
    parsed = [parse_task(task) for task in find_suite(name).tasks]
    for base in {each.base for each in parsed}:
        levels = [dict(each.levels) for each in parsed if each.base == base]
        assert {} in levels and len(levels) == 1 + len(TABLE) * len(LEVELS)
        assert all({axis: level} in levels for axis in TABLE for level in LEVELS)


@pytest.mark.parametrize(
    ("name", "said"),
    [("metaworld-mt11", "Did you mean 'metaworld-mt10'"), ("metaword-mt10", "Did you mean 'metaworld-mt10'")],
)
def test_an_unknown_suite_names_the_nearest(name, said):
    with pytest.raises(ConfigError, match=said):
        find_suite(name)


def test_a_suite_that_is_incomplete_is_refused():
    facts = {"name": "s", "episodes": 1, "first_seed": 0, "initial_states": "", "success": ""}
    with pytest.raises(ConfigError, match="no max_steps for toy/b"):
        Suite(tasks=("toy/a", "toy/b"), max_steps={"toy/a": 3}, **facts)
    with pytest.raises(ConfigError, match="once"):
        Suite(tasks=("toy/a", "toy/a"), max_steps=3, **facts)


def test_a_suite_is_saturated_by_its_best_value():
    facts = {"name": "s", "tasks": ("toy/a",), "max_steps": 3, "episodes": 1, "first_seed": 0}
    low, high = (Published(method="m", value=value, episodes=None, source="a") for value in (0.6, 0.97))
    told = [Suite(published=p, initial_states="", success="", **facts).saturation() for p in ((), (low,), (low, high))]
    assert told[0] == "" and "not saturated" in told[1] and "97.0%" in told[2] and "; saturated" in told[2]


def test_scenes_come_from_the_suite_and_departures_are_recorded():
    suite = find_suite("metaworld-ml10-test")
    whole = choose_scenes(suite=suite.name, **NONE)
    assert (whole.tasks, whole.episodes, whole.max_steps) == (suite.tasks, suite.episodes, suite.max_steps)
    assert whole.suite["protocol"] == "followed" and whole.seeds[0] == suite.first_seed
    repeated = choose_scenes(suite=suite.name, **{**NONE, "episodes": suite.episodes})
    assert repeated.suite["protocol"] == "followed"
    part = choose_scenes(suite=suite.name, **{**NONE, "tasks": suite.tasks[:2], "episodes": 5})
    assert part.suite["protocol"] == "not the suite's protocol: tasks 2 instead of 5, episodes 5 instead of 50"
    assert part.tasks == suite.tasks[:2] and part.max_steps == suite.max_steps
    plain = choose_scenes(suite=None, **{**NONE, "tasks": ("toy/reach-red",)})
    assert (plain.episodes, plain.first_seed, plain.max_steps, plain.suite) == (EPISODES, FIRST_SEED, MAX_STEPS, {})
    with pytest.raises(ConfigError, match="volar list suites"):
        choose_scenes(suite=None, **NONE)


def run_of(names, suite):
    return RunInfo(
        title="t", tasks=names, seeds=(0, 1, 2), arms={"policy": Arm(role="policy"), "expert": Arm(role="expert")},
        success_semantics="at any step", settings={"suite": json.loads(json.dumps(suite))}, fingerprint={},
    )  # fmt: skip


def test_time_outs_may_differ_between_tasks():
    jobs = paired_jobs(
        run_of(("toy/a", "toy/b"), {}), max_steps={"toy/a": 5, "toy/b": 9}, other_instruction=lambda task, seed: ""
    )
    assert {(job.task, job.max_steps) for job in jobs} == {("toy/a", 5), ("toy/b", 9)}


def test_page_and_table_tell_how_to_read_the_suite_and_how_success_degrades(tmp_path):
    suite = choose_scenes(suite="metaworld-mt50", **NONE).suite
    names = ("metaworld/push", "metaworld/push@camera=1", "metaworld/push@camera=4")
    begin(tmp_path, run_of(names, suite))
    with RecordFile(tmp_path / "episodes.jsonl") as file:
        for task in names:
            for arm in ("policy", "expert"):
                for seed in range(3):
                    file.append(make_episode(task, seed, arm), None)
    told = to_markdown(summarise(tmp_path))
    assert "| camera | expert | 100" in told and "How to read it" in told and "SmolVLA 57.3%" in told
    assert "Saturated: the policy's interval reaches" in told
    page = write_report(tmp_path).read_text()
    assert "How it degrades" in page and "The suite metaworld-mt50" in page and "not verified by us" in page
    assert page.count("<polyline stroke=") == 2
    curves = json.loads((tmp_path / "results.json").read_text())["robustness"]
    assert [level["level"] for level in curves[0]["levels"]] == [0, 1, 4]


def test_suites_are_listed_as_json(capsys):
    assert main(["list", "suites", "--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)["members"]}
    assert listed["metaworld-mt10"]["episodes"] == 50 and len(listed["metaworld-mt10"]["tasks"]) == 10
    assert main(["evaluate", "nowhere", "--suite", "metaworld-mt1", "--out", "x", "--execute", "1"]) == 2
    assert "Did you mean 'metaworld-mt10'" in capsys.readouterr().err
