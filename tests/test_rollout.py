"""The episode loop and the worker processes: what is recorded, and that nothing short of a fault stops a run."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from volar.core.errors import ConfigError, RobotFault
from volar.core.robot import Actor, BatchActor, Chunk, Env, Job, Outcome
from volar.envs import make_env, make_expert
from volar.envs.controls import BlankImages, RandomActor
from volar.envs.progress import Progress
from volar.envs.rollout import groups, rollout, run_episode, run_together

TASK = "toy/reach-red"
SPEC = make_env(TASK).spec


class CountingEnv(Env):
    """The toy world, counting how often it is looked at."""

    def __init__(self, task=TASK):
        self.inner, self.looks, self.closed = make_env(task), 0, 0

    @property
    def spec(self):
        return self.inner.spec

    def reset(self, seed):
        self.inner.reset(seed)

    def observe(self, *, images=True):
        self.looks += images
        return self.inner.observe(images=images)

    def step(self, action):
        return self.inner.step(action)

    def digest(self):
        return self.inner.digest()

    def close(self):
        self.closed += 1


class Looker(Actor):
    """Moves a little to the right, by chunks of four of which `execute` are carried out; remembers what it saw."""

    def __init__(self, execute=3):
        self.execute, self.seen = execute, []

    def reset(self, seed):
        self.seen = []

    def act(self, observation):
        self.seen.append(observation)
        actions = np.tile(np.array([0.3, 0.0], dtype=np.float32), (4, 1))
        return Chunk(actions=actions, execute=self.execute, evaluations=7, latency=0.5)


class Troubled(RandomActor):
    """Random, but brings the trouble that its name and the job's seed ask for."""

    def __init__(self, trouble):
        super().__init__(SPEC)
        self.trouble = trouble

    def reset(self, seed):
        super().reset(seed)
        self.due = seed % 3 == 1

    def act(self, observation):
        chunk = super().act(observation)
        if not self.due:
            return chunk
        if self.trouble == "raise":
            raise LookupError("no idea what to do")
        if self.trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "nan":
            return replace(chunk, actions=np.full((1, 2), np.nan, dtype=np.float32))
        return replace(chunk, execute=2)


class Crowd(BatchActor):
    """Decides for all at once: random steps that depend on the row and on how many are due, as shared noise does."""

    uses_images = False

    def reset(self, seed):
        self.random = np.random.default_rng(seed)
        self.sizes = []

    def act_many(self, rows, observations):
        self.sizes.append(len(rows))
        steps = self.random.uniform(-1, 1, (len(rows), 2, 2)).astype(np.float32)
        return [Chunk(actions=step, execute=2) for step in steps]


def make_actor(arm):
    if arm == "crowd":
        return Crowd()
    if arm == "expert":
        return make_expert(TASK)
    if arm == "looker":
        return Looker()
    if arm == "random":
        return RandomActor(SPEC, execute=4)
    return Troubled(arm)


def broken(name):
    raise OSError(f"no weights for {name}")


def misconfigured(name):
    raise ConfigError(f"no such thing as {name}")


class DiesOnArrival:
    """Kills whoever unpickles it, as a native library that crashes on import would."""

    def __reduce__(self):
        return os._exit, (7,)

    def __call__(self, name):
        raise AssertionError


class FailsOnArrival(DiesOnArrival):
    def __reduce__(self):
        return broken, ("unpickling",)


def jobs_of(arm, seeds, **more):
    return [Job(task=TASK, seed=seed, arm=arm, max_steps=20, **more) for seed in seeds]


def run(jobs, *, workers=0, env=make_env, actor=make_actor, **more):
    return list(rollout(jobs, make_env=env, make_actor=actor, workers=workers, **more))


def comparable(episode):
    course = episode.trajectory
    parts = [course.proprioception, course.actions, course.executed, course.rewards, *course.images.values()]
    return replace(episode, trajectory=None), course.image_steps, [part.tobytes() for part in parts]


# One episode ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "looks", "image_steps"), [
    ("none", 4, ()), ("looks", 5, (0, 3, 6, 9, 10)), ("all", 10, tuple(range(10))),
])  # fmt: skip
def test_pictures_are_rendered_only_when_somebody_wants_them(frames, looks, image_steps):
    env, actor = CountingEnv(), Looker()
    job = Job(task=TASK, seed=0, arm="looker", max_steps=10, frames=frames)
    episode = run_episode(env, actor, job)
    assert (episode.outcome, episode.steps) == (Outcome.TIME_OUT, 10)
    assert env.looks == looks and len(actor.seen) == 4
    assert episode.trajectory.image_steps == image_steps
    shapes = {name: image.shape for name, image in episode.trajectory.images.items()}
    assert shapes == ({} if frames == "none" else {"top": (len(image_steps), 32, 32, 3)})
    assert episode.executed_per_chunk == 3
    assert (episode.latencies, episode.evaluations) == ((0.5,) * 4, (7,) * 4)


def test_recorded_pictures_belong_to_their_steps():
    env = make_env(TASK)
    course = run_episode(env, Looker(), Job(task=TASK, seed=5, arm="looker", max_steps=6, frames="all")).trajectory
    env.reset(5)
    for image, proprioception, executed in zip(
        course.images["top"], course.proprioception, course.executed, strict=True
    ):
        seen = env.observe()
        assert np.array_equal(image, seen.images["top"]) and np.array_equal(proprioception, seen.proprioception)
        env.step(executed)


def test_an_expert_is_not_shown_pictures_unless_frames_are_wanted():
    for frames in ("none", "all"):
        env = CountingEnv()
        expert = make_expert(TASK)
        expert.bind = lambda _, expert=expert, env=env: type(expert).bind(expert, env.inner)
        episode = run_episode(env, expert, Job(task=TASK, seed=0, arm="expert", max_steps=20, frames=frames))
        assert episode.success and env.looks == (episode.steps if frames == "all" else 0)
        assert episode.privileged == expert.privileged


def test_an_episode_ends_with_its_first_success_and_with_the_worlds_end():
    env, expert = make_env(TASK), make_expert(TASK)
    episode = run_episode(env, expert, Job(task=TASK, seed=0, arm="expert", max_steps=50))
    assert episode.outcome is Outcome.SUCCESS and episode.success is True
    env.reset(0)
    flags = [env.step(action).success for action in episode.trajectory.executed]
    assert flags == [False] * (episode.steps - 1) + [True]
    other = make_env("toy/reach-blue")
    other.reset(0)
    wrong = run_episode(other, Replay(episode.trajectory.actions), Job(task=TASK, seed=0, arm="wrong", max_steps=50))
    assert wrong.outcome is Outcome.TERMINATED and wrong.success is False
    short = run_episode(env, expert, Job(task=TASK, seed=0, arm="expert", max_steps=episode.steps - 1))
    assert short.outcome is Outcome.TIME_OUT and short.steps == episode.steps - 1


class Replay(Looker):
    def __init__(self, actions):
        self.actions = actions

    def act(self, observation):
        return Chunk(actions=self.actions, execute=len(self.actions))


def test_noise_disturbs_what_is_executed_and_never_what_is_recorded_as_intended():
    env, actor = make_env(TASK), Looker()
    job = Job(task=TASK, seed=0, arm="looker", max_steps=12, noise=0.5)
    clean = run_episode(env, actor, replace(job, noise=0.0)).trajectory
    assert np.array_equal(clean.actions, clean.executed)
    first, again = (run_episode(env, actor, job).trajectory for _ in range(2))
    assert np.array_equal(first.actions, clean.actions) and np.array_equal(first.executed, again.executed)
    difference = first.executed - first.actions
    assert 0.2 < difference.std() < 0.8 and np.abs(first.executed).max() <= 1.0
    other_seed = run_episode(env, actor, replace(job, seed=1)).trajectory
    other_task = run_episode(env, actor, replace(job, task="toy/reach-blue")).trajectory
    assert not np.array_equal(first.executed, other_seed.executed)
    assert not np.array_equal(first.executed, other_task.executed)


def test_arms_that_met_the_same_scene_are_proved_paired():
    env = make_env(TASK)
    job = Job(task=TASK, seed=2, arm="looker", max_steps=3)
    digests = {
        run_episode(env, actor, variant).first_observation
        for actor in (Looker(), BlankImages(Looker()), make_expert(TASK), RandomActor(SPEC))
        for variant in (job, replace(job, frames="all"), replace(job, instruction="something else", noise=0.3))
    }
    assert len(digests) == 1
    assert run_episode(env, Looker(), replace(job, seed=3)).first_observation not in digests


def test_the_jobs_instruction_replaces_the_tasks_own():
    env, actor = make_env(TASK), Looker()
    job = Job(task=TASK, seed=0, arm="looker", max_steps=3)
    assert run_episode(env, actor, job).instruction == actor.seen[0].instruction == "reach the red disc"
    told = run_episode(env, actor, replace(job, instruction="reach the blue disc"))
    assert told.instruction == actor.seen[0].instruction == "reach the blue disc"


# Many episodes -------------------------------------------------------------------------------------------------------


def test_results_do_not_depend_on_the_number_of_workers():
    jobs = [
        replace(job, task=task)
        for task in ("toy/reach-green", TASK)
        for arm in ("random", "looker", "expert")
        for job in jobs_of(arm, range(3), noise=0.2, frames="looks")
    ]
    alone = [comparable(episode) for episode in run(jobs)]
    together = [comparable(episode) for episode in run(jobs, workers=2, ordered=True)]
    assert [episode.job for episode, *_ in alone] == jobs
    assert alone == together
    unordered = [comparable(episode) for episode in run(jobs, workers=2)]
    assert sorted(map(repr, unordered)) == sorted(map(repr, alone))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("arm", "message"), [
    ("raise", "LookupError: no idea what to do (test_rollout.py:"), ("execute", "cannot have 2 executed"),
])  # fmt: skip
def test_a_raising_policy_costs_its_episode_only(workers, arm, message):
    episodes = run(jobs_of(arm, range(6)), workers=workers, ordered=True)
    assert [episode.outcome is Outcome.ERROR for episode in episodes] == [False, True, False] * 2
    assert episodes[1].success is None and episodes[1].trajectory is None and message in episodes[1].error
    assert episodes[2].error is None and episodes[1].first_observation


def test_a_killed_worker_costs_its_episode_only():
    episodes = run(jobs_of("kill", range(8)), workers=2, ordered=True)
    assert [episode.job.seed for episode in episodes] == list(range(8))
    assert [episode.outcome is Outcome.ERROR for episode in episodes] == [seed % 3 == 1 for seed in range(8)]
    assert "SIGKILL" in episodes[1].error


def test_workers_that_die_again_and_again_stop_the_run():
    with pytest.raises(RobotFault, match="in a row died without finishing an episode; the last was killed by SIGKILL"):
        run(jobs_of("kill", [1] * 9), workers=1)
    with pytest.raises(ConfigError, match="died while starting; the last ended with exit code 7"):
        run(jobs_of("random", range(9)), workers=2, env=DiesOnArrival())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_stops_everything_and_says_where(workers):
    with pytest.raises(RobotFault, match=r"toy/reach-red, seed 4, arm 'nan': Non-finite action in x, y"):
        run(jobs_of("nan", (0, 4, 5)), workers=workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_built_stops_the_run_before_any_episode(workers):
    with pytest.raises(ConfigError, match=r"The environment 'toy/reach-red' could not be built: OSError: no weights"):
        run(jobs_of("random", range(3)), workers=workers, env=broken)
    with pytest.raises(ConfigError, match=r"The actor of the arm 'random' could not be built: OSError"):
        run(jobs_of("random", range(3)), workers=workers, actor=broken)
    with pytest.raises(ConfigError, match="no such thing as random"):
        run(jobs_of("random", range(3)), workers=workers, actor=misconfigured)


def test_a_request_that_cannot_work_is_refused_at_once():
    with pytest.raises(ConfigError, match="workers must be 0"):
        rollout([], make_env=make_env, make_actor=make_actor, workers=-1)
    for wrong in ({"max_steps": 0}, {"seed": -1}, {"noise": -0.1}, {"noise": np.nan}):
        jobs = [replace(job, **wrong) for job in jobs_of("random", [0])]
        with pytest.raises(ConfigError, match="A job needs"):
            rollout(jobs, make_env=make_env, make_actor=make_actor, workers=0)
    with pytest.raises(ConfigError, match=r"A worker could not import make_env or make_actor \(OSError: no weights"):
        run(jobs_of("random", [0]), workers=1, env=FailsOnArrival())
    with pytest.raises(ConfigError, match=r"module-level functions or functools\.partial"):
        run(jobs_of("random", [0]), workers=1, actor=lambda arm: make_actor(arm))
    assert run([], workers=2) == []


def test_environments_are_kept_while_used_and_closed_at_the_end():
    made = []

    def make(task):
        made.append(CountingEnv(task))
        return made[-1]

    names = ["toy/reach-red", "toy/reach-green", "toy/reach-blue", "toy/reach-red"]
    jobs = [replace(job, task=name) for name in names for job in jobs_of("random", range(3))]
    assert len(run(jobs, env=make)) == len(jobs) and len(made) == 3
    assert all(env.closed == 1 for env in made)
    made.clear()
    run(jobs_of("raise", (0, 1, 2)), env=make)
    assert [env.closed for env in made] == [1, 1], "an environment is not trusted after an error"


class ThreadTeller(RandomActor):
    def act(self, observation):
        raise RuntimeError(f"threads: {os.environ['OMP_NUM_THREADS']}")


def make_thread_teller(spec, arm):
    return ThreadTeller(spec)


def test_workers_calculate_with_one_thread_and_leave_the_environment_alone(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    (episode,) = run(jobs_of("random", [0]), workers=1, actor=partial(make_thread_teller, SPEC))
    assert "RuntimeError: threads: 1" in episode.error
    assert os.environ["OMP_NUM_THREADS"] == "5"


def small_meta_world(task):
    return make_env(task, cameras={"corner4": 48})


def meta_world_expert(arm):
    return make_expert("metaworld/reach")


def test_the_simulator_and_its_renderer_give_the_same_in_workers():
    jobs = [
        Job(task=task, seed=seed, arm="expert", max_steps=20, noise=0.1, frames="all")
        for task in ("metaworld/reach", "metaworld/faucet-open-shared")
        for seed in (0, 1)
    ]
    alone, together = (
        [comparable(episode) for episode in run(
            jobs, workers=workers, env=small_meta_world, actor=meta_world_expert, ordered=True)]
        for workers in (0, 2)
    )  # fmt: skip
    assert alone == together


# Ends ----------------------------------------------------------------------------------------------------------------

SLOW_RUN = """
import os, sys, time
from volar.core.robot import Job
from volar.envs import make_env
from volar.envs.controls import RandomActor
from volar.envs.rollout import rollout


class Slow(RandomActor):
    def act(self, observation):
        open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
        time.sleep(600)


def make_actor(arm):
    return Slow(make_env("toy/reach-red").spec)


if __name__ == "__main__":
    jobs = [Job(task="toy/reach-red", seed=seed, arm="slow", max_steps=9) for seed in range(4)]
    for episode in rollout(jobs, make_env=make_env, make_actor=make_actor, workers=2):
        print(episode)
"""


def alive(process):
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def blocks(process, number):
    (mask,) = re.findall(r"^SigBlk:\s*(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


def wait_until(condition):
    for _ in range(3600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited three minutes in vain")


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_the_run(tmp_path, end):
    script = tmp_path / "slow_run.py"
    script.write_text(SLOW_RUN)
    folder = tmp_path / "workers"
    folder.mkdir()
    main = subprocess.Popen(
        [sys.executable, str(script), str(folder)], stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # background shells ignore it
    )  # fmt: skip
    wait_until(lambda: len(list(folder.iterdir())) == 2)
    workers = [int(file.name) for file in folder.iterdir()]
    assert all(blocks(worker, signal.SIGINT) for worker in workers)  # else what they say of it is a matter of luck
    if end is signal.SIGINT:
        os.killpg(main.pid, end)  # Ctrl-C in a terminal reaches the whole group
    else:
        main.send_signal(end)
    _, complaints = main.communicate(timeout=180)
    wait_until(lambda: not any(alive(worker) for worker in workers))
    assert complaints.count("Traceback") == (1 if end is signal.SIGINT else 0), complaints
    assert complaints.count("KeyboardInterrupt") == (1 if end is signal.SIGINT else 0), complaints


def test_leaving_the_iterator_ends_the_workers():
    before = set(active_children())
    episodes = rollout(jobs_of("random", range(50)), make_env=make_env, make_actor=make_actor, workers=2)
    next(episodes)
    assert len(set(active_children()) - before) == 2
    episodes.close()
    assert not set(active_children()) - before


def test_progress_in_a_log_tells_successes_errors_and_the_end(capsys, monkeypatch):
    now = iter([0.0, *[value for second in (1.0, 40.0, 41.0, 80.0) for value in (second, second)]])
    monkeypatch.setattr("volar.envs.progress.time.monotonic", lambda: next(now))
    with Progress(4, shown=True) as progress:
        for success, error in ((True, False), (True, False), (False, True), (False, False)):
            progress.advance(success=success, error=error)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1] == "episodes 4/4, 2 successes, 1 errors, about 0 s left"
    with Progress(4, shown=False) as progress:
        monkeypatch.setattr("volar.envs.progress.time.monotonic", lambda: 1e6)
        progress.advance(success=True, error=False)
    assert capsys.readouterr().err == ""


# Several episodes in step --------------------------------------------------------------------------------------------


def test_together_the_same_jobs_give_the_same_episodes_whatever_the_workers():
    jobs = jobs_of("crowd", range(7)) + jobs_of("expert", range(3))
    first, again = (run(jobs, workers=workers, together=3, ordered=True) for workers in (0, 2))
    assert [comparable(episode) for episode in first] == [comparable(episode) for episode in again]
    assert [episode.job for episode in first] == jobs


def test_one_decision_serves_all_that_are_due():
    actor = Crowd()
    jobs = jobs_of("crowd", range(4))
    episodes = run_together([make_env(TASK) for _ in jobs], actor, jobs)
    decisions = [len(episode.latencies) for episode in episodes]
    assert len(actor.sizes) == max(decisions) and sum(actor.sizes) == sum(decisions)
    assert actor.sizes[0] == 4 and actor.sizes == sorted(actor.sizes, reverse=True)
    alone = run_together([make_env(TASK)], Crowd(), jobs[:1])
    assert comparable(alone[0]) == comparable(run_episode(make_env(TASK), Crowd(), jobs[0]))


def test_an_actor_that_raises_ends_all_that_run_with_it():
    class Fails(Crowd):
        def act_many(self, rows, observations):
            if len(self.sizes) == 2:
                raise LookupError("lost")
            return super().act_many(rows, observations)

    episodes = run_together([make_env(TASK) for _ in range(3)], Fails(), jobs_of("crowd", range(3)))
    assert {episode.outcome for episode in episodes} == {Outcome.ERROR}
    assert all("lost" in episode.error for episode in episodes)


def test_groups_are_neighbours_of_one_arm_and_task():
    jobs = jobs_of("a", range(5)) + jobs_of("b", range(2))
    assert [[job.seed for job in group] for group in groups(jobs, 3)] == [[0, 1, 2], [3, 4], [0, 1]]
    with pytest.raises(ConfigError, match="together must be at least 1"):
        groups(jobs, 0)
