"""The one episode loop, and the one way to run many episodes: collecting, judging and learning all use these.

It knows no simulator, no policy and no file format.
"""

import itertools
import math
import traceback
import zlib
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from volar.core.errors import ConfigError, EpisodeError, RobotFault
from volar.core.evidence import Failure, Track, explain
from volar.core.robot import (
    Actor,
    BatchActor,
    Chunk,
    Env,
    Episode,
    Job,
    Observation,
    Outcome,
    PrivilegedActor,
    Trajectory,
)
from volar.envs.cluster import RayPool
from volar.envs.evidence import Tracker, motion_of
from volar.envs.progress import Progress
from volar.envs.workers import Group, Run, WorkerPool

ENVIRONMENTS_KEPT = 3  # per process: with its renderer one holds about 100 MB


@dataclass
class _Recording:
    """What has happened so far in one episode."""

    env: Env
    frames: str
    proprioception: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    executed: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    images: list[dict[str, np.ndarray]] = field(default_factory=list)
    image_steps: list[int] = field(default_factory=list)
    instructions: list[str] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    tracker: Tracker = field(default_factory=Tracker)
    first_observation: str = ""

    def look(self, *, images: bool) -> Observation:
        observation = self.env.observe(images=images)
        if images and self.frames != "none":
            self.images.append(dict(observation.images))
            self.image_steps.append(len(self.actions))
        return observation

    def trajectory(self) -> Trajectory:
        names = self.images[0] if self.images else ()
        return Trajectory(
            images={name: np.stack([image[name] for image in self.images]) for name in names},
            proprioception=np.asarray(self.proprioception, dtype=np.float32),
            actions=np.asarray(self.actions, dtype=np.float32),
            executed=np.asarray(self.executed, dtype=np.float32),
            rewards=np.asarray(self.rewards, dtype=np.float32),
            image_steps=tuple(self.image_steps),
            instructions=tuple(self.instructions) if len(set(self.instructions)) > 1 else (),
        )


def run_episode(env: Env, actor: Actor, job: Job) -> Episode:
    """Reset, then look, decide and act until the first success, the end of `job.max_steps` or the env's own end.

    The intended action is recorded; Gaussian noise drawn from (job.seed, job.task) is added to what is executed, and
    the sum is clipped to the action's bounds. `actor.reset` gets job.seed. Nothing is rendered unless the actor uses
    images or the job asks for frames. Any exception of env or actor ends the episode as `Outcome.ERROR`, except
    RobotFault and ConfigError, which are raised.
    """
    return _drive(actor, _episode(env, actor, job, begin=True))


def run_together(envs: Sequence[Env], actor: BatchActor, jobs: Sequence[Job]) -> tuple[Episode, ...]:
    """Job i in envs[i], all in step, so that the actor decides for every episode that is due at once.

    As `run_episode`, except that `actor.reset` gets the first job's seed only: what an episode brings depends on whom
    it runs with, and the same jobs together give the same episodes. An actor that raises ends all that are running.
    """
    finished: dict[int, Episode] = {}
    running: dict[int, Course] = {}
    due: dict[int, Observation] = {}

    def go_on(row: int, answer: Chunk | Exception | None) -> None:
        try:
            course = running[row]
            due[row] = course.throw(answer) if isinstance(answer, Exception) else course.send(answer)
        except StopIteration as end:
            finished[row] = end.value
            due.pop(row, None)
            del running[row]

    actor.reset(jobs[0].seed)
    for row, (env, job) in enumerate(zip(envs, jobs, strict=True)):
        running[row] = _episode(env, actor, job, begin=False)
        go_on(row, None)
    while due:
        rows = list(due)
        try:
            answers: list[Chunk] | list[Exception] = actor.act_many(rows, list(due.values()))
        except Exception as raised:  # goes to the episodes, which decide as they do about their own
            answers = [raised] * len(rows)
        for row, answer in zip(rows, answers, strict=True):
            go_on(row, answer)
    return tuple(finished[row] for row in range(len(jobs)))


Course = Generator[Observation, Chunk | None, Episode]


def _drive(actor: Actor, course: Course) -> Episode:
    """A course whose actor decides for it alone."""
    try:
        observation = course.send(None)
        while True:
            try:
                chunk = actor.act(observation)
            except Exception as raised:  # the course decides what it costs
                observation = course.throw(raised)
            else:
                observation = course.send(chunk)
    except StopIteration as end:
        return end.value


def _episode(env: Env, actor: Actor, job: Job, *, begin: bool) -> Course:
    """One episode that yields each observation to decide on and is sent the chunk; returns the Episode."""
    recording = _Recording(env, job.frames)
    outcome, instruction, error = Outcome.ERROR, job.instruction or "", None
    try:
        env.reset(job.seed)
        recording.first_observation = env.digest()
        instruction = job.instruction or env.observe(images=False).instruction
        if begin:
            actor.reset(job.seed)
            if isinstance(actor, PrivilegedActor):
                actor.bind(env)
        outcome = yield from _act(env, job, recording, looks=actor.uses_images)
        recording.tracker.note(env.measure())
        if job.frames == "looks":
            recording.look(images=True)
    except (RobotFault, ConfigError):
        raise
    except Exception as raised:  # whatever a stranger's policy or simulator throws costs its own episode only
        outcome, error = Outcome.ERROR, _explain(raised)
    chunks = recording.chunks
    tracks = recording.tracker.tracks()
    return Episode(
        job=job,
        instruction=instruction,
        outcome=outcome,
        steps=len(recording.rewards),
        first_observation=recording.first_observation,
        executed_per_chunk=chunks[0].execute if chunks else 0,
        latencies=tuple(chunk.latency for chunk in chunks),
        evaluations=tuple(chunk.evaluations for chunk in chunks),
        strangeness=tuple(chunk.strangeness for chunk in chunks if chunk.strangeness is not None),
        simulator_steps=sum(chunk.simulator_steps for chunk in chunks),
        thoughts=tuple(chunk.thought for chunk in chunks if chunk.thought is not None),
        privileged=tuple(dict.fromkeys((*env.privileged, *actor.privileged))),
        total_reward=float(np.sum(recording.rewards)),
        error=error,
        tracks=tracks,
        failure=_failure(env, outcome, tracks, recording),
        trajectory=None if outcome is Outcome.ERROR else recording.trajectory(),
    )


def _act(env: Env, job: Job, recording: _Recording, *, looks: bool) -> Generator[Observation, Chunk | None, Outcome]:
    bounds = env.spec.action
    noise = np.random.default_rng([job.seed, zlib.crc32(job.task.encode())])
    planned: list[np.ndarray] = []
    for _ in range(job.max_steps):
        deciding = not planned
        seen = recording.look(images=job.frames == "all" or (deciding and looks))
        said = job.instruction or seen.instruction
        if deciding:
            chunk = yield replace(seen, instruction=said)
            assert chunk is not None
            if not 1 <= chunk.execute <= len(chunk.actions):
                raise EpisodeError(f"A chunk of {len(chunk.actions)} actions cannot have {chunk.execute} executed.")
            recording.chunks.append(chunk)
            planned = list(chunk.actions[: chunk.execute])
        action = planned.pop(0)
        disturbed = action + noise.normal(0.0, job.noise, action.shape) if job.noise else action
        executed = bounds.clip(disturbed)
        recording.tracker.note(env.measure())
        recording.proprioception.append(seen.proprioception)
        recording.instructions.append(said)
        recording.actions.append(action)
        recording.executed.append(executed)
        step = env.step(executed)
        recording.rewards.append(step.reward)
        if step.success:
            return Outcome.SUCCESS
        if step.terminated:
            return Outcome.TERMINATED
    return Outcome.TIME_OUT


def _failure(env: Env, outcome: Outcome, tracks: dict[str, Track], recording: _Recording) -> Failure | None:
    if outcome not in (Outcome.TIME_OUT, Outcome.TERMINATED):
        return None
    motion = motion_of(recording.proprioception, recording.executed)
    ended = outcome is Outcome.TERMINATED
    return explain(env.signs(), tracks, motion, steps=len(recording.rewards), terminated=ended)


def _explain(error: Exception) -> str:
    """Type, message and the place where it was raised: enough for a record, short enough for a table."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


class Runner(Run):
    """Runs groups of jobs in this process and keeps what is slow to build: all actors, and the latest environments."""

    def __init__(self, make_env: Callable[[str], Env], make_actor: Callable[[str], Actor]) -> None:
        self._make_env, self._make_actor = make_env, make_actor
        self._envs: OrderedDict[str, list[Env]] = OrderedDict()
        self._actors: dict[str, Actor] = {}

    def __call__(self, group: Group) -> tuple[Episode, ...]:
        first, actor = group[0], self._actor(group[0].arm)
        together = len(group) > 1 and isinstance(actor, BatchActor)
        envs = self._environments(first.task, len(group) if together else 1)
        try:
            if together and isinstance(actor, BatchActor):
                episodes = run_together(envs, actor, group)
            else:
                episodes = tuple(run_episode(envs[0], actor, job) for job in group)
        except RobotFault as fault:
            seeds = f"seed{'s' * (len(group) > 1)} {', '.join(str(job.seed) for job in group)}"
            raise RobotFault(f"{first.task}, {seeds}, arm {first.arm!r}: {fault}") from fault
        if any(episode.outcome is Outcome.ERROR for episode in episodes):
            self._drop(first.task)  # it may be the environment that broke
        return episodes

    def _environments(self, task: str, count: int) -> list[Env]:
        if task not in self._envs:
            while len(self._envs) >= ENVIRONMENTS_KEPT:
                self._drop(next(iter(self._envs)))
            self._envs[task] = []
        self._envs.move_to_end(task)
        kept = self._envs[task]
        while len(kept) < count:
            with _preparing(f"environment {task!r}"):
                kept.append(self._make_env(task))
        return kept[:count]

    def _actor(self, arm: str) -> Actor:
        if arm not in self._actors:
            with _preparing(f"actor of the arm {arm!r}"):
                self._actors[arm] = self._make_actor(arm)
        return self._actors[arm]

    def _drop(self, task: str) -> None:
        for env in self._envs.pop(task):
            env.close()

    def close(self) -> None:
        for task in list(self._envs):
            self._drop(task)


@contextmanager
def _preparing(what: str) -> Iterator[None]:
    """What cannot be built now cannot be built for any other job either, so it ends the run."""
    try:
        yield
    except (ConfigError, RobotFault):
        raise
    except Exception as error:
        raise ConfigError(f"The {what} could not be built: {_explain(error)}") from error


def rollout(
    jobs: Sequence[Job], *, make_env: Callable[[str], Env], make_actor: Callable[[str], Actor],
    workers: int, together: int = 1, progress: bool = False, ordered: bool = False,
) -> Generator[Episode, None, None]:  # fmt: skip
    """Run every job and yield its Episode as soon as it is finished; with `ordered`, in the order of the jobs.

    workers: processes that run episodes; 0 runs them here. What comes out does not depend on it, bit for bit, apart
    from latencies and order (actors see one thread of arithmetic in a worker). make_env takes a task, make_actor an
    arm; with workers both must be importable (module-level functions or functools.partial of such), and the calling
    script needs `if __name__ == "__main__":`. Jobs start in the order given: put those of one task together.
    together: jobs that a process runs in step where the actor is a BatchActor, see `groups` and `run_together`.

    A raising policy or environment, or a worker that dies, makes that episode `Outcome.ERROR`. RobotFault,
    ConfigError, and an environment or actor that cannot be built stop everything, as does closing the iterator.
    """
    if workers < 0:
        raise ConfigError(f"workers must be 0 (this process) or more, got {workers}.")
    for job in jobs:
        if job.max_steps < 1 or job.seed < 0 or not 0 <= job.noise < math.inf:
            raise ConfigError(f"A job needs max_steps of at least 1, a seed and a noise of at least 0; got {job}.")
    return run_groups(
        groups(jobs, together), make_env=make_env, make_actor=make_actor,
        workers=workers, progress=progress, ordered=ordered,
    )  # fmt: skip


def groups(jobs: Sequence[Job], together: int) -> list[Group]:
    """Neighbours of the same arm and task, at most `together` of them."""
    if together < 1:
        raise ConfigError(f"together must be at least 1 episode, got {together}.")
    alike = (tuple(some) for _, some in itertools.groupby(jobs, key=lambda job: (job.arm, job.task)))
    return [some[start : start + together] for some in alike for start in range(0, len(some), together)]


def run_groups(
    groups: Sequence[Group], *, make_env: Callable[[str], Env], make_actor: Callable[[str], Actor],
    workers: int, ray: str | None = None, progress: bool = False, ordered: bool = False,
) -> Generator[Episode, None, None]:  # fmt: skip
    """`rollout` for jobs that have been put into groups. ray: address of a cluster whose processes are the workers."""
    runner = Runner(make_env, make_actor)
    with Progress(sum(map(len, groups)), shown=progress) as shown:
        if ray is not None:
            finished = RayPool(runner, max(1, min(workers, len(groups))), address=ray).run(groups, ordered=ordered)
        elif workers == 0:
            finished = _here(groups, runner)
        else:
            finished = WorkerPool(runner, min(workers, len(groups))).run(groups, ordered=ordered)
        try:
            for episode in itertools.chain.from_iterable(finished):
                shown.advance(success=bool(episode.success), error=episode.success is None)
                yield episode
        finally:
            finished.close()


def _here(groups: Sequence[Group], runner: Runner) -> Generator[tuple[Episode, ...], None, None]:
    try:
        for group in groups:
            yield runner(group)
    finally:
        runner.close()
