"""A made-up but realistic evaluation: five tasks, five arms, twenty scenes, films, curves; all from one seed."""

import json
from pathlib import Path

import numpy as np

from volar.core.robot import Episode, Job, Outcome
from volar.evaluation.films import film_strip
from volar.evaluation.records import RecordFile
from volar.evaluation.run import Arm, RunInfo, begin

TASKS = {
    "metaworld/faucet-open": "open the faucet",
    "metaworld/faucet-close": "close the faucet",
    "metaworld/drawer-open": "open the drawer",
    "metaworld/button-press-topdown": "press the button from above",
    "metaworld/push": "push the puck to the goal",
}
CHANCES = {  # how often each arm succeeds, in the order of TASKS
    "policy": (0.95, 0.95, 1.0, 0.9, 0.6),
    "shuffled_instruction": (0.0, 0.05, 0.2, 0.0, 0.0),
    "blank_images": (0.1, 0.15, 0.0, 0.05, 0.0),
    "random_actions": (0.0, 0.0, 0.0, 0.0, 0.0),
    "expert": (1.0, 1.0, 1.0, 1.0, 0.95),
}
RUN = RunInfo(
    title="One instruction-following policy on five Meta-World tasks",
    tasks=tuple(TASKS),
    seeds=tuple(range(100, 120)),
    arms={
        "policy": Arm(role="policy", description="Compact backbone, flow decoder, trained on 125 demonstrations."),
        "shuffled_instruction": Arm(role="shuffled_instruction"),
        "blank_images": Arm(role="blank_images"),
        "random_actions": Arm(role="random_actions"),
        "expert": Arm(role="expert"),
    },
    success_semantics="the simulator's success flag is up at any step before the time-out.",
    settings={"max_steps": 200, "cameras": {"corner2": 112}},
    fingerprint={
        "versions": {"volar": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "mujoco": "3.3.0", "metaworld": "3.1.1"},
        "commit": "a524bb3f0d1c2e4b5a69788796a5b4c3d2e1f001-dirty",
        "machine": {"system": "Linux-6.1-x86_64", "processor": "x86_64"},
        "checkpoint": "sha256:9f2c71d04be8",
        "control_rate_hz": 80,
    },
)


def make_episode(
    task: str = "metaworld/push", seed: int = 0, arm: str = "policy", outcome: Outcome = Outcome.SUCCESS,
    instruction: str = "push the puck to the goal", digest: str | None = None, **facts: object,
) -> Episode:  # fmt: skip
    told = instruction if arm == "shuffled_instruction" else None
    return Episode(
        job=Job(task=task, seed=seed, arm=arm, max_steps=200, instruction=told),
        instruction=instruction, outcome=outcome, first_observation=digest or f"{task}:{seed}",
        **{"steps": 90, "executed_per_chunk": 4, **facts},
    )  # fmt: skip


def write_run(folder: Path, *, films: bool = True, broken: int = 2) -> Path:
    """Write the whole run folder and return it. broken: how many of the policy's episodes end as errors."""
    rng = np.random.default_rng(7)
    begin(folder, RUN)
    (folder / "films").mkdir(exist_ok=True)
    told = dict(zip(TASKS, [*list(TASKS.values())[1:], TASKS["metaworld/faucet-open"]], strict=True))
    with RecordFile(folder / "episodes.jsonl") as file:
        for arm, chances in CHANCES.items():
            policy = arm not in ("random_actions", "expert")
            for (task, instruction), chance in zip(TASKS.items(), chances, strict=True):
                for seed in RUN.seeds:
                    won = bool(rng.random() < chance)
                    steps = int(rng.integers(60, 140)) if won else 200
                    decisions = steps // 4
                    episode = make_episode(
                        task, seed, arm, Outcome.SUCCESS if won else Outcome.TIME_OUT,
                        told[task] if arm == "shuffled_instruction" else instruction, steps=steps,
                        latencies=tuple(np.round(rng.lognormal(-3.4 if policy else -9, 0.25, decisions), 6).tolist()),
                        evaluations=(10 if policy else 1,) * decisions,
                        privileged=("object and goal positions",) if arm == "expert" else (),
                    )  # fmt: skip
                    if arm == "policy" and task == "metaworld/push" and seed - 100 < broken:
                        episode = make_episode(
                            task, seed, arm, Outcome.ERROR, instruction, steps=17,
                            error="EpisodeError: the worker died (signal 9) while acting",
                        )  # fmt: skip
                    film = None
                    if films and arm in ("policy", "shuffled_instruction") and seed - 100 in range(broken, broken + 5):
                        film = f"films/{arm}-{task.partition('/')[2]}-{seed}.jpg"
                        (folder / film).write_bytes(film_strip(_frames(rng, won)))
                    file.append(episode, film)
    _write_training(folder, rng)
    return folder


def _frames(rng: np.random.Generator, won: bool, side: int = 112) -> np.ndarray:
    """A table, a goal, and a gripper that arrives there or not."""
    y, x = np.mgrid[:side, :side]
    start, goal = rng.uniform(20, 90, 2), rng.uniform(30, 90, 2)
    end = goal if won else goal + rng.choice([-1, 1], 2) * rng.uniform(18, 30, 2)
    frames = np.empty((30, side, side, 3), dtype=np.uint8)
    for i, frame in enumerate(frames):
        frame[:] = np.array([196, 178, 152]) + (y[..., None] / side * 22).astype(int)
        frame[y < 28] = (92, 104, 120)
        frame[np.hypot(x - goal[0], y - goal[1]) < 8] = (178, 52, 40)
        at = start + (end - start) * min(1.0, i / 22)
        frame[(abs(x - at[0]) < 6) & (abs(y - at[1]) < 9)] = (40, 40, 46)
    return frames


def _write_training(folder: Path, rng: np.random.Generator) -> None:
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(10, 3001, 10):
            loss = 0.045 + 0.9 * np.exp(-step / 180) + 0.15 * np.exp(-step / 1100) + rng.normal(0, 0.006)
            facts = {"step": step, "loss": loss, "learning_rate": 3e-4, "samples_per_s": 700.0, "seconds": step / 5.5}
            file.write(json.dumps(facts) + "\n")
            if step % 250 == 0:
                held_out = 0.075 + 0.22 * np.exp(-step / 900)
                file.write(json.dumps({"step": step, "validation_loss": held_out, "validation_error": 0.1}) + "\n")
    compute = {
        "parameters": 38_412_807, "trainable_parameters": 6_204_423, "training_steps": 3000,
        "training_samples": 384_000, "training_seconds": 541.7, "feature_seconds": 173.9,
    }  # fmt: skip
    (folder / "compute.json").write_text(json.dumps(compute))
    phases = {"collect": 118.2, "features": 173.9, "train": 541.7, "evaluate": 402.5}
    (folder / "phases.json").write_text(json.dumps(phases))


if __name__ == "__main__":  # writes the golden summary anew; review the difference before committing it
    from tempfile import TemporaryDirectory

    from volar.evaluation.summary import summarise

    with TemporaryDirectory() as folder:
        summary = summarise(write_run(Path(folder), films=False)).to_json()
    del summary["curves"]
    golden = Path(__file__).parent / "golden" / "results.json"
    golden.parent.mkdir(exist_ok=True)
    golden.write_text(json.dumps(summary, indent=1) + "\n")
