"""A made-up but realistic comparison: three arms of three trained policies, four tasks, sixty scenes, controls, films,
looks and a compute ledger; all from one seed."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from synthetic_run import _frames

from volar.comparison.discord import frame_steps
from volar.comparison.ledger import Ledger, write_ledgers
from volar.comparison.protocol import ArmPlan, Protocol, freeze, read_protocol
from volar.comparison.result import DECIDED
from volar.comparison.session import BESIDE, Look, Session, judge_pairs
from volar.core.robot import Episode, Job, Outcome
from volar.evaluation.films import film_strip
from volar.evaluation.records import RecordFile, read
from volar.evaluation.run import Arm, RunInfo, begin, read_run

TASKS = {
    "metaworld/faucet-open": "open the faucet",
    "metaworld/drawer-open": "open the drawer",
    "metaworld/button-press-topdown": "press the button from above",
    "metaworld/push": "push the puck to the goal",
}
RATES = {  # per arm, in the order of TASKS
    "regression": (0.80, 0.88, 0.98, 0.30),
    "flow": (0.88, 0.95, 0.99, 0.55),
    "equilibrium": (0.82, 0.86, 0.98, 0.33),
}
SHUFFLED = {"regression": 0.05, "flow": 0.08, "equilibrium": 0.95}  # equilibrium does not listen
TRAINING_SEEDS = (0, 1, 2)
FIRST_SEED, SCENES, CONTROL_SCENES, FILMED, MAX_STEPS, EXECUTE = 1000, 60, 40, 6, 160, 16
LOOKS = (20, 30, 40, 50, 60)
SEMANTICS = "the simulator's success flag is up at any step before the time-out"
VERSIONS = {"volar": "0.2.0", "python": "3.11.9", "torch": "2.13.0", "mujoco": "3.3.0", "metaworld": "3.1.1"}


def plan(
    arms: Mapping[str, Sequence[str]], *, tasks: Sequence[str] = tuple(TASKS), scenes: int = SCENES,
    **facts: object,
) -> Protocol:  # fmt: skip
    """A protocol for arm -> members."""
    choices: dict[str, object] = {
        "question": "Do flow or equilibrium decoders beat regression at equal training compute?", "primary": "success",
        "first_seed": FIRST_SEED, "max_episodes": scenes, "max_steps": MAX_STEPS, "alpha": 0.05, "margin": 0.05,
        "design": "anytime", "looks": (*(look for look in LOOKS if look < scenes), scenes),
        "match": "train-flops", "controls": (), "control_scenes": 0,
        "pairing": "paired", "allowed": (), "success_semantics": SEMANTICS, "data": "sha256:5f1c",
        "environment": {"versions": VERSIONS}, "code_version": "a524bb3f0d1c",
    }  # fmt: skip
    return Protocol(**{
        "arms": tuple(
            ArmPlan(
                name=name, source="recipe", where="recipes/metaworld.py", members=tuple(members),
                training_seeds=tuple(range(len(members))), overrides={"policy.decoder": name}, identity={},
                description=f"Compact backbone with the {name} decoder.",
            )
            for name, members in arms.items()
        ),
        "tasks": tuple(tasks), "execute": dict.fromkeys(arms, EXECUTE), **choices, **facts,
    })  # fmt: skip


def run_info(protocol: Protocol, controls: Mapping[str, str] | None = None) -> RunInfo:
    """controls: name -> role."""
    arms = {member: Arm(role="policy") for member in protocol.members}
    return RunInfo(
        title=protocol.question, tasks=protocol.tasks, seeds=tuple(protocol.seeds),
        arms={**arms, **{name: Arm(role=role) for name, role in (controls or {}).items()}},  # type: ignore[arg-type]
        success_semantics=protocol.success_semantics, settings={"max_steps": MAX_STEPS, "cameras": {"corner2": 112}},
        fingerprint={"versions": VERSIONS, "commit": protocol.code_version},
    )  # fmt: skip


def episode(arm: str, task: str, seed: int, won: bool, *, told: str | None = None, **facts: object) -> Episode:
    steps = facts.pop("steps", 88 if won else MAX_STEPS)
    assert isinstance(steps, int)
    looks = -(-steps // EXECUTE)
    return Episode(
        job=Job(task=task, seed=seed, arm=arm, max_steps=MAX_STEPS, instruction=told),
        instruction=told or TASKS.get(task, task),
        **{
            "outcome": Outcome.SUCCESS if won else Outcome.TIME_OUT, "steps": steps, "executed_per_chunk": EXECUTE,
            "first_observation": f"{task}:{seed}",
            "latencies": (0.02,) * looks, "evaluations": (10,) * looks, **facts,
        },
    )  # type: ignore[arg-type] # fmt: skip


@contextmanager
def quick_records(folder: Path) -> Iterator[RecordFile]:
    """The record file of a folder without waiting for the disk after every line; other tests hold that it does."""
    with patch("os.fsync"), RecordFile(folder / "episodes.jsonl") as file:
        yield file


def write_small(folder: Path, letters: Mapping[str, str], **facts: object) -> Path:
    """One task, one member per arm: arm -> one letter per scene: s(uccess), f(ailure), e(rror), d(ifferent scene,
    solved), - (not there)."""
    scenes = len(next(iter(letters.values())))
    protocol = plan({arm: (arm,) for arm in letters}, tasks=("metaworld/push",), scenes=scenes, **facts)
    freeze(folder, protocol)
    begin(folder, run_info(protocol), beside=BESIDE)
    with quick_records(folder) as file:
        for arm, word in letters.items():
            for k, letter in enumerate(word):
                more: dict[str, object] = {}
                if letter == "e":
                    more = {"outcome": Outcome.ERROR, "error": "EpisodeError: the worker died"}
                if letter == "d":
                    more = {"first_observation": f"{arm}:{k}"}
                if letter != "-":
                    file.append(episode(arm, "metaworld/push", FIRST_SEED + k, letter in "sd", **more))
    write_looks(folder)
    return folder


def write_looks(folder: Path) -> tuple[Look, ...]:
    """What `volar compare` would have written while these records came in, up to the first look that decides all."""
    registration, info, content = read_protocol(folder), read_run(folder), (folder / "episodes.jsonl").read_bytes()
    protocol, records = registration.protocol, read(folder / "episodes.jsonl")
    written = {"count": len(records), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    looks: list[Look] = []
    recorded = len({record.key[2] for record in records})
    for scenes in (look for look in protocol.looks if look <= recorded):
        met = [record for record in records if record.key[2] < FIRST_SEED + scenes]
        pairs = judge_pairs(folder, protocol, info, met)
        stop = scenes == protocol.max_episodes or all(pair.decision in DECIDED for pair in pairs)
        looks.append(Look(scenes=scenes, protocol=registration.sha256, records=written, pairs=pairs, stop=stop))
        if stop:
            break
    session = Session(records=0, environment=protocol.environment, code_version=protocol.code_version)
    (folder / "looks.jsonl").write_text("".join(json.dumps(asdict(look)) + "\n" for look in looks))
    (folder / "sessions.jsonl").write_text(json.dumps(asdict(session)) + "\n")
    return tuple(looks)


def write_comparison(folder: Path, *, films: bool = True, broken: int = 3) -> Path:
    """Write the whole folder and return it. broken: how many episodes of the last member end as errors."""
    rng = np.random.default_rng(11)
    members = {arm: tuple(f"{arm}@{seed}" for seed in TRAINING_SEEDS) for arm in RATES}
    controls = ("shuffled_instruction", "blank_images")
    protocol = plan(members, controls=controls, control_scenes=CONTROL_SCENES, margin=0.03)
    roles = {f"{arm}/{kind}": kind for arm in RATES for kind in controls} | {"expert": "expert"}
    freeze(folder, protocol)
    begin(folder, run_info(protocol, roles), beside=BESIDE)
    (folder / "films").mkdir(exist_ok=True)
    hard = {(task, seed): rng.random() for task in TASKS for seed in protocol.seeds}
    with quick_records(folder) as file:
        for arm, names in members.items():
            for k, member in enumerate(names):
                for (task, seed), scene in hard.items():
                    rate = RATES[arm][list(TASKS).index(task)] + (0.0, 0.04, -0.04)[k] * (RATES[arm][0] < 0.9)
                    won = bool(0.7 * scene + 0.3 * rng.random() < np.quantile(LATTICE, min(rate, 1.0)))
                    steps = int(rng.integers(60, 130)) if won else MAX_STEPS
                    failed = arm == "equilibrium" and k == 2 and task == "metaworld/push" and seed < FIRST_SEED + broken
                    facts = {"outcome": Outcome.ERROR, "error": "EpisodeError: the worker died"} if failed else {}
                    ended = _timed(rng, arm, episode(member, task, seed, won, steps=steps, **facts))
                    file.append(ended, _film(folder, rng, ended) if films else None)
            _controls(file, rng, arm, protocol)
        for task, seed in hard:
            if seed < FIRST_SEED + CONTROL_SCENES:
                file.append(episode("expert", task, seed, True, evaluations=(), privileged=("object positions",)))
    write_looks(folder)
    write_ledgers(folder / "ledger.json", {arm: _ledgers(arm, names) for arm, names in members.items()})
    return folder


LATTICE = np.add.outer(0.7 * np.linspace(0, 1, 401), 0.3 * np.linspace(0, 1, 401)).ravel()
COST = {  # evaluations and FLOPs of one decision, seconds per decision
    "regression": (1, 0.93e9, 0.012),
    "flow": (10, 2.41e9, 0.028),
    "equilibrium": (20, 3.88e9, 0.045),
}


def _timed(rng: np.random.Generator, arm: str, episode: Episode) -> Episode:
    evaluations, _, seconds = COST[arm]
    looks = len(episode.latencies)
    latencies = np.round(seconds * rng.lognormal(0, 0.2, looks), 5)
    return replace(episode, latencies=tuple(latencies.tolist()), evaluations=(evaluations,) * looks)


def _film(folder: Path, rng: np.random.Generator, ended: Episode) -> str | None:
    job = ended.job
    if job.seed >= FIRST_SEED + FILMED:
        return None
    film = f"films/{job.arm}-{job.task.partition('/')[2]}-{job.seed}.jpg"
    frames = _frames(rng, bool(ended.success), side=80)
    (folder / film).write_bytes(film_strip(frames, count=len(frame_steps(ended))))
    return film


def _controls(file: RecordFile, rng: np.random.Generator, arm: str, protocol: Protocol) -> None:
    for task, rate in zip(TASKS, RATES[arm], strict=True):
        for seed in protocol.seeds[:CONTROL_SCENES]:
            told = next(words for other, words in TASKS.items() if other != task)
            won = bool(rng.random() < rate * SHUFFLED[arm])
            file.append(episode(f"{arm}/shuffled_instruction", task, seed, won, told=told))
            file.append(episode(f"{arm}/blank_images", task, seed, bool(rng.random() < 0.05)))


def _ledgers(arm: str, members: Sequence[str]) -> dict[str, Ledger]:
    evaluations, flops, seconds = COST[arm]
    return {
        member: Ledger(
            parameters=38_412_807, trainable_parameters=6_204_423, frozen_parameters_forward=32_208_384,
            training_steps=2500, training_samples=320_000, training_flops=1.21e15, training_seconds=512.5,
            chunk_flops=flops, action_flops=flops / EXECUTE, evaluations=float(evaluations), latency_median=seconds,
            latency_p95=1.5 * seconds, latency_first=6 * seconds, peak_memory_bytes=913_000_000,
            environment_steps=25_312, training_environment_steps=11_240, simulator_steps_by_planner=0,
            hardware="x86_64, 2 cores",
        )
        for member in members
    }  # fmt: skip
