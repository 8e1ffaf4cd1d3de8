"""The protocol of vla-eval against messages that the real package packed, and, where VOLAR_VLA_EVAL_PYTHON names a
python that has it, against its harness and its model servers themselves."""

import json
import os
import re
import subprocess
import sys
import urllib.request
import zlib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
import vla_eval_peer as peer
from websockets.sync.client import connect

from volar.cli import main
from volar.cli.conventions import EXAMPLE, read_conventions
from volar.comparison.analyse import analyse
from volar.core.errors import ConfigError, EpisodeError
from volar.core.robot import ActionSpec, Actor, Camera, Chunk, Job, Outcome, RobotSpec
from volar.core.wire import pack
from volar.envs.rollout import run_episode
from volar.envs.toy import Toy
from volar.evaluation.records import read
from volar.evaluation.summary import summarise
from volar.evaluation.vla_eval import import_results
from volar.serving.client import RemoteActor
from volar.serving.listener import Listener
from volar.serving.vla_eval import (
    Conventions,
    Part,
    gripper_signs,
    pack_message,
    read_image,
    read_observation,
    unpack_message,
    write_observation,
)
from volar.serving.vla_eval_client import VlaEvalActor
from volar.serving.vla_eval_server import VlaEvalServer

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden" / "vla_eval.json").read_text())
PYTHON = os.environ.get("VOLAR_VLA_EVAL_PYTHON")
needs_peer = pytest.mark.skipif(not PYTHON, reason="VOLAR_VLA_EVAL_PYTHON names no python with vla-eval")

ROBOT = RobotSpec(
    action=ActionSpec(
        names=("x", "y", "grip"), units=("m", "m", "normalised"), low=(-1.0,) * 3, high=(1.0,) * 3,
        control="delta_position", rotation="none", gripper="positive_opens", frame="world", rate_hz=10.0,
    ),
    cameras=(Camera(name="front", height=32, width=32),), proprioception=("x", "y"),
)  # fmt: skip
CONVENTIONS = Conventions(
    cameras={"front": "agentview"}, resize="bilinear", state=Part(name="states", dims=2, format="hand_xy"),
    actions=(Part(name="position", dims=2, format="delta_xy"),
             Part(name="gripper", dims=1, format="binary_close_positive")), parameters={"send_state": True},
)  # fmt: skip
TOY = replace(
    CONVENTIONS, cameras={"top": "front"}, state=Part(name="hand", dims=2, format="hand_xy"), parameters={},
    actions=CONVENTIONS.actions[:1],
)  # fmt: skip


class Reaching(Actor):
    """Reads picture, words and state, and opens a gripper that closes with negative numbers, in chunks of which two of
    three actions are used."""

    resets = ()

    def reset(self, seed):
        Reaching.resets = (*Reaching.resets, seed)

    def act(self, observation):
        if observation.instruction == "break":
            raise LookupError("no such drawer")
        assert observation.images["front"].shape == (32, 32, 3)
        big = np.repeat(np.repeat(observation.images["front"], 2, 0), 2, 1)
        move, near = peer.decide(_pure(big), observation.instruction, observation.proprioception)
        action = np.array([*(move * (not near)), -1.0 if near else 1.0], np.float32)
        return Chunk(
            actions=np.stack([action * [0.5, 0.5, 1]] * 2 + [action * [-9, -9, 1]]).astype(np.float32), execute=2
        )


def _pure(image):
    """Scaling mixes colours at the rims: each pixel becomes the nearest known colour or none."""
    palette = np.array([*peer.COLOURS.values(), (235, 235, 235)])
    distance = np.abs(image[:, :, None].astype(int) - palette).sum(3)
    return palette[distance.argmin(2)].astype(np.uint8)


@pytest.fixture
def served():
    with VlaEvalServer(Reaching, robot=ROBOT, conventions=CONVENTIONS, name="reaching") as server:
        yield server


def said(connection, kind, payload, seq=1):
    connection.send(pack_message(kind, payload, seq))
    return unpack_message(connection.recv(timeout=60))


def test_what_the_real_package_packs_is_understood():
    hello = unpack_message(bytes.fromhex(GOLDEN["hello"]))
    assert (hello.kind, hello.seq, hello.payload["protocol_version"]) == ("hello", 3, 1)
    assert unpack_message(bytes.fromhex(GOLDEN["episode_start"])).payload["task"]["episode_idx"] == 2
    action = unpack_message(bytes.fromhex(GOLDEN["action"])).payload["actions"]
    assert action.dtype == np.float32 and action.tolist() == [0.25, -1.0, 1.0]
    assert "ValueError" in unpack_message(bytes.fromhex(GOLDEN["error"])).payload["error"]
    image = (np.arange(4 * 6 * 3, dtype=np.uint8) * 3).reshape(4, 6, 3)
    robot = replace(ROBOT, cameras=(Camera(name="front", height=4, width=6),))
    for form in ("png", "raw", "jpeg"):
        payload = unpack_message(bytes.fromhex(GOLDEN[f"observation_{form}"])).payload
        seen = read_observation(payload, CONVENTIONS, robot, seconds=0.0)
        assert seen.instruction == "go" and seen.proprioception.tolist() == [0.5, -2.0]
        worst = np.abs(seen.images["front"].astype(int) - image).max()
        assert worst == 0 if form != "jpeg" else worst < 60


@pytest.mark.parametrize("kind", ["action", "episode_start", "error", "observation_raw"])
def test_what_is_packed_here_is_what_the_real_package_packs(kind, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1.5)
    golden = bytes.fromhex(GOLDEN[kind])
    message = unpack_message(golden)
    assert pack_message(message.kind, message.payload, message.seq) == golden


def test_an_observation_goes_there_and_back():
    env = Toy("reach-red")
    env.reset(1)
    seen = env.observe()
    payload = unpack_message(pack_message("observation", write_observation(seen, TOY), 1)).payload
    assert read_observation(payload, TOY, env.spec, seconds=seen.time).digest() == seen.digest()


@pytest.mark.parametrize(("changes", "words"), [
    ({"cameras": {"wrist": "wrist"}}, r"cameras name \['wrist'\], the robot has \['front'\]"),
    ({"state": None}, "the state has 0 numbers, the robot feels 2"),
    ({"actions": CONVENTIONS.actions[:1]}, "the actions are position 2, the robot takes 3: x, y, grip"),
    ({"actions": (Part(name="position", dims=3, format="absolute_xyz"),)}, "absolute_xyz, the robot's control is"),
    ({"actions": (Part(name="rotation", dims=3, format="axis_angle"),)}, "axis_angle, the robot's rotation is none"),
    ({"actions": (Part(name="all", dims=3, format="binary_close_01"),)}, "binary_close_01, the robot's gripper is pos"),
])  # fmt: skip
def test_conventions_that_cannot_be_the_robots_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        gripper_signs(replace(CONVENTIONS, **changes), ROBOT)


def test_only_a_gripper_is_turned_round():
    assert gripper_signs(CONVENTIONS, ROBOT).tolist() == [1, 1, -1]
    closes = replace(ROBOT, action=replace(ROBOT.action, gripper="positive_closes"))
    assert gripper_signs(CONVENTIONS, closes).tolist() == [1, 1, 1]


@pytest.mark.parametrize(("changes", "words"), [
    ({"images": None}, "benchmark sends"), ({"task_description": 3}, "benchmark sends"),
    ({"images": {"wrist": np.zeros((32, 32, 3), np.uint8)}}, r"sends the images \['wrist'\]; \['agentview'\] were"),
    ({"images": {"agentview": np.zeros((64, 32, 3), np.uint8)}}, "is 32 x 64, the policy takes 32 x 32"),
    ({"images": {"agentview": np.zeros((32, 32, 3), np.float32)}}, "picture is uint8"),
    ({"images": {"agentview": {"__image__": True, "format": "png", "data": b"no"}}}, "no PNG or JPEG"),
    ({"images": {"agentview": "far away"}}, "got str"),
    ({"states": None}, "declared to be 2 finite numbers.*'states': 'NoneType'"),
    ({"states": np.zeros(8)}, r"declared to be 2 finite numbers.*'states': 'float64\[8\]'"),
    ({"states": np.array([np.nan, 0])}, "finite"),
])  # fmt: skip
def test_what_a_benchmark_sends_otherwise_is_refused_with_what_was_found(changes, words):
    payload = {
        "images": {"agentview": np.zeros((32, 32, 3), np.uint8)}, "states": np.zeros(2), "task_description": "go"
    }  # fmt: skip
    assert read_observation(payload, CONVENTIONS, ROBOT, seconds=0.0).instruction == "go"
    with pytest.raises(EpisodeError, match=words):
        read_observation({**payload, **changes}, CONVENTIONS, ROBOT, seconds=0.0)


def test_scaling_has_to_be_allowed_and_keeps_the_shape():
    payload = {
        "images": {"agentview": np.full((64, 64, 3), 7, np.uint8)},
        "states": np.zeros(2),
        "task_description": "",
    }
    assert (read_observation(payload, CONVENTIONS, ROBOT, seconds=0.0).images["front"] == 7).all()
    with pytest.raises(EpisodeError, match="64 x 64, the policy takes 32 x 32"):
        read_observation(payload, replace(CONVENTIONS, resize="refuse"), ROBOT, seconds=0.0)


def test_a_picture_larger_than_any_camera_is_not_unpacked():
    bomb = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (60000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    bomb += zlib.crc32(bomb[12:29]).to_bytes(4, "big") + b"\x00\x00\x00\x00IDAT"
    with pytest.raises(EpisodeError, match="bomb"):
        read_image({"__image__": True, "format": "png", "data": bomb})


def test_a_session(served):
    observation = {
        "images": {"agentview": peer.picture(np.array([[0.5, 0.5], [-0.5, 0], [0, -0.5]]), 64)},
        "states": np.zeros(2, np.float32), "task_description": "close over the red disc",
    }  # fmt: skip
    with connect(served.url, compression=None) as harness:
        harness.send(bytes.fromhex(GOLDEN["hello"]))
        hello = unpack_message(harness.recv(timeout=60))
        assert hello.seq == 3 and hello.payload["model_server"] == "reaching"
        assert hello.payload["action_spec"]["gripper"]["format"] == "binary_close_positive"
        assert hello.payload["observation_params"] == {"send_state": True}
        assert "No episode has begun" in said(harness, "observation", observation).payload["error"]
        harness.send(bytes.fromhex(GOLDEN["episode_start"]))
        actions = [said(harness, "observation", observation, seq).payload["actions"] for seq in (5, 6, 7)]
        assert np.allclose(actions, [[2**-0.5 / 2, 2**-0.5 / 2, -1]] * 3, atol=0.02), "two of a chunk, then a new one"
        broken = said(harness, "observation", {**observation, "images": {}}, 9)
        assert (broken.kind, broken.seq) == ("action", 9), "the second of a chunk needs no look"
        broken = said(harness, "observation", {**observation, "images": {}}, 10)
        assert (broken.kind, broken.seq) == ("error", 10) and "were declared" in broken.payload["error"]
        assert (
            "no such drawer"
            in said(harness, "observation", {**observation, "task_description": "break"}).payload["error"]
        )
        harness.send(pack_message("episode_start", {"task": {}, "mode": "live"}, 11))
        assert "mode: sync" in said(harness, "observation", observation).payload["error"]
        assert "version 2" in said(harness, "hello", {"protocol_version": 2}).payload["error"]


def test_a_policy_that_cannot_begin_tells_it_once_and_in_time(served):
    class Asleep(Reaching):
        def reset(self, seed):
            raise OSError("asleep")

    served.make_actor = Asleep
    with connect(served.url, compression=None) as harness:
        harness.send(pack_message("episode_start", {"task": {}}, 1))
        refused = said(harness, "observation", {"images": {}}, 2)
        assert (refused.kind, refused.seq) == ("error", 2) and "asleep" in refused.payload["error"]
        assert said(harness, "hello", {"protocol_version": 1}, 3).seq == 3, "no answer too many"


def test_a_model_server_that_cannot_begin_costs_one_episode():
    """As the real one does: an error for the beginning, and another answer for the observation."""

    def answer(message):
        if message.kind == "hello":
            return [pack_message("hello", {"protocol_version": 1}, message.seq)]
        failed = pack_message("error", {"error": "episode_start_failed: asleep"}, message.seq)
        return [failed] if message.kind in ("episode_start", "observation") else []

    job = Job(task="toy/reach-red", seed=0, arm="far", max_steps=3)
    with Scripted(answer) as server:
        actor = VlaEvalActor(server.url, TOY, Toy("reach-red").spec, timeout=60.0)
        assert "asleep" in run_episode(Toy("reach-red"), actor, job).error
        server.answer = answering(action=("action", {"actions": np.zeros(2, np.float32)}))
        assert run_episode(Toy("reach-red"), actor, job).outcome is Outcome.TIME_OUT


def test_the_same_episode_gets_the_same_seed_whoever_asked_before(served):
    Reaching.resets = ()
    for order in ((0, 1), (1, 0)):
        with connect(served.url, compression=None) as harness:
            for index in order:
                harness.send(pack_message("episode_start", {"task": {"name": "go", "episode_idx": index}}, 1))
            said(harness, "hello", {"protocol_version": 1})
    first, second, third, fourth = Reaching.resets
    assert (first, second) == (fourth, third) and first != second


@pytest.mark.parametrize("data", [b"", b"\xc1", "text", pack({"type": "hello"}), msgpack.packb([1]),
                                  pack({"type": "fly", "payload": {}, "seq": 1})])  # fmt: skip
def test_a_bad_message_gets_an_answer(served, data):
    with connect(served.url, compression=None) as stranger:
        stranger.send(data)
        assert unpack_message(stranger.recv(timeout=60)).kind == "error"
        assert said(stranger, "hello", {"protocol_version": 1}).kind == "hello"


def test_health_and_a_token_in_the_address(served):
    with urllib.request.urlopen(served.url.replace("ws://", "http://") + "/health", timeout=60) as answer:
        assert json.loads(answer.read()) == {"status": "ok"}
    with VlaEvalServer(Reaching, robot=ROBOT, conventions=CONVENTIONS, name="", token="secret") as guarded:
        with connect(guarded.url.replace("ws://", "ws://anyone:secret@"), compression=None) as harness:
            assert said(harness, "hello", {"protocol_version": 1}).kind == "hello"
        with pytest.raises(Exception, match="401"):
            connect(guarded.url.replace("ws://", "ws://anyone:wrong@"))


class Scripted(Listener):
    """A model server of which every answer is what `answer(message)` says."""

    def __init__(self, answer):
        self.answer = answer
        super().__init__(host="127.0.0.1", port=0, token=None)

    def talk(self, connection):
        for data in connection:
            for told in self.answer(unpack_message(data)):
                connection.send(told)


def answering(hello=None, action=None):
    """hello: what is added to the greeting. action: payload of every answer to an observation."""

    def answer(message):
        if message.kind == "hello":
            return [pack_message("hello", {"protocol_version": 1, **(hello or {})}, message.seq)]
        if message.kind == "observation" and action is not None:
            return [pack_message(*action, message.seq)]
        return []

    return answer


@pytest.mark.parametrize(("hello", "words"), [
    ({"protocol_version": 2}, "version 2"), ({"action_spec": 3}, "is no map"),
    ({"action_spec": {"a": 3}}, "expected a map"),
    ({"action_spec": {"position": {"format": "absolute_xy"}}}, "delta_xy declared, the server: absolute_xy"),
    ({"observation_spec": {"wrist": {"format": "rgb_hwc_uint8"}}}, "'wrist': absent declared"),
])  # fmt: skip
def test_a_model_server_with_other_conventions_is_refused(hello, words):
    with Scripted(answering(hello)) as server, pytest.raises(ConfigError, match=words):
        VlaEvalActor(server.url, TOY, Toy("reach-red").spec)
    with pytest.raises(ConfigError, match="No model server"):
        VlaEvalActor("ws://127.0.0.1:1", TOY, Toy("reach-red").spec)


@pytest.mark.parametrize(("action", "words"), [
    (("action", {"actions": np.zeros((4, 2), np.float32)}), r"float32\[4, 2\].*chunk_size"),
    (("action", {"motion": 3}), "NoneType under"), (("error", {"error": "out of memory"}), "out of memory"),
    (("action", {"actions": np.full(2, np.nan, np.float32)}), "Non-finite"), (None, "did not answer"),
])  # fmt: skip
def test_what_a_model_server_does_wrong_costs_an_episode(action, words):
    job = Job(task="toy/reach-red", seed=0, arm="far", max_steps=3)
    with Scripted(answering(action=action)) as server:
        actor = VlaEvalActor(server.url, TOY, Toy("reach-red").spec, timeout=2.0 if action is None else 60.0)
        if words == "Non-finite":
            with pytest.raises(Exception, match=words):
                run_episode(Toy("reach-red"), actor, job)
            return
        for _ in range(2):
            episode = run_episode(Toy("reach-red"), actor, job)
            assert episode.outcome is Outcome.ERROR
        server.answer = answering(action=("action", {"actions": np.zeros(2, np.float32)}))
        assert run_episode(Toy("reach-red"), actor, job).outcome is Outcome.TIME_OUT


def peer_environment():
    return {**os.environ, "PYTHONPATH": str(HERE)}


@needs_peer
@pytest.mark.slow
def test_the_real_harness_evaluates_a_policy_of_ours(served, tmp_path):
    words = [PYTHON, HERE / "vla_eval_peer.py", "evaluate", served.url, tmp_path]
    done = subprocess.run(words, env=peer_environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Spec mismatch" not in done.stderr
    (result,) = tmp_path.glob("*_aggregate.json")
    assert json.loads(result.read_text())["mean_success"] == 1.0


@contextmanager
def foreign_server(kind):
    words = [PYTHON, HERE / "vla_eval_peer.py", "serve", kind]
    process = subprocess.Popen(
        words,
        env=peer_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


@needs_peer
@pytest.mark.slow
def test_a_model_server_of_theirs_acts_in_our_environment():
    spec = Toy("reach-red").spec
    with foreign_server("reach") as url:
        actor = VlaEvalActor(url, TOY, spec)
        for task in Toy.tasks():
            job = Job(task=f"toy/{task}", seed=5, arm="far", max_steps=30)
            assert run_episode(Toy(task), actor, job).outcome is Outcome.SUCCESS
        wrong = replace(TOY, state=Part(name="hand", dims=2, format="hand_polar"))
        with pytest.raises(ConfigError, match="hand_polar declared, the server: hand_xy"):
            VlaEvalActor(url, wrong, spec)
    with foreign_server("echo") as url:
        job = Job(task="toy/reach-red", seed=5, arm="far", max_steps=3)
        assert run_episode(Toy("reach-red"), VlaEvalActor(url, TOY, spec), job).outcome is Outcome.TIME_OUT
    with foreign_server("whole") as url:
        episode = run_episode(Toy("reach-red"), VlaEvalActor(url, TOY, spec), job)
        assert episode.outcome is Outcome.ERROR and "chunk_size" in episode.error


@needs_peer
@pytest.mark.slow
def test_the_golden_messages_are_still_those_of_the_real_package(tmp_path):
    subprocess.run([PYTHON, HERE / "vla_eval_peer.py", "golden", tmp_path / "new.json"], check=True)
    new = json.loads((tmp_path / "new.json").read_text())
    assert {name: value for name, value in new.items() if name not in ("note", "hello")} == {
        name: value for name, value in GOLDEN.items() if name not in ("note", "hello")
    }


RESULT = HERE / "golden" / "vla_eval_aggregate.json"


def test_a_result_of_the_real_harness_becomes_an_evaluation(tmp_path, capsys):
    """Four successes, four time-outs, and four broken episodes, which are failures there and not scored here."""
    assert main(["import-results", str(RESULT), "--out", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["episodes"], told["broken"]) == (12, 4) and len(told["unknown"]) == 6
    outcomes = [record.episode.outcome for record in read(tmp_path / "episodes.jsonl")]
    assert [outcomes.count(each) for each in Outcome] == [4, 4, 0, 4]
    summary = summarise(tmp_path)
    assert summary.policy.overall is None and summary.policy.broken == 4
    assert "no such drawer" in summary.broken[0].error
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "Reach by vla-eval 0.8.0" in page and "what the policy could read" in page
    assert main(["import-results", str(RESULT), "--out", str(tmp_path)]) == 0, "the same again changes nothing"
    assert len(read(tmp_path / "episodes.jsonl")) == 12


def test_two_results_are_compared_where_their_settings_are_equal(tmp_path, capsys):
    content = json.loads(RESULT.read_text())
    for episode in (row for task in content["tasks"] for row in task["episodes"]):
        episode.pop("failure_reason", None)
        episode["steps"], episode["metrics"]["success"] = 30, False
    (tmp_path / "worse.json").write_text(json.dumps(content))
    content["config"]["params"]["seed"] = 4
    (tmp_path / "other_seed.json").write_text(json.dumps(content))
    for name, source in (("a", RESULT), ("b", tmp_path / "worse.json"), ("c", tmp_path / "other_seed.json")):
        assert main(["import-results", str(source), "--out", str(tmp_path / name), "--arm", name]) == 0
    words = ["--controls", "--allow", "max-steps", "--out", str(tmp_path / "ab")]
    assert main(["compare", f"a={tmp_path / 'a'}", f"b={tmp_path / 'b'}", *words]) == 0
    capsys.readouterr()
    (pair,) = analyse(tmp_path / "ab").pairs
    assert (pair.scenes, pair.left_out.broken, pair.left_out.different) == (8, 4, 0)
    words[-1] = str(tmp_path / "ac")
    assert main(["compare", f"a={tmp_path / 'a'}", f"c={tmp_path / 'c'}", *words]) == 2
    assert '"seed": 4' in capsys.readouterr().err


@pytest.mark.parametrize(("text", "words"), [
    ("{", "no result of vla-eval"), ("[]", "no result of vla-eval"), ("{}", "no result of vla-eval"),
    (RESULT.read_text().replace('"success"', '"score"'), "metric 'success', true or false; found {'score'"),
    (RESULT.read_text().replace('"success": true', '"success": 0.5'), "found {'success': 0.5}"),
])  # fmt: skip
def test_what_is_no_result_is_refused(tmp_path, text, words):
    (tmp_path / "x_aggregate.json").write_text(text)
    with pytest.raises(ConfigError, match=words):
        import_results(tmp_path, tmp_path / "out", arm="a")
    assert not (tmp_path / "out").exists()


def test_conventions_are_a_file_in_which_every_key_is_proved(tmp_path):
    path = tmp_path / "conventions.json"
    path.write_text(EXAMPLE)
    libero = read_conventions(path)
    assert sum(part.dims for part in libero.actions) == 7 and libero.state.dims == 8
    for text, words in (("", "Conventions look like"), (EXAMPLE.replace("resize", "size"), "'size'.*'resize'"),
                        (EXAMPLE.replace("bilinear", "bicubic"), "Did you mean 'bilinear'")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(ConfigError, match=words):
            read_conventions(path)


@contextmanager
def volar(*words):
    """A command that serves, as a program of its own; yields the address that it tells."""
    process = subprocess.Popen([sys.executable, "-m", "volar.cli", *map(str, words)], stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        found = re.findall(r"ws://\S+:\d+", line)
        assert found, line + process.stderr.read()
        yield found[-1]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def untrained(folder):
    from volar.data.normalize import exact_statistics
    from volar.policies.config import PolicyConfig
    from volar.policies.vla import ACTION, PROPRIOCEPTION, Policy

    config = PolicyConfig(
        backbone="tiny", decoder="regression", horizon=2, normalise_action="min_max", normalise_proprioception="min_max"
    )
    statistics = {name: exact_statistics(np.array([[-1.0, -1.0], [1.0, 1.0]])) for name in (ACTION, PROPRIOCEPTION)}
    Policy(config, robot=Toy("reach-red").spec, statistics=statistics).save(folder, facts={})
    return folder


@pytest.mark.slow
def test_a_checkpoint_is_served_and_comes_back_over_the_bridge(tmp_path):
    """volar serve --vla-eval on one side, volar bridge on the other: the policy's own actions."""
    from volar.policies.actor import load_policy

    policy = untrained(tmp_path / "policy")
    conventions = {
        "cameras": {"top": "front"}, "resize": "refuse", "state": {"name": "hand", "dims": 2, "format": "hand_xy"},
        "actions": [{"name": "position", "dims": 2, "format": "delta_xy"}], "parameters": {},
    }  # fmt: skip
    path = tmp_path / "conventions.json"
    path.write_text(json.dumps(conventions))
    env = Toy("reach-red")
    env.reset(4)
    seen = env.observe()
    with (
        volar("serve", policy, "--execute", 1, "--port", 0, "--vla-eval", path) as url,
        volar("bridge", url, "--task", "toy/reach-red", "--conventions", path, "--port", 0) as bridged,
    ):
        far = RemoteActor(bridged)
        assert far.robot == env.spec and far.card["name"] == policy.name
        far.reset(0)
        actions = far.act(seen).actions
        far.close()
    near = load_policy(policy, execute=1)
    assert np.allclose(actions, env.spec.action.clip(near.act(seen).actions[:1]), atol=1e-6)
