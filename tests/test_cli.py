"""The command line as a stranger meets it: exit codes, messages without tracebacks, JSON, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from volar.cli import COMMANDS, main
from volar.cli.evaluate import arm_names, other_instruction
from volar.core.errors import ConfigError

ROOT = Path(__file__).parent.parent
VOLAR = [sys.executable, "-m", "volar.cli"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["trian"], "Did you mean 'train'"),
        (["list", "decodrs"], "Did you mean 'decoders'"),
        (["info", "no/such/folder"], "There is nothing at"),
        (["report", "no/such/run"], "no/such/run"),
        (["collect", "toy/reach-rde", "--out", "x"], "Did you mean 'reach-red'"),
        (["collect", "tyo/reach-red", "--out", "x"], "Did you mean 'toy'"),
        (["collect", "reach-red", "--out", "x"], "environment/task"),
        (["collect", "toy/reach-red", "metaworld/push", "--out", "x"], "one environment"),
        (["collect", "toy/reach-red", "--camera", "frnt", "32", "--out", "x"], "camera"),
        (["train", "recipes/none.py", "--data", "x", "--out", "y"], "No recipe at"),
        (["evaluate", "no/such/policy", "--tasks", "toy/reach-red", "--execute", "1", "--out", "x"], "No checkpoint"),
    ],
)
def test_bad_requests_are_answered_clearly(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_errors_for_machines(capsys):
    assert main(["list", "decodrs", "--json"]) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["kind"] == "ConfigError" and error["exit_code"] == 2


def test_debug_shows_the_traceback():
    with pytest.raises(ConfigError):
        main(["list", "decodrs", "--debug"])


def test_lists_are_json(capsys):
    assert main(["list", "decoders", "--json"]) == 0
    members = json.loads(capsys.readouterr().out)["members"]
    assert {"name": "flow", "implementation": "volar.decoders.flow:Flow"} in members
    assert main(["list", "tasks", "--json"]) == 0
    tasks = json.loads(capsys.readouterr().out)["members"]
    assert "metaworld/push" in tasks and "metaworld/faucet-open-shared" in tasks and "toy/reach-red" in tasks


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    done = subprocess.run([*VOLAR, command, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert f"volar {command}" in done.stdout


def test_existing_folder_of_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("precious")
    assert main(["collect", "toy/reach-red", "--out", str(tmp_path), "--workers", "0"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert "Traceback" not in capsys.readouterr().err


def listen_to_ctrl_c() -> None:
    """Where tests run as a background job, children are born deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_ctrl_c_ends_quietly_and_the_same_command_goes_on(tmp_path, workers):
    out = tmp_path / "data"
    words = ["collect", "toy/reach-red", "--out", str(out), "--storage", "image", "--workers", workers]
    process = subprocess.Popen(
        [*VOLAR, *words, "--episodes", "5000"], stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_ctrl_c
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("data/*/file-00[1-9].parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors and "goes on from there" in errors
    assert main(["info", str(out), "--json"]) == 0
    kept = len(list(out.glob("data/*/file-*.parquet")))
    assert main([*words, "--episodes", str(kept + 1)]) == 0


def test_arms_get_names():
    assert arm_names((Path("a/run"),)) == ["policy"]
    assert arm_names((Path("a/flow"), Path("b/regression"))) == ["flow", "regression"]
    assert arm_names((Path("a/run"), Path("b/run"))) == ["run-1", "run-2"]
    with pytest.raises(ConfigError):
        arm_names(())


def test_shuffled_instruction_is_the_sibling_s_where_the_scene_is_shared():
    tasks = ("metaworld/faucet-open-shared", "metaworld/faucet-close-shared", "metaworld/push", "metaworld/drawer-open")
    told = {other_instruction(tasks, tasks[0], seed) for seed in range(4)}
    assert told == {"turn the faucet right"} or len(told) == 1
    others = {other_instruction(tasks, "metaworld/push", seed) for seed in range(6)}
    assert len(others) == 3
    with pytest.raises(ConfigError, match="second task"):
        other_instruction(("metaworld/push",), "metaworld/push", 0)


def test_a_policy_meets_only_the_robot_it_learned(tmp_path, capsys):
    """A toy policy sent to Meta-World is refused before the first episode, with every difference named."""
    words = ["collect", "toy/reach-red", "--out", str(tmp_path / "data"), "--episodes", "2", "--storage", "image"]
    assert main([*words, "--workers", "0"]) == 0
    recipe, run = str(ROOT / "recipes" / "toy.py"), str(tmp_path / "run")
    assert main(["train", recipe, "--data", str(tmp_path / "data"), "--out", run, "--steps", "1"]) == 0
    capsys.readouterr()
    words = ["evaluate", run, "--tasks", "metaworld/push", "--execute", "1", "--out", str(tmp_path / "evaluation")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "camera" in error.lower() or "Camera" in error
    assert not (tmp_path / "evaluation").exists()
