"""A comparison from its promise to its end: frozen, paired, stopped by rule, resumed after any death, told in full."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tyro
from synthetic_compare import episode, plan, run_info

from volar.cli import main
from volar.cli.actors import share_frozen
from volar.cli.compare import Compare
from volar.cli.compare_plan import default_looks
from volar.cli.settings import apply_settings
from volar.cli.train import load_recipe
from volar.comparison.analyse import analyse
from volar.comparison.deviations import deviations
from volar.comparison.material import read_material
from volar.comparison.protocol import freeze, read_protocol
from volar.comparison.session import Session, planned_jobs, read_looks, run_session
from volar.comparison.sources import ALLOWANCES, kind_of, read_foreign, read_sources
from volar.core.errors import ConfigError, RobotFault
from volar.core.robot import Actor
from volar.envs import make_env
from volar.envs.controls import RandomActor
from volar.envs.rollout import run_groups
from volar.envs.toy import Toy, ToyExpert
from volar.evaluation.records import RecordFile, read
from volar.evaluation.run import Arm, RunInfo, begin

ROOT = Path(__file__).parent.parent
TASKS = ("toy/reach-red", "toy/reach-green")
SIMULATOR = Toy("reach-red").describe()


class Clumsy(ToyExpert):
    """An expert that, on a share of the scenes, stands still."""

    def __init__(self, share: float) -> None:
        self.share = share

    def reset(self, seed: int) -> None:
        self.still = np.random.default_rng([seed, 5]).random() < self.share

    def act(self, observation):
        chunk = super().act(observation)
        return replace(chunk, actions=np.zeros_like(chunk.actions)) if self.still else chunk


def actor_of(arm: str) -> Actor:
    kind = arm.partition("/")[0].partition("@")[0]
    if kind in ("good", "same"):
        return Clumsy(0.1)
    return RandomActor(Toy("reach-red").spec)


def protocol_of(arms=("random", "good"), *, scenes=24, looks=(4, 8, 12, 16, 20, 24), **facts):
    members = {arm: (arm,) for arm in arms}
    facts = {"controls": (), "control_scenes": 0, "environment": {"simulator": SIMULATOR}, **facts}
    protocol = plan(members, tasks=TASKS, scenes=scenes, looks=looks, max_steps=12, **facts)
    return replace(protocol, execute=dict.fromkeys(members, 1))


def go_on(folder, protocol, *, stop_after=None, controls=None, make=make_env, session=None, workers=0):
    """Freeze and run; stop_after: episodes after which the process is, in effect, stopped."""
    freeze(folder, protocol)
    info = run_info(protocol, controls)
    blocks = planned_jobs(protocol, info.arms, films=2, instruct=lambda task, seed: "reach the blue disc")

    def run(groups):
        episodes = run_groups(groups, make_env=make, make_actor=actor_of, workers=workers, ordered=True)
        for count, each in enumerate(episodes):
            if count == stop_after:
                raise KeyboardInterrupt
            yield each

    session = session or Session(records=0, environment=protocol.environment, code_version=protocol.code_version)
    return run_session(folder, info, blocks, session, run=run)


def told(folder):
    """Everything in the records that does not depend on the clock."""
    return [asdict(replace(record.episode, latencies=())) | {"film": record.film}
            for record in read(folder / "episodes.jsonl")]  # fmt: skip


# -------------------------------------------------------------------------------- protocol


def test_a_protocol_is_frozen_once_and_every_change_is_named(tmp_path):
    protocol = protocol_of()
    sha256 = freeze(tmp_path, protocol)
    assert freeze(tmp_path, protocol) == sha256 == read_protocol(tmp_path).sha256
    newer = replace(protocol, code_version="b" * 12, environment={**protocol.environment, "versions": {"torch": "9"}})
    assert freeze(tmp_path, newer) == sha256, "other versions are a deviation, not another question"
    arms = (replace(protocol.arms[0], identity={"steps": 7}), protocol.arms[1])
    with pytest.raises(ConfigError) as refused:
        freeze(tmp_path, replace(protocol, alpha=0.01, margin=0.2, arms=arms))
    for word in ("alpha: 0.05", "margin: 0.05", "arms.random.identity.steps"):
        assert word in str(refused.value)
    with pytest.raises(ConfigError, match="order"):
        freeze(tmp_path, replace(protocol, arms=protocol.arms[::-1]))
    with pytest.raises(ConfigError, match="simulator"):
        freeze(tmp_path, replace(protocol, environment={"simulator": {"mujoco": "9"}}))


def test_a_protocol_that_was_changed_by_hand_is_found_out(tmp_path):
    go_on(tmp_path, protocol_of())
    path = tmp_path / "protocol.json"
    path.write_text(path.read_text().replace('"alpha": 0.05', '"alpha": 0.2'))
    assert not read_protocol(tmp_path).intact
    with pytest.raises(ConfigError, match="changed after it was frozen"):
        freeze(tmp_path, protocol_of())
    assert "protocol.json was changed after it was frozen." in deviations(read_material(tmp_path))
    path.write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        read_protocol(tmp_path)


@pytest.mark.parametrize(
    "facts", [{"alpha": 0.7}, {"margin": 1.0}, {"looks": (4, 4, 24)}, {"looks": (4, 20)}, {"max_steps": 0}]
)
def test_a_promise_that_cannot_be_kept_is_refused(facts):
    with pytest.raises(ConfigError):
        replace(protocol_of(), **facts)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="not a comparison"):
        freeze(tmp_path, protocol_of())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


# -------------------------------------------------------------------------------- running


def test_it_stops_as_soon_as_the_question_is_answered(tmp_path):
    looks = go_on(tmp_path, protocol_of(scenes=100, looks=tuple(range(4, 101, 4))))
    assert looks[-1].stop and looks[-1].scenes < 40
    assert [look.scenes for look in looks] == list(range(4, looks[-1].scenes + 1, 4))
    assert looks[-1].pairs[0].decision == "better" and all(look.pairs[0].decision == "undecided" for look in looks[:-1])
    records = read(tmp_path / "episodes.jsonl")
    assert len(records) == 2 * 2 * looks[-1].scenes, "nothing beyond the look that decided"
    assert deviations(read_material(tmp_path)) == ()
    result = analyse(tmp_path)
    assert result.pairs[0].standing == "better" and not any("judged" in warning for warning in result.warnings)
    before = told(tmp_path)
    assert go_on(tmp_path, protocol_of(scenes=100, looks=tuple(range(4, 101, 4)))) == looks
    assert told(tmp_path) == before, "a finished comparison stays as it is"


@pytest.mark.parametrize("design", ["anytime", "group", "fixed"])
def test_arms_that_are_the_same_never_win(tmp_path, design):
    scenes = 12
    looks = (scenes,) if design == "fixed" else (6, scenes)
    found = go_on(tmp_path, protocol_of(("good", "same"), scenes=scenes, looks=looks, design=design, margin=0.3))
    assert found[-1].stop and found[-1].pairs[0].estimate == 0
    assert found[-1].pairs[0].decision in ("undecided", "equivalent")


@pytest.mark.parametrize("design", ["anytime", "group", "fixed"])
def test_a_broken_scene_is_left_out_and_the_rest_is_judged(tmp_path, design):
    class Sick(Toy):
        def step(self, action):
            if self.seed == 1003:
                raise RuntimeError("the simulator lost it")
            return super().step(action)

        def reset(self, seed):
            self.seed = seed
            super().reset(seed)

    looks = (12,) if design == "fixed" else (6, 12)
    protocol = protocol_of(scenes=12, looks=looks, design=design)
    found = go_on(tmp_path, protocol, make=lambda task: Sick(task.partition("/")[2]))
    assert found[-1].stop and found[-1].pairs[0].decision == "better"


@pytest.mark.parametrize("deaths", [(1,), (7, 3), (20, 1, 9)])
def test_an_interrupted_comparison_ends_like_an_uninterrupted_one(tmp_path, deaths):
    protocol = protocol_of(controls=("shuffled_instruction",), control_scenes=3)
    controls = {"good/shuffled_instruction": "shuffled_instruction"}
    whole = go_on(tmp_path / "whole", protocol, controls=controls)
    for death in deaths:
        with pytest.raises(KeyboardInterrupt):
            go_on(tmp_path / "broken", protocol, stop_after=death, controls=controls)
    resumed = go_on(tmp_path / "broken", protocol, controls=controls)
    assert told(tmp_path / "broken") == told(tmp_path / "whole")
    assert [(look.scenes, look.pairs, look.stop) for look in resumed] == [
        (look.scenes, look.pairs, look.stop) for look in whole
    ]
    assert deviations(read_material(tmp_path / "broken")) == ()
    assert sum(record.key[0] == "good/shuffled_instruction" for record in read(tmp_path / "whole/episodes.jsonl")) == 6


def test_workers_change_nothing(tmp_path):
    protocol = protocol_of(scenes=4, looks=(2, 4))
    go_on(tmp_path / "here", protocol)
    go_on(tmp_path / "workers", protocol, workers=2)
    assert told(tmp_path / "here") == told(tmp_path / "workers")


class Restless(Toy):
    """Begins somewhere else every time."""

    moods = iter(range(10**6))

    def reset(self, seed: int) -> None:
        super().reset(seed + next(self.moods))


def test_scenes_that_are_not_the_same_stop_it(tmp_path):
    def restless(task):
        return Restless(task.partition("/")[2])

    with pytest.raises(RobotFault, match="did not begin the same"):
        go_on(tmp_path, protocol_of(scenes=4, looks=(2, 4)), make=restless)


def test_several_policies_of_an_arm_meet_the_same_scenes(tmp_path):
    protocol = plan(
        {"random": ("random@0", "random@1"), "good": ("good@0", "good@1")}, tasks=TASKS, scenes=3, looks=(3,),
        max_steps=12, controls=(), control_scenes=0, environment={"simulator": SIMULATOR},
    )  # fmt: skip
    looks = go_on(tmp_path, replace(protocol, execute={"random": 1, "good": 1}))
    keys = {record.key for record in read(tmp_path / "episodes.jsonl")}
    assert len(keys) == 4 * 2 * 3 and looks[-1].pairs[0].pairs == 6
    firsts = {}
    for record in read(tmp_path / "episodes.jsonl"):
        firsts.setdefault(record.key[1:], set()).add(record.episode.first_observation)
    assert all(len(found) == 1 for found in firsts.values())


# -------------------------------------------------------------------------------- deviations


def finished(folder, **facts):
    protocol = protocol_of(scenes=6, looks=(3, 6), **facts)
    go_on(folder, protocol)
    return folder


def departed(folder):
    return " ".join(deviations(read_material(folder)))


def test_an_edited_record_is_told(tmp_path):
    path = finished(tmp_path) / "episodes.jsonl"
    assert departed(tmp_path) == ""
    path.write_text(path.read_text().replace('"time_out"', '"success"', 1))
    assert "episodes.jsonl was changed after the look at 3 scenes" in departed(tmp_path)


def test_other_versions_are_told(tmp_path):
    protocol = protocol_of(scenes=6, looks=(3, 6), environment={"simulator": SIMULATOR, "versions": {"torch": "1"}})
    with pytest.raises(KeyboardInterrupt):
        go_on(tmp_path, protocol, stop_after=5)
    newer = {"simulator": SIMULATOR, "versions": {"torch": "2"}}
    go_on(tmp_path, protocol, session=Session(records=0, environment=newer, code_version="c0ffee"))
    found = departed(tmp_path)
    assert "From episode 6 on" in found and "versions.torch: '1' registered, '2' run" in found and "c0ffee" in found


def test_missing_controls_are_told(tmp_path):
    finished(tmp_path, controls=("shuffled_instruction",), control_scenes=2)
    assert "control shuffled_instruction was not run" in departed(tmp_path)


def test_an_unfinished_comparison_says_so(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        go_on(tmp_path, protocol_of(scenes=6, looks=(3, 6)), stop_after=15)
    assert "not finished: 3 of at most 6 scenes" in departed(tmp_path)


def test_episodes_outside_the_plan_are_told(tmp_path):
    finished(tmp_path)
    episode = read(tmp_path / "episodes.jsonl")[0].episode
    with RecordFile(tmp_path / "episodes.jsonl") as file:
        file.append(replace(episode, job=replace(episode.job, seed=5)))
        file.append(replace(episode, executed_per_chunk=3, job=replace(episode.job, seed=6, max_steps=9)))
    found = departed(tmp_path)
    assert "outside the registered seeds 1000 to 1005" in found
    assert "9 steps instead of the registered 12" in found and "3 actions per look instead of the registered 1" in found


def test_agreed_differences_are_told(tmp_path):
    finished(tmp_path, allowed=("simulator",))
    assert "the arms may differ in simulator" in departed(tmp_path)


# -------------------------------------------------------------------------------- what may take part


def test_sources_are_told_apart_and_named(tmp_path):
    evaluation = finished(tmp_path / "evaluation")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    recipe = str(ROOT / "recipes" / "toy.py")
    found = read_sources([recipe, f"b={recipe}", str(tmp_path / "run"), "ws://10.0.0.1:8000", f"{evaluation}#good"])
    assert [(each.name, each.kind) for each in found] == [
        ("toy", "recipe"), ("b", "recipe"), ("run", "checkpoint"), ("served", "served"), ("good", "records"),
    ]  # fmt: skip
    assert [each.name for each in read_sources([recipe, recipe])] == ["toy-1", "toy-2"]
    assert kind_of(str(evaluation / "episodes.jsonl")) == "records"
    for words, message in (
        ([recipe], "two arms"),
        ([f"a={recipe}", f"a={recipe}"], "name of its own"),
        ([recipe, "no/such"], "neither a recipe"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            read_sources(words)


def test_settings_vary_one_recipe():
    recipe = load_recipe(ROOT / "recipes" / "toy.py")
    words = ["b.policy.decoder=flow", "b.policy.decoder_options.steps=4", "all.steps=20", "b.learning-rate=0.01"]
    found = apply_settings({"a": recipe, "b": recipe}, words)
    assert found["a"] == replace(recipe, steps=20)
    assert (found["b"].policy.decoder, found["b"].policy.decoder_options) == ("flow", {"steps": 4})
    assert found["b"].learning_rate == 0.01
    for word, message in (
        ("a.polcy.decoder=flow", "Did you mean 'policy'"), ("c.steps=3", "recipe among the arms"),
        ("a.steps=x", "whole number"), ("a.policy=3", "settings below"),
        ("a.steps.x=3", "nothing lies below"), ("a.steps", "written arm.key=value"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=re.escape(message)):
            apply_settings({"a": recipe}, [word])


def test_looks_are_spread_and_end_at_the_last_scene():
    assert default_looks("fixed", 7) == (7,)
    assert default_looks("anytime", 3) == (1, 2, 3)
    assert default_looks("group", 12) == (3, 6, 9, 12)
    assert len(default_looks("anytime", 1000)) == 20


# -------------------------------------------------------------------------------- records of others


def compare(*words, out):
    return main(["compare", *map(str, words), "--out", str(out)])


@pytest.fixture
def foreign(tmp_path):
    """Two evaluations of one policy each, in which somebody else called it `policy`."""
    for name, won in (("a", "sffsfffsff"), ("b", "ssfsssfsss")):
        write_evaluation(tmp_path / name, won)
    return tmp_path


def write_evaluation(folder, won, *, tasks=("metaworld/push",), semantics="at any step", mujoco="3.3", **facts):
    folder.mkdir()
    facts = {"executed_per_chunk": 4, **facts}
    info = RunInfo(
        title="t", tasks=tasks, seeds=tuple(range(500, 500 + len(won))), success_semantics=semantics,
        arms={"policy": Arm(role="policy"), "blank_images": Arm(role="blank_images")},
        settings={}, fingerprint={"environment": {"mujoco": mujoco}},
    )  # fmt: skip
    begin(folder, info)
    with RecordFile(folder / "episodes.jsonl") as file:
        for task in tasks:
            for seed, letter in zip(info.seeds, won, strict=True):
                if letter != "-":
                    file.append(episode("policy", task, seed, letter == "s", **facts))
            file.append(episode("blank_images", task, 500, False))
    return folder


def test_records_of_others_are_compared(foreign, capsys):
    assert compare(f"old={foreign / 'a'}", foreign / "b/episodes.jsonl", "--json", out=foreign / "out") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pairs"].keys() == {"b"} and told["deviations"] == []
    result = analyse(foreign / "out")
    assert (result.pairs[0].scenes, result.pairs[0].wins, result.pairs[0].losses) == (10, 5, 0)
    assert {control.name for control in result.controls} == {"old/blank_images", "b/blank_images"}
    protocol = result.registration.protocol
    assert (protocol.design, protocol.first_seed, protocol.max_episodes) == ("fixed", 500, 10)
    assert (foreign / "out/report.html").is_file()
    assert compare(f"old={foreign / 'a'}", foreign / "b/episodes.jsonl", out=foreign / "out") == 0, "again"
    capsys.readouterr()
    assert main(["report", str(foreign / "out"), "--out", str(foreign / "page.html")]) == 0
    assert (foreign / "page.html").is_file() and (foreign / "result.json").is_file()
    assert main(["info", str(foreign / "out"), "--json"]) == 0
    assert '"kind": "comparison"' in capsys.readouterr().out


@pytest.mark.parametrize(
    "facts, allowance, said",
    [
        ({"semantics": "at the last step"}, "success-semantics", "when an episode counts as a success"),
        ({"mujoco": "2.3"}, "simulator", "simulator, its version or its settings"),
        ({"executed_per_chunk": 8}, "execute", "actions carried out per look: b: [4]; c: [8]"),
        ({"tasks": ("metaworld/push", "metaworld/reach")}, None, None),
    ],
)
def test_evaluations_that_differ_are_refused_unless_allowed(foreign, facts, allowance, said, capsys):
    write_evaluation(foreign / "c", "s" * 10, **facts)
    words = [foreign / "b", foreign / "c"]
    if allowance is None:  # the first arm's tasks are compared; c simply has more
        assert compare(*words, out=foreign / "out") == 0
        return
    assert compare(*words, out=foreign / "out") == 2
    error = capsys.readouterr().err
    assert said in error and f"--allow {allowance}" in error and not (foreign / "out").exists()
    assert compare(*words, "--allow", allowance, out=foreign / "out") == 0
    assert any(f"may differ in {allowance}" in each for each in analyse(foreign / "out").deviations)


def test_arms_with_other_tasks_are_refused_or_cut_to_the_common_ones(foreign, capsys):
    write_evaluation(foreign / "c", "s" * 10, tasks=("metaworld/push", "metaworld/reach"))
    words = [foreign / "c", foreign / "a"]
    assert compare(*words, out=foreign / "out") == 2
    assert "--allow tasks" in capsys.readouterr().err
    assert compare(*words, "--allow", "tasks", out=foreign / "out") == 0
    assert read_protocol(foreign / "out").protocol.tasks == ("metaworld/push",)


def test_missing_pairs_are_left_out_and_counted(foreign):
    write_evaluation(foreign / "c", "ss-ss-ssss")
    assert compare(foreign / "a", foreign / "c", out=foreign / "out") == 0
    pair = analyse(foreign / "out").pairs[0]
    assert (pair.scenes, pair.left_out.missing) == (8, 2)


def test_scenes_that_differ_are_refused_or_compared_unpaired(foreign, capsys):
    write_evaluation(foreign / "c", "s" * 10, first_observation="elsewhere")
    assert compare(foreign / "a", foreign / "c", out=foreign / "out") == 2
    assert "10 scenes of equal task and seed did not begin the same" in capsys.readouterr().err
    assert compare(foreign / "a", foreign / "c", "--unpaired", "--design", "anytime", out=foreign / "out") == 2
    assert compare(foreign / "a", foreign / "c", "--unpaired", out=foreign / "out") == 0
    pair = analyse(foreign / "out").pairs[0]
    assert not pair.paired and pair.standing == "better"


def test_bare_records_need_a_word_about_their_origin(foreign, capsys):
    (foreign / "b/run.json").unlink()
    assert compare(foreign / "a", foreign / "b", out=foreign / "out") == 2
    assert "--allow provenance" in capsys.readouterr().err
    assert compare(foreign / "a", foreign / "b", "--allow", "provenance", out=foreign / "out") == 0


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda text: "", "holds no finished episode"),
        (lambda text: text + text.splitlines()[0] + "\n", "repeats arm"),
        (lambda text: text.replace('"total_reward": 0.0', '"total_reward": NaN', 1), "finite"),
        (lambda text: text[:300] + "\n" + text[300:], "not JSON"),
    ],
)
def test_damaged_records_are_refused(foreign, damage, message, capsys):
    path = foreign / "b/episodes.jsonl"
    path.write_text(damage(path.read_text()))
    assert compare(foreign / "a", foreign / "b", out=foreign / "out") == 2
    assert message in capsys.readouterr().err and not (foreign / "out").exists()


def test_one_file_with_several_policies(foreign, tmp_path):
    evaluation = finished(tmp_path / "both")
    with pytest.raises(ConfigError, match="say which one"):
        read_foreign(str(evaluation))
    with pytest.raises(ConfigError, match="Did you mean 'good'"):
        read_foreign(f"{evaluation}#god")
    assert read_foreign(f"{evaluation}#good").arm == "good"


def test_films_come_along(foreign):
    finished(foreign / "both")
    words = [f"x={foreign / 'both'}#random", f"y={foreign / 'both'}#good", "--allow", "provenance"]
    assert compare(*words, out=foreign / "out") == 0
    films = [record.film for record in read(foreign / "out/episodes.jsonl") if record.film]
    assert len(films) == 8 and all((foreign / "out" / film).is_file() for film in films)
    assert all(film.startswith(("films/x-", "films/y-")) for film in films)


def test_records_need_no_torch(foreign):
    code = (
        "import sys; from volar.cli import main; "
        f"code = main(['compare', {str(foreign / 'a')!r}, {str(foreign / 'b')!r}, '--out', {str(foreign / 'out')!r}]); "
        "sys.exit(code or 7 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -------------------------------------------------------------------------------- from recipes to the page

RECIPE = ROOT / "recipes" / "toy.py"
SHORT = ("all.steps=12", "all.warmup=2", "all.validation=0")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "toy"
    words = ["collect", *TASKS, "--episodes", "4", "--storage", "image", "--workers", "0", "--out", str(folder)]
    assert main(words) == 0
    return folder


def recipes(data, *, episodes="2"):
    return [
        f"regression={RECIPE}", f"flow={RECIPE}", "--set", "flow.policy.decoder=flow", *SHORT, "--data", data,
        "--tasks", *TASKS, "--episodes", episodes, "--max-steps", "6", "--workers", "0", "--control-scenes", "1",
    ]  # fmt: skip


def test_from_recipes_to_the_page(data, tmp_path, capsys):
    words = [*recipes(data), "--training-seeds", "0", "1", "--budget", "4e9"]
    assert compare(*words, "--json", out=tmp_path) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scenes_per_task"] == 2 and told["deviations"] == [] and len(told["verdict"]) == 1
    result = analyse(tmp_path)
    protocol = result.registration.protocol
    assert protocol.match == "train-flops" and protocol.execute == {"regression": 2, "flow": 2}
    assert [member.name for member in result.arms[1].members] == ["flow@0", "flow@1"]
    for arm in result.arms:
        assert arm.axes["training_flops"] == pytest.approx(4e9, rel=0.06), "both arms got the budget"
        for member in arm.members:
            assert (tmp_path / "arms" / arm.name / f"seed-{member.training_seed}" / "checkpoints").is_dir()
    roles = {control.role: control.member for control in result.controls}
    assert roles == {
        "shuffled_instruction": "flow@0", "blank_images": "flow@0", "random_actions": None, "expert": None,
    }  # fmt: skip
    assert "training_flops" in result.pairs[0].equal
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json*")}
    assert compare(*words, out=tmp_path) == 0
    changed = [path.name for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == ["result.json"], "a finished comparison is only shown again"
    assert compare(*words, "--alpha", "0.01", out=tmp_path) == 2
    assert "alpha: 0.05 there, 0.01 asked for now" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--match", "nfe", "--budget", "7"], "more of them cannot be asked"),
        (["--match", "none", "--budget", "3"], "needs an axis"),
        (["--execute", "9"], "1 to 4, the horizon"),
        (["--execute", "fow=2"], "Did you mean 'flow'"),
        (["--first-seed", "0"], "were demonstrated"),
        (["--tasks", "toy/reach-red"], "needs a second task"),
        (["--tasks", "toy/reach-rde"], "Did you mean 'reach-red'"),
        (["--tasks", "toy/reach-red", "metaworld/push"], "one environment"),
        (["--looks", "1", "--episodes", "2"], "The last look must be at all 2 scenes"),
        (["--unpaired", "--design", "group"], "--design fixed"),
        (["--training-seeds", "1", "1"], "names each seed once"),
    ],
)
def test_bad_requests_begin_nothing(data, tmp_path, words, message, capsys):
    assert compare(*recipes(data), *words, out=tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert not (tmp_path / "out").exists()


def test_recipes_need_data(tmp_path, capsys):
    assert compare(RECIPE, RECIPE, "--tasks", *TASKS, out=tmp_path / "out") == 2
    assert "--data" in capsys.readouterr().err


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Two training runs."""
    folder = tmp_path_factory.mktemp("trained")
    for name, decoder in (("a", "regression"), ("b", "flow")):
        words = ["--data", data, "--out", folder / name, "--steps", "12", "--policy.decoder", decoder]
        assert main(["train", str(RECIPE), *map(str, words)]) == 0
    return folder


def checkpoints(trained, *, episodes):
    return [
        trained / "a", trained / "b", "--tasks", *TASKS, "--episodes", episodes, "--max-steps", "8", "--execute", "1",
        "--controls", "shuffled_instruction", "--control-scenes", "2", "--margin", "0",
    ]  # fmt: skip


def test_killed_with_sigkill_it_goes_on_and_ends_the_same(trained, tmp_path):
    """What was recorded before the kill is never run again, and the end is that of an undisturbed run."""
    words = checkpoints(trained, episodes=12)
    command = [sys.executable, "-m", "volar.cli", "compare", *map(str, words), "--out", str(tmp_path / "killed")]
    path, kept = tmp_path / "killed" / "episodes.jsonl", []
    for wanted in (3, 30):
        process = subprocess.Popen([*command, "--workers", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            if path.exists() and path.read_bytes().count(b"\n") >= wanted:
                break
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was still running"
        lines = path.read_bytes().split(b"\n")[:-1]
        assert lines[: len(kept)] == kept and len(lines) >= wanted
        kept = lines
    assert compare(*words, "--workers", 0, out=tmp_path / "killed") == 0
    assert path.read_bytes().split(b"\n")[: len(kept)] == kept
    assert compare(*words, "--workers", 0, out=tmp_path / "whole") == 0
    assert told(tmp_path / "killed") == told(tmp_path / "whole")
    assert [look.pairs for look in read_looks(tmp_path / "killed")] == [
        look.pairs for look in read_looks(tmp_path / "whole")
    ]
    departed = analyse(tmp_path / "killed").deviations
    assert all("code: " in each for each in departed), "nothing but a commit while this test runs"


def test_a_served_policy_is_an_arm_like_any_other(trained, tmp_path):
    """The same policy behind a socket: the same episodes."""
    from volar.policies.actor import PolicyActor
    from volar.policies.vla import Policy, latest_checkpoint
    from volar.serving.server import PolicyServer

    policy = Policy.load(latest_checkpoint(trained / "a"))
    card = {"name": "a", "hash": "h", "execute": 2, "kind": "multimodal policy"}
    with PolicyServer(lambda: PolicyActor(policy, execute=2), robot=policy.robot, card=card) as server:
        words = [trained / "a", server.url, "--tasks", *TASKS, "--episodes", 2, "--max-steps", 6, "--workers", 0]
        assert compare(*words, "--controls", "blank_images", out=tmp_path) == 0
    result = analyse(tmp_path)
    assert [arm.source for arm in result.arms] == ["checkpoint", "served"]
    assert result.registration.protocol.execute == {"a": 2, "served": 2}, "who can choose follows who cannot"
    steps = {}
    for record in read(tmp_path / "episodes.jsonl"):
        steps.setdefault(record.key[0], []).append(
            (record.key[1:], record.episode.outcome, record.episode.total_reward)
        )
    assert steps["a"] == steps["served"] and steps["a/blank_images"] == steps["served/blank_images"]


def test_policies_share_what_is_frozen_and_equal():
    """Where weights differ, or learn, nothing is shared."""
    import torch
    from torch import nn

    first, second = (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)) for _ in range(2))
    for module in (first, second):
        module[:2].requires_grad_(False)
    second[0].load_state_dict(first[0].state_dict())
    second[2].load_state_dict(first[2].state_dict())
    inputs = torch.randn(4, 3)
    before, kept = second(inputs), {}
    share_frozen(first, kept)
    share_frozen(second, kept)
    same = [mine.data_ptr() == theirs.data_ptr()
            for mine, theirs in zip(first.parameters(), second.parameters(), strict=True)]  # fmt: skip
    assert same == [True, True, False, False, False, False]
    assert torch.equal(second(inputs), before)


def test_a_policy_against_records_of_another(trained, tmp_path, capsys):
    words = ["--tasks", *TASKS, "--episodes", 2, "--max-steps", 6, "--workers", 0, "--controls", "expert"]
    assert compare(trained / "a", trained / "b", *words, out=tmp_path / "first") == 0
    old = f"old={tmp_path / 'first'}#b"
    assert compare(old, f"new={trained / 'a'}", *words, out=tmp_path / "second") == 0
    result = analyse(tmp_path / "second")
    assert result.pairs[0].scenes == 4 and result.pairs[0].left_out.total == 0
    assert compare(old, trained / "a", *words, "--execute", "1", out=tmp_path / "third") == 2
    assert "actions carried out per look: old: [2]; a: [1]" in capsys.readouterr().err


def test_the_guide_names_options_that_exist():
    text = (ROOT / "docs" / "compare.md").read_text().replace("\\\n", " ")
    commands = [shlex.split(line) for line in re.findall(r"^volar compare (.*)$", text, flags=re.M)]
    parsed = [tyro.cli(Compare, args=words) for words in commands]
    assert len(parsed) == 4 and all(len(command.sources) == 2 for command in parsed)
    assert parsed[1].set == ("all.policy.decoder=flow", "few.policy.decoder_options.steps=2")
    names = re.findall(r"^\| `([a-z-]+)` \|", text.partition("## Records of others")[2], flags=re.M)
    assert names == list(ALLOWANCES)
