"""`volar language ...`: a policy by language as a folder, which every command takes where it takes a checkpoint."""

import io
import json
from pathlib import Path

import pytest
from test_language import completion, says, scripted, send, serving

from volar.cli import main
from volar.cli.language_run import ask_person
from volar.cli.language_summary import by_corrections
from volar.core.errors import ConfigError
from volar.core.robot import Episode, Job, Outcome
from volar.core.thoughts import Thought
from volar.evaluation.records import read
from volar.policies.language_folder import MODELS, PERCEPTIONS, Part, load_language, read_language
from volar.reasoning.language.language_model import Message

TASK = "tabletop/pick-place-red"


def write(folder: Path, *more: str) -> Path:
    assert main(["language", "write", str(folder), "--task", TASK, "--model", "small",
                 "--options", "decompose=false", *more]) == 0  # fmt: skip
    return folder


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert main(["--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


class TestFolder:
    def test_holds_no_key_and_takes_url_and_key_from_the_environment(self, tmp_path):
        folder = write(tmp_path / "policy", "--model-options", "key=$MY_KEY")
        assert "$MY_KEY" in (folder / "language.json").read_text()
        with pytest.raises(ConfigError, match="environment variable VOLAR_LM_URL is not set"):
            load_language(folder, execute=2, variables={})
        with serving(says({})) as (url, seen):
            variables = {"VOLAR_LM_URL": url, "MY_KEY": "hidden"}
            model = read_language(folder).policy.model.build(MODELS, folder, variables)
            model.answer([Message(role="user", text="hello")])
        assert seen[0]["key"] == "Bearer hidden" and model.describe()["model"] == "small"

    def test_an_evaluation_asks_for_the_variables_before_it_begins(self, tmp_path, capsys, monkeypatch):
        folder, out = write(tmp_path / "policy"), tmp_path / "run"
        monkeypatch.delenv("VOLAR_LM_URL", raising=False)
        words = ["--execute", "4", "--tasks", TASK, "--episodes", "1", "--max-steps", "5"]
        assert main(["evaluate", str(folder), "--out", str(out), *words]) == 2
        assert "VOLAR_LM_URL is not set" in capsys.readouterr().err and not out.exists()

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--options", "decomposed=true"], "Did you mean 'decompose'"),
            (["--options", "attempts=many"], "attempts must be a int"),
            (["--options", "attempts"], "takes key=value"),
            (["--model-options", "key=sk-123"], "A key is not written into a file"),
            (["--backend", "endpiont"], "Did you mean 'endpoint'"),
            (["--perception", "simulater"], "Did you mean 'simulator'"),
            (["--task", "toy/reach-red"], "does not name its objects"),
        ],
    )
    def test_what_cannot_work_is_refused_before_anything_is_written(self, tmp_path, capsys, words, message):
        arguments = ["language", "write", str(tmp_path / "policy"), "--task", TASK, "--model", "small", *words]
        assert main(arguments) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "policy" / "language.json").exists()

    def test_options_that_a_back_end_does_not_take_are_named(self, tmp_path):
        with pytest.raises(ConfigError, match="Did you mean 'temperature'"):
            options = {"base_url": "http://x", "model": "m", "temprature": 1}
            Part(name="endpoint", options=options).build(MODELS, tmp_path, {})
        with pytest.raises(ConfigError, match="unexpected keyword argument 'speed'"):
            Part(name="simulator", options={"speed": 1}).build(PERCEPTIONS, tmp_path, {})

    def test_a_damaged_file_and_a_second_one_are_refused(self, tmp_path, capsys):
        folder = write(tmp_path / "policy")
        again = ["language", "write", str(folder), "--task", TASK, "--model", "small"]
        assert main(again) == 2 and "exists already" in capsys.readouterr().err
        (folder / "language.json").write_text('{"kind": "language"}')
        with pytest.raises(ConfigError, match="is damaged: KeyError: 'model'"):
            read_language(folder)


class TestSummary:
    def test_a_success_counts_from_the_number_of_corrections_that_it_took(self):
        def episode(success: bool, corrections: int) -> Episode:
            words = {"correction": f"{corrections}: go left"} if corrections else {}
            return Episode(
                job=Job(task=TASK, seed=0, arm="policy", max_steps=1), instruction="", steps=1, first_observation="",
                outcome=Outcome.SUCCESS if success else Outcome.TIME_OUT, executed_per_chunk=1,
                thoughts=(Thought(), Thought(words=words)),
            )  # fmt: skip

        some = [episode(True, 0), episode(True, 2), episode(False, 0), episode(False, 1)]
        assert [row["successes"] for row in by_corrections(some)] == [1, 1, 2]


class TestCommands:
    def test_plan_tells_the_first_motion_and_moves_nothing(self, tmp_path, capsys, monkeypatch):
        folder = write(tmp_path / "policy")
        with serving(scripted) as (url, seen):
            monkeypatch.setenv("VOLAR_LM_URL", url)
            shown = told(capsys, "language", "plan", str(folder), "--task", TASK, "--seed", "3")
        assert shown["motion"].startswith("to red cube, open gripper, close gripper: to red cube in ")
        assert "+0.05 m off the straight way along z at 90% of it" in shown["motion"] and len(seen) == 1

    def test_run_needs_a_terminal_only_to_confirm(self, tmp_path, capsys, monkeypatch):
        folder = write(tmp_path / "policy")
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        arguments = ["language", "run", str(folder), "--task", TASK, "--seed", "3"]
        assert main([*arguments, "--confirm"]) == 2 and "there is no terminal" in capsys.readouterr().err
        assert main([*arguments, "--instruction", " "]) == 2 and "instruction is empty" in capsys.readouterr().err
        with serving(says({"done": True})) as (url, _):
            monkeypatch.setenv("VOLAR_LM_URL", url)
            shown = told(capsys, *arguments, "--max-steps", "4")
        assert shown["outcome"] == "time_out" and shown["tokens_written"] == 7 and shown["exchanges"] == 1

    @pytest.mark.parametrize(
        ("typed", "answer"), [("", ""), ("Yes", ""), ("no", None), ("higher ", "higher"), (None, None)]
    )
    def test_what_a_person_types_is_consent_refusal_or_a_correction(self, monkeypatch, typed, answer):
        def read(_: str) -> str:
            if typed is None:
                raise EOFError
            return typed

        monkeypatch.setattr("builtins.input", read)
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        assert ask_person("to red cube") == answer

    def test_evaluates_like_a_checkpoint_with_thoughts_and_cost_beside_the_records(self, tmp_path, capsys, monkeypatch):
        folder, out = write(tmp_path / "policy"), tmp_path / "run"
        refuses = lambda handler, body: send(handler, completion(None, refusal="I cannot"))  # noqa: E731
        evaluate = ["evaluate", str(folder), "--out", str(out), "--execute", "2", "--tasks", TASK, "--episodes", "2",
                    "--first-seed", "3", "--max-steps", "60", "--workers", "0"]  # fmt: skip
        assert main([*evaluate, "--controls", "blank_images"]) == 2
        with serving(scripted, refuses) as (url, _):
            monkeypatch.setenv("VOLAR_LM_URL", url)
            assert main([*evaluate, "--controls"]) == 0
        first, second = (record.episode for record in read(out / "episodes.jsonl"))
        assert (
            first.error is None and first.thoughts[0].tokens == 7 and "to red cube" in first.thoughts[0].words["motion"]
        )
        assert first.privileged == ("simulator state: names, places and sizes of objects",)
        assert "the model refuses: I cannot" in second.thoughts[0].words["trouble"] and second.outcome == "time_out"
        summary = told(capsys, "language", "summary", str(out))
        (row,) = summary["arms"]["policy"]["by_corrections"]
        assert (row["corrections"], row["successes"], row["episodes"]) == (0, 0, 2)
        assert summary["arms"]["policy"]["per_episode"]["given_up"] == 0.5 and summary["journal"]["tokens_read"] == 11
        settings = json.loads((out / "run.json").read_text())["settings"]["language"]["policy"]
        assert settings["model"]["options"]["model"] == "small" and settings["options"] == {"decompose": False}
        lines = [json.loads(line) for line in (out / "language.jsonl").read_text().splitlines()]
        assert [line["scene"] for line in lines] == [first.first_observation]
        assert (lines[0]["read"], lines[0]["written"], lines[0]["seed"]) == (11, 7, 3)
