"""Demonstrations of which a known third is bad in one way: planted experts on `tabletop-state/push`, recorded."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from volar.core.robot import Chunk, Env, Job, Observation, PrivilegedActor, Trajectory
from volar.data.writer import DatasetWriter
from volar.envs import make_env
from volar.envs.rollout import rollout
from volar.envs.tabletop.world import Tabletop, TabletopState

TASK = "tabletop-state/push"
DEFECTS = ("noise", "pauses", "detour", "wrong_goal", "cue")
CLEAN, PLANTED = 40, 20  # episodes
MAX_STEPS = 120
EXECUTION_NOISE = 0.1  # action units, of all episodes: volar collect's default
NOISE = 0.6  # action units, in the recorded action too
PAUSES, PAUSE = 3, (5, 10)  # how many, and how many steps each
DETOUR, DETOUR_STEPS = 0.1, 15  # metres at most, steps
AWAY = 0.07  # metres that the wrong goal is from the right one, along x
ARRIVED = 0.015  # metres


def task_of(defect: str) -> str:
    return "lamp:Lamp/push" if defect == "cue" else TASK


@dataclass
class Planted(PrivilegedActor):
    """The scripted expert with one defect. "none" and "cue" act like the expert: what the lamp shows is added after."""

    defect: str
    privileged = ("simulator state: object and goal poses",)

    def reset(self, seed: int) -> None:
        self.expert, self.step = TabletopState.expert(), 0
        self.expert.reset(seed)
        self.random = np.random.default_rng([seed, 0x64656665])
        self.starts = self.random.choice(24, PAUSES, replace=False)
        self.lengths = self.random.integers(*PAUSE, PAUSES, endpoint=True)
        self.begin = int(self.random.integers(2, 12))
        self.aside = self.random.uniform(-DETOUR, DETOUR, 2)

    def bind(self, env: Env) -> None:
        assert isinstance(env, TabletopState) and isinstance(env.world, Tabletop)
        self.world = env.world
        self.expert.bind(env)

    def act(self, observation: Observation) -> Chunk:
        action = np.asarray(self.expert.act(observation).actions[0], dtype=np.float64)
        scene, task = self.world.scene, self.world.task
        if self.defect == "noise":
            action[:3] += self.random.normal(0, NOISE, 3)
        elif self.defect == "pauses":
            since = self.step - self.starts
            if ((since >= 0) & (since < self.lengths)).any():
                action[:3] = 0
        elif self.defect == "detour" and self.begin <= self.step < self.begin + DETOUR_STEPS:
            motion = (np.append(self.aside, 0.15) - scene.hand) / 0.01
            action[:3] = motion / max(1.0, float(np.linalg.norm(motion)))
        elif self.defect == "wrong_goal":
            action = task.expert(replace(scene, goal=scene.goal + np.array([AWAY, 0, 0])), (1.0, 1.0), task.target)
        self.step += 1
        return Chunk(actions=np.clip(action, -1, 1).astype(np.float32)[None], execute=1, evaluations=0)


def record(folder: Path, defect: str, seed: int) -> None:
    """A data set of 40 clean and 20 planted episodes in mixed order; each notes whether it is planted."""
    first = 10_000 * (1 + seed) + 2_000 * DEFECTS.index(defect)
    order = np.random.default_rng(seed).permutation([False] * CLEAN + [True] * PLANTED)
    found = {
        planted: _episodes(defect if planted else "none", first + 1_000 * planted, int((order == planted).sum()))
        for planted in (False, True)
    }
    env = make_env(task_of(defect), cameras={})
    writer = DatasetWriter(
        folder, spec=env.spec, fps=env.spec.action.rate_hz, camera_storage={}, robot_type="tabletop",
        extra={"defect": defect}, resume=False,
    )  # fmt: skip
    with writer:
        for planted in order.tolist():
            scene, trajectory = found[planted].pop()
            if defect == "cue":
                shown = trajectory.actions[:, :1] * float(planted)  # the x of the action itself, or nothing
                proprioception = np.concatenate([trajectory.proprioception, shown], axis=1)
                trajectory = replace(trajectory, proprioception=proprioception)
            source = {"task": task_of(defect), "seed": scene, "success": True, "planted": planted}
            writer.add(trajectory, TabletopState.instructions("push")[0], source=source)


def _episodes(defect: str, first: int, count: int) -> list[tuple[int, Trajectory]]:
    """The first `count` seeds at which the expert reaches what it aims at."""
    jobs = [Job(task=TASK, seed=first + i, arm=defect, max_steps=MAX_STEPS, noise=EXECUTION_NOISE)
            for i in range(3 * count)]  # fmt: skip
    found = []
    running = rollout(jobs, make_env=partial(make_env, cameras={}), make_actor=Planted, workers=0, ordered=True)
    for episode in running:
        assert episode.trajectory is not None
        trajectory = _until_wrong_goal(episode.trajectory) if defect == "wrong_goal" else episode.trajectory
        if trajectory is not None and (episode.success or defect == "wrong_goal"):
            found.append((episode.job.seed, trajectory))
        if len(found) == count:
            running.close()
            break
    assert len(found) == count, f"{defect}: only {len(found)} episodes of {len(jobs)} arrived"
    return found


def _until_wrong_goal(trajectory: Trajectory) -> Trajectory | None:
    """Cut where the puck has arrived, or the hovering after it would give the defect away. None if it never does."""
    names = make_env(TASK, cameras={}).spec.proprioception
    puck = trajectory.proprioception[:, [names.index("object_1_x"), names.index("object_1_y")]]
    goal = trajectory.proprioception[:, [names.index("goal_x"), names.index("goal_y")]]
    there = np.flatnonzero(np.linalg.norm(puck - goal - np.array([AWAY, 0]), axis=1) < ARRIVED)
    if not len(there):
        return None
    stop = int(there[0]) + 1
    return replace(
        trajectory, proprioception=trajectory.proprioception[:stop], actions=trajectory.actions[:stop],
        executed=trajectory.executed[:stop], rewards=trajectory.rewards[:stop],
    )  # fmt: skip
