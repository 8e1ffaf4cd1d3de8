"""An environment behind a real socket: the same episodes as without it, and a far side that misbehaves costs little."""

import json
from dataclasses import replace

import numpy as np
import pytest

from volar.core.errors import ConfigError
from volar.core.robot import Job, Outcome
from volar.envs import instructions, make_env, make_expert
from volar.envs.controls import RandomActor
from volar.envs.rollout import rollout, run_episode
from volar.envs.toy import Toy
from volar.serving.environments import EnvironmentServer

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
    with pytest.raises(ConfigError, match="'toi'. Did you mean 'toy'"):
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
