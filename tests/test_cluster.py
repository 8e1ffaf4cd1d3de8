"""Ray with several nodes on this machine: the same episodes, also when a node is killed."""

import json
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from volar.core.errors import ConfigError
from volar.core.robot import Actor, Chunk, Env, Job
from volar.envs.controls import RandomActor
from volar.envs.rollout import groups, rollout, run_groups
from volar.envs.toy import Toy
from volar.evaluation.episodes import evaluate
from volar.evaluation.run import Arm, RunInfo

PATH = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}


def make_env(task: str) -> Env:
    return Toy(task.removeprefix("toy/"))


class Unhurried(RandomActor):
    """Random actions after a moment, so that there is time to kill a node meanwhile."""

    def act(self, observation) -> Chunk:
        import time

        time.sleep(0.01)
        return super().act(observation)


def make_actor(arm: str) -> Actor:
    if arm == "misconfigured":
        raise ConfigError("no such policy")
    spec = Toy("reach-red").spec
    return Unhurried(spec) if arm == "unhurried" else RandomActor(spec)


def jobs_of(arm: str, count: int) -> list[Job]:
    return [Job(task="toy/reach-red", seed=seed, arm=arm, max_steps=25) for seed in range(count)]


@pytest.fixture
def cluster():
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=running.address, log_to_driver=False, logging_level="error", runtime_env=PATH)
    yield running
    ray.shutdown()
    running.shutdown()


def known(episode):
    return episode.job, episode.outcome, episode.steps, episode.first_observation, episode.trajectory.actions.tobytes()


def test_a_cluster_gives_the_same_episodes_and_survives_a_killed_node(cluster):
    doomed = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    due = groups(jobs_of("unhurried", 24), 2)
    running = run_groups(due, make_env=make_env, make_actor=make_actor, workers=2, ray=cluster.address)
    found = [next(running) for _ in range(4)]
    cluster.remove_node(doomed, allow_graceful=False)
    cluster.add_node(num_cpus=1)
    found += list(running)
    expected = rollout(jobs_of("unhurried", 24), make_env=make_env, make_actor=make_actor, workers=0)
    assert sorted(map(known, found), key=str) == sorted(map(known, expected), key=str)
    with pytest.raises(ConfigError, match="no such policy"):
        list(run_groups(groups(jobs_of("misconfigured", 2), 1), make_env=make_env, make_actor=make_actor, workers=1,
                        ray=cluster.address))  # fmt: skip


def test_an_evaluation_on_a_cluster_writes_the_same_records(cluster, tmp_path):
    info = RunInfo(title="cluster", tasks=("toy/reach-red",), seeds=tuple(range(6)), arms={"random": Arm(role="other")},
                   success_semantics="any", settings={}, fingerprint={})  # fmt: skip
    jobs = jobs_of("random", 6)
    found = {}
    for name, ray_address in (("here", None), ("there", cluster.address)):
        evaluate(tmp_path / name, info, jobs, make_env=make_env, make_actor=make_actor, workers=1, together=2,
                 ray=ray_address, progress=False)  # fmt: skip
        lines = (tmp_path / name / "episodes.jsonl").read_text().splitlines()
        found[name] = sorted(json.dumps(json.loads(line) | {"latencies": []}) for line in lines)
    assert found["here"] == found["there"] and len(found["here"]) == 6


def test_no_cluster_there():
    with pytest.raises(ConfigError, match="ray start"):
        list(run_groups([], make_env=make_env, make_actor=make_actor, workers=1, ray="127.0.0.1:1"))
