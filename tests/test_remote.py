"""An environment behind a real socket: the same episodes as without it, and a far side that misbehaves costs little."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from volar.core.errors import ConfigError, EpisodeError, RobotFault
from volar.core.robot import Job, Outcome
from volar.core.wire import ENVIRONMENT_PROTOCOL, LARGEST, pack, unpack
from volar.envs import instructions, make_env, make_expert
from volar.envs.controls import RandomActor
from volar.envs.remote import TOKEN, Remote
from volar.envs.rollout import rollout, run_episode
from volar.envs.toy import Toy
from volar.evaluation.episodes import evaluate, paired_jobs
from volar.evaluation.records import read
from volar.evaluation.run import Arm, RunInfo
from volar.serving.environments import EnvironmentServer
from volar.serving.listener import Listener
from volar.serving.worlds import World

TASK = "toy/reach-red"
SPEC = Toy("reach-red").spec
JOB = Job(task=TASK, seed=3, arm="random", max_steps=12, frames="all")


@pytest.fixture(scope="module")
def server():
    with EnvironmentServer(["toy"]) as running:
        yield running


@pytest.fixture
def env(server):
    remote = make_env(f"remote/{server.address}/{TASK}")
    yield remote
    remote.close()


def test_an_episode_over_the_socket_is_the_episode_without_it(env):
    here, there = (run_episode(each, RandomActor(SPEC, execute=4), JOB) for each in (make_env(TASK), env))
    for field in ("outcome", "steps", "first_observation", "tracks", "failure", "total_reward", "instruction"):
        assert getattr(here, field) == getattr(there, field), field
    for field in ("proprioception", "actions", "executed", "rewards"):
        assert np.array_equal(getattr(here.trajectory, field), getattr(there.trajectory, field)), field
    assert np.array_equal(here.trajectory.images["top"], there.trajectory.images["top"])


def test_everything_the_contract_promises_comes_over(env):
    direct = Toy("reach-red")
    for each in (direct, env):
        each.reset(5)
        each.step(np.full(2, 0.5, np.float32))
    assert env.spec == direct.spec and env.signs() == direct.signs() and env.measure() == direct.measure()
    assert env.digest() == direct.digest() and env.save() == direct.save() and env.privileged == direct.privileged
    assert env.observe().digest() == direct.observe().digest()
    assert not env.observe(images=False).images
    facts = env.describe()
    assert facts.pop("served_by")["python"] and facts == json.loads(json.dumps(direct.describe()))


def test_a_state_that_was_saved_here_or_there_is_put_back(env):
    from volar.planning.simulation import require_exact_restore

    env.reset(1)
    require_exact_restore(env)
    direct = Toy("reach-red")
    direct.reset(9)
    env.restore(direct.save())
    assert env.digest() == direct.digest() and env.measure() == direct.measure()


def test_the_expert_acts_on_the_far_side(server):
    task = f"remote/{server.address}/{TASK}"
    job = replace(JOB, task=task, frames="none", max_steps=40)
    episode = run_episode(make_env(task), make_expert(task), job)
    assert episode.outcome is Outcome.SUCCESS and episode.privileged == make_expert(TASK).privileged
    direct = run_episode(make_env(TASK), make_expert(TASK), replace(job, task=TASK))
    assert np.array_equal(episode.trajectory.actions, direct.trajectory.actions)


def test_a_perturbed_task_is_perturbed_on_the_far_side(server):
    perturbed = f"{TASK}@sensor=3"
    env = make_env(f"remote/{server.address}/{perturbed}")
    here, there = (run_episode(each, RandomActor(SPEC, execute=4), JOB) for each in (make_env(perturbed), env))
    plain = run_episode(make_env(TASK), RandomActor(SPEC, execute=4), JOB)
    for field in ("proprioception", "rewards"):
        assert np.array_equal(getattr(here.trajectory, field), getattr(there.trajectory, field)), field
    assert not np.array_equal(plain.trajectory.proprioception, there.trajectory.proprioception)
    assert env.describe()["perturbation"] == make_env(perturbed).describe()["perturbation"]
    env.close()


def test_what_is_asked_of_the_server(server):
    assert instructions(f"remote/{server.address}/{TASK}") == Toy.instructions("reach-red")
    with pytest.raises(ConfigError, match="Did you mean 'reach-red'"):
        make_env(f"remote/{server.address}/toy/reach-rad")
    with pytest.raises(ConfigError, match="only toy"):
        make_env(f"remote/{server.address}/os:system/now")
    with pytest.raises(ConfigError, match="toy camera"):
        make_env(f"remote/{server.address}/{TASK}", cameras={"tip": 8})
    assert make_env(f"remote/{server.address}/{TASK}", cameras={"top": 8}).spec.cameras[0].height == 8
    with pytest.raises(ConfigError, match="HOST:PORT"):
        make_env("remote/toy/reach-red")
    with pytest.raises(ConfigError, match="Did you mean 'toy'"):
        EnvironmentServer(["toi"])
    with pytest.raises(ConfigError, match="serve-env"):
        make_env(f"remote/127.0.0.1:1/{TASK}")


def test_two_workers_use_it_at_once(server):
    task = f"remote/{server.address}/{TASK}"
    jobs = [Job(task=task, seed=seed, arm="expert", max_steps=40) for seed in range(4)]
    episodes = list(rollout(jobs, make_env=make_env, make_actor=_expert_of, workers=2))
    assert {episode.outcome for episode in episodes} == {Outcome.SUCCESS}


def _expert_of(arm):
    return make_expert("remote/")


class Tampered(Listener):
    """A far side that is honest but for what `tamper(message, answer)` makes of some answers."""

    def __init__(self, tamper, card=None):
        self.tamper, self.card = tamper, card or {"protocol": ENVIRONMENT_PROTOCOL}
        super().__init__(host="127.0.0.1", port=0, token=None)

    def talk(self, connection):
        world = World(["toy"])
        try:
            connection.send(pack(self.card))
            while True:
                data = connection.recv()
                connection.send(self.tamper(unpack(data), world.answer(data)))
        except ConnectionClosed:
            return


def changed(kind, **changes):
    """Every answer to messages of that kind has these instead."""
    return lambda message, answer: pack({**unpack(answer), **changes}) if message["type"] == kind else answer


def stalling(message, answer):
    if message["type"] == "step":
        time.sleep(4)
    return answer


NAN = float("nan")
PICTURE = np.zeros((4, 4, 3), np.uint8)
TAMPERED = {
    "garbage": (lambda message, answer: b"\xc1" if message["type"] == "step" else answer, "did not answer"),
    "text": (lambda message, answer: "hello" if message["type"] == "step" else answer, "got the text 'hello'"),
    "no map": (lambda message, answer: b"\x93\x01\x02\x03" if message["type"] == "step" else answer, "did not answer"),
    "stall": (stalling, "TimeoutError"),
    "too large": (lambda message, answer: b"x" * (LARGEST + 1) if message["type"] == "step" else answer, "too big"),
    "NaN reward": (changed("step", reward=NAN), "finite reward"),
    "no reward": (changed("step", reward=None), "finite reward"),
    "flag": (changed("step", success="yes"), "two flags"),
    "NaN state": (changed("step", state=np.array([NAN, 0.0], np.float32)), "2 finite numbers"),
    "long state": (changed("step", state=np.zeros(5, np.float32)), "2 finite numbers"),
    "NaN measure": (changed("step", measures={"hand_to_disc": NAN}), "no finite number: hand_to_disc"),
    "no measures": (changed("reset", measures=[1]), "named numbers"),
    "no instruction": (changed("reset", prompt=None), "'prompt'"),
    "no picture": (changed("observe", images={}), "32 x 32 pixels; got None"),
    "small picture": (changed("observe", images={"top": PICTURE}), "32 x 32 pixels; got (4, 4, 3)"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_nonsense_ends_the_episode_and_the_next_one_is_sound(case):
    tamper, words = TAMPERED[case]
    with Tampered(tamper) as far:
        env = Remote(f"{far.address}/{TASK}", timeout=2.0 if tamper is stalling else 60.0)
        broken = run_episode(env, RandomActor(SPEC), JOB)
        assert broken.outcome is Outcome.ERROR and words in broken.error, broken.error
        far.tamper = lambda message, answer: answer
        assert run_episode(env, RandomActor(SPEC), JOB).outcome is not Outcome.ERROR
        env.close()


@pytest.mark.parametrize(("card", "words"), [
    ({"protocol": "volar-env/9"}, "'volar-env/9', expected 'volar-env/1'"), ({"protocol": "volar/1"}, "volar/1"),
    ({"error": "64 environments are in use"}, "64 environments"), ({"greeting": "hi"}, "speaks None"),
])  # fmt: skip
def test_another_protocol_is_refused_before_anything_runs(card, words):
    with Tampered(lambda message, answer: answer, card) as far, pytest.raises(ConfigError, match=words):
        Remote(f"{far.address}/{TASK}")


@pytest.mark.parametrize("changes", [
    {"robot": None}, {"robot": {"action": {"names": 3}, "cameras": [], "proprioception": []}}, {"describe": "{"},
    {"describe": "[1]"}, {"privileged": 3},
])  # fmt: skip
def test_an_environment_that_cannot_be_described_is_no_environment(changes):
    with Tampered(changed("make", **changes)) as far, pytest.raises(EpisodeError, match="nonsense"):
        Remote(f"{far.address}/{TASK}")


class Dying(Toy):
    """As a simulator that crashes: its process is gone in the middle of a step."""

    def step(self, action):
        if self._steps == 5 and self._goal == "green":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


def test_a_simulator_that_crashes_costs_its_own_episode_only():
    name = f"{__name__}:Dying"
    with EnvironmentServer([name]) as server:
        tasks = [f"remote/{server.address}/{name}/reach-{colour}" for colour in ("red", "green", "blue")]
        jobs = [Job(task=task, seed=3, arm="random", max_steps=12) for task in tasks]
        episodes = list(rollout(jobs, make_env=make_env, make_actor=lambda _: RandomActor(SPEC), workers=0))
    assert [episode.outcome is Outcome.ERROR for episode in episodes] == [False, True, False]
    assert "exit code -9" in episodes[1].error


def test_what_strangers_send_is_answered_and_brings_nobody_down(server):
    def say(stranger, message):
        stranger.send(message if isinstance(message, bytes | str) else pack(message))
        return unpack(stranger.recv(timeout=60))

    state = np.zeros(2, np.float32)
    with connect(server.url, compression=None) as stranger:
        assert unpack(stranger.recv())["protocol"] == ENVIRONMENT_PROTOCOL
        for message in (b"", b"\xc1", "text", {"type": "fly"}, {"type": ["step"]}, {"type": "step", "action": state}):
            assert "error" in say(stranger, message), message
        assert say(stranger, {"type": "make", "task": TASK, "cameras": None})["robot"]
        for message in ({"type": "step", "action": np.zeros(7)}, {"type": "step", "action": state * NAN},
                        {"type": "reset", "seed": -1}, {"type": "restore", "state": b"123"}, {"type": "restore"},
                        {"type": "act", "state": state, "prompt": ""}, {"type": "make", "task": 3},
                        {"type": "make", "task": TASK, "cameras": {"top": 10**6}},
                        {"type": "make", "task": TASK, "cameras": ["top"]}):  # fmt: skip
            assert "error" in say(stranger, message), message
        assert say(stranger, {"type": "reset", "seed": 1})["measures"]
    env = make_env(f"remote/{server.address}/{TASK}")
    env.reset(0)
    env.close()


def test_the_token(monkeypatch):
    with pytest.raises(ConfigError, match="give a token"):
        EnvironmentServer(["toy"], host="0.0.0.0")
    with EnvironmentServer(["toy"], token="secret") as guarded:
        for token, meant in (("", "401"), ("wrong", "401"), ("secret", None)):
            monkeypatch.setenv(TOKEN, token)
            if meant:
                with pytest.raises(ConfigError, match=meant):
                    make_env(f"remote/{guarded.address}/{TASK}")
            else:
                make_env(f"remote/{guarded.address}/{TASK}").close()


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "scipy", "pyarrow", "rich", "av", "PIL", "mujoco"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from volar.cli import main
import volar.serving.worlds, volar.envs.toy
main(sys.argv[1:])
"""


@contextmanager
def served_elsewhere(port=0):
    """`volar serve-env toy` as a program of its own, in which what only a policy needs cannot be imported."""
    words = [sys.executable, "-c", WITHOUT, "serve-env", "toy", "--port", str(port)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        assert "remote/" in line, line + process.stderr.read()
        yield process, line.partition("remote/")[2].partition("/")[0]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


class Killing(RandomActor):
    """Kills the server at its 20th decision."""

    process = None
    decisions = 0

    def act(self, observation):
        Killing.decisions += 1
        if Killing.decisions == 20:
            Killing.process.kill()
            Killing.process.wait()
        return super().act(observation)


def test_a_server_that_is_killed_loses_nothing_that_was_recorded(tmp_path):
    with served_elsewhere() as (process, address):
        Killing.process, Killing.decisions = process, 0
        info = RunInfo(
            title="killed", tasks=(f"remote/{address}/{TASK}",), seeds=tuple(range(6)), success_semantics="",
            arms={"policy": Arm(role="policy")}, settings={}, fingerprint={},
        )  # fmt: skip
        jobs = paired_jobs(info, max_steps=8, other_instruction=lambda task, seed: "")
        run = partial(evaluate, tmp_path, info, jobs, make_env=make_env, workers=0, progress=False)
        with pytest.raises(RobotFault, match=r"is lost.*same command goes on"):
            run(make_actor=lambda arm: Killing(SPEC))
        kept = read(tmp_path / "episodes.jsonl")
        assert 1 <= len(kept) < 6
    with served_elsewhere(port=address.rpartition(":")[2]):
        assert run(make_actor=lambda arm: RandomActor(SPEC)) == 6 - len(kept)
    records = read(tmp_path / "episodes.jsonl")
    assert records[: len(kept)] == kept and all(each.episode.outcome is not Outcome.ERROR for each in records)
