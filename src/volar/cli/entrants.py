"""The arms of a comparison before they act: what each one is, what it costs, and its training at equal compute."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from volar.cli.actors import read_token
from volar.cli.evaluate import describe_policy, read_policy
from volar.cli.guides import THINKING, reasoner_of
from volar.cli.train import load_recipe
from volar.comparison.matching import Contender, Matched, match
from volar.comparison.protocol import ArmPlan
from volar.comparison.sources import Foreign, Source, read_foreign
from volar.core.compute import Counts, Timing
from volar.core.errors import ConfigError
from volar.core.robot import RobotSpec
from volar.train.config import TrainConfig, require_same

BUDGET = "the budget"


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One arm as it enters. robot, horizon: None where records were made elsewhere (a server decides its own horizon).
    Of config, policy (a checkpoint's config.json with its folder), card (of a server) and foreign one is there."""

    source: Source
    robot: RobotSpec | None = None
    horizon: int | None = None
    config: TrainConfig | None = None
    policy: Mapping[str, Any] | None = None
    card: Mapping[str, Any] | None = None
    foreign: Foreign | None = None

    @property
    def name(self) -> str:
        return self.source.name

    def members(self, seeds: Sequence[int]) -> tuple[str, ...]:
        """One per training seed for a recipe; else the arm itself."""
        return tuple(f"{self.name}@{seed}" for seed in seeds) if self.config and len(seeds) > 1 else (self.name,)

    def allows(self, control: str) -> bool:
        """Whether the control takes away something that the arm has."""
        if control == "blank_images":
            return not (self.policy or {}).get("blind", False)
        if control in THINKING:
            return (self.config.policy.reasoner if self.config else reasoner_of(self.policy or {})) is not None
        return True


def enter(
    source: Source, *, data: str | None, configs: Mapping[str, TrainConfig], token_variable: str | None
) -> Entrant:
    """Everything about an arm that can be known, and can be wrong, before anything runs. Raises ConfigError."""
    if source.kind == "recipe":
        return _recipe(source, configs[source.name], data)
    if source.kind == "checkpoint":
        policy = read_policy(Path(source.where))
        robot = RobotSpec.from_json(policy["robot"])
        return Entrant(source=source, robot=robot, horizon=policy["policy"]["horizon"], policy=policy)
    if source.kind == "served":
        from volar.serving.client import RemoteActor

        actor = RemoteActor(source.where, token=read_token(token_variable))
        actor.close()
        return Entrant(source=source, robot=actor.robot, card=actor.card)
    return Entrant(source=source, foreign=read_foreign(source.where))


def read_recipes(sources: Sequence[Source]) -> dict[str, TrainConfig]:
    """Name -> config of every arm that is a recipe."""
    return {source.name: load_recipe(Path(source.where)) for source in sources if source.kind == "recipe"}


def _recipe(source: Source, config: TrainConfig, data: str | None) -> Entrant:
    from volar.data.formats import open_dataset
    from volar.train.demonstrations import robot_of

    if data is None:
        raise ConfigError(f"{source.name} is a recipe and has to be trained first; name the data set: --data FOLDER.")
    robot = robot_of(open_dataset(data), config)
    return Entrant(source=source, robot=robot, horizon=config.policy.horizon, config=config)


def arm_plan(entrant: Entrant, matched: Matched, seeds: Sequence[int]) -> ArmPlan:
    """How the arm stands in the protocol."""
    changes = {"steps": matched.steps, "evaluations": matched.evaluations, "note": matched.note}
    return ArmPlan(
        name=entrant.name, source=entrant.source.kind, where=entrant.source.where, members=entrant.members(seeds),
        training_seeds=tuple(seeds) if entrant.config else _seed_of(entrant),
        overrides={key: value for key, value in changes.items() if value},
        identity=_identity(entrant, matched), description=_description(entrant, matched),
    )  # fmt: skip


def _seed_of(entrant: Entrant) -> tuple[int, ...]:
    seed = (entrant.policy or {}).get("facts", {}).get("train", {}).get("seed")
    return (seed,) if isinstance(seed, int) else ()


def _identity(entrant: Entrant, matched: Matched) -> dict[str, Any]:
    if entrant.config:
        return scaled(entrant.config, matched.steps).to_json()
    if entrant.policy:
        return {"checkpoint": entrant.policy["hash"]}
    if entrant.card:
        return {"served": {key: entrant.card.get(key) for key in ("name", "hash", "policy", "execute")}}
    assert entrant.foreign
    return {"records": entrant.foreign.sha256, "arm": entrant.foreign.arm}


def _description(entrant: Entrant, matched: Matched) -> str:
    if entrant.config:
        policy = entrant.config.policy
        parts = " + ".join(filter(None, (policy.backbone, policy.reasoner, policy.decoder)))
        words = f"{parts}, trained for {matched.steps or entrant.config.steps} steps"
    elif entrant.policy:
        words = describe_policy(entrant.policy)
    elif entrant.card:
        words = f"{entrant.card.get('name', 'a policy')}, served at {entrant.source.where}"
    else:
        assert entrant.foreign
        arm = entrant.foreign.info.arms.get(entrant.foreign.arm) if entrant.foreign.info else None
        words = f"records of {entrant.foreign.arm}" + (f": {arm.description}" if arm and arm.description else "")
    return f"{words}; {matched.note}" if matched.note else words


def scaled(config: TrainConfig, steps: int | None) -> TrainConfig:
    return config if steps is None else replace(config, steps=steps)


def match_entrants(
    entrants: Sequence[Entrant], execute: Mapping[str, int], *, axis: str, budget: float | None, data: str | None,
    instructions: Sequence[str],
) -> tuple[Matched, ...]:  # fmt: skip
    """One entry per arm. budget: amount on the axis that all arms get; None takes the first arm's own. instructions:
    of the tasks to be compared; their length is what reading them costs."""
    if axis == "none":
        if budget is not None:
            raise ConfigError("A --budget needs an axis: --match train-flops, train-samples, nfe, inference-flops ...")
        return tuple(Matched(name=entrant.name) for entrant in entrants)
    contenders = [
        contender(each, execute.get(each.name, 1), axis=axis, data=data, instructions=instructions) for each in entrants
    ]
    if budget is None:
        return match(contenders, axis)
    if not budget > 0:
        raise ConfigError(f"--budget must be positive, got {budget:g}.")
    return match([_budget(axis, budget), *contenders], axis)[1:]


def contender(entrant: Entrant, execute: int, *, axis: str, data: str | None, instructions: Sequence[str]) -> Contender:
    """What is known of an arm's compute: counted on the policy, timed where the axis is a time."""
    if entrant.config is not None:
        assert data is not None
        return _untrained(entrant.name, entrant.config, execute, axis=axis, data=data)
    if entrant.policy is None:
        return Contender(name=entrant.name, execute=execute)

    from volar.core.model import FrozenVision
    from volar.planning.composed import count_composed, load_composed
    from volar.planning.composition import is_composition
    from volar.policies.compute import count_policy, time_policy
    from volar.policies.language_folder import is_language
    from volar.policies.vla import Policy

    if is_language(entrant.policy["folder"]):
        return Contender(name=entrant.name, execute=execute)
    if is_composition(entrant.policy["folder"]):
        composed = load_composed(entrant.policy["folder"], execute=execute)
        counts = count_composed(composed, instruction=typical_instruction(instructions))
        return Contender(name=entrant.name, execute=execute, counts=counts)
    policy = Policy.load(Path(entrant.policy["folder"]))
    typical = typical_instruction(instructions)
    counts, facts = count_policy(policy, instruction=typical), entrant.policy["facts"]
    spent = read_spending(Path(entrant.policy["folder"]), step=facts.get("step"))
    stored = float(spent.get("feature_flops") or 0) if isinstance(policy.backbone, FrozenVision) else 0.0
    return Contender(
        name=entrant.name, execute=execute, counts=counts,
        timing=time_policy(policy, instruction=typical) if axis == "latency" else None,
        steps=spent.get("training_steps"), samples_per_step=facts.get("train", {}).get("batch"),
        stored_features=bool(stored and counts.feature_flops),
        frames=round(stored / counts.feature_flops) if stored and counts.feature_flops else 0,
    )  # fmt: skip


def _untrained(name: str, config: TrainConfig, execute: int, *, axis: str, data: str) -> Contender:
    """Built with random weights, which cost the same as trained ones; a tokenizer is fitted as training will. What a
    reasoner learns is its labels; what it thinks before it has learned anything may be longer than afterwards."""
    from volar.core.model import FrozenVision
    from volar.data.thoughts import read_thoughts
    from volar.data.windows import selected_frames
    from volar.policies.compute import count_policy, time_policy, time_training_step
    from volar.train.demonstrations import fit_vocabularies, new_policy, open_demonstrations

    parts = open_demonstrations([data], config)
    dataset, policy = parts[0].dataset, new_policy(parts, config)
    fit_vocabularies(parts, policy, config)
    frozen = isinstance(policy.backbone, FrozenVision) and config.cache_features
    typical, timed = typical_instruction(dataset.tasks), axis == "train-seconds"
    spread = [row * dataset.num_frames // config.batch for row in range(config.batch)]
    labels = () if policy.reasoner is None else read_thoughts(dataset, spread)
    return Contender(
        name=name, steps=config.steps, samples_per_step=config.batch, scalable=True, stored_features=frozen,
        frames=len(selected_frames(dataset, config.stride)) if frozen else 0,
        seconds_per_step=time_training_step(policy, rows=config.batch, stored=frozen, labels=labels) if timed else None,
        execute=execute, counts=count_policy(policy, instruction=typical, rows=len(labels) or 2, labels=labels),
        timing=time_policy(policy, instruction=typical) if axis == "latency" else None,
    )  # fmt: skip


def typical_instruction(instructions: Sequence[str]) -> str:
    """The one of middle length: longer ones cost more to read."""
    return sorted(instructions, key=len)[len(instructions) // 2]


def _budget(axis: str, amount: float) -> Contender:
    """A reference that has exactly this amount on the axis."""
    nothing = Counts(
        parameters=0, trainable_parameters=0, frozen_parameters=0, training_flops=0, stored_training_flops=None,
        feature_flops=None, encode_flops=0, decode_flops=0, instruction_flops=0, evaluations=amount,
        evaluation_flops=0.0, anytime=False,
    )  # fmt: skip
    whole = round(amount)
    return Contender(
        name=BUDGET, steps=1, samples_per_step=whole if axis == "train-samples" else 1, seconds_per_step=amount,
        counts=replace(nothing, training_flops=whole, decode_flops=whole),
        timing=Timing(
            first=amount, median=amount, p95=amount, evaluation=0.0, evaluations=1.0, peak_memory_bytes=None,
            energy_joules=None,
        ),
    )  # fmt: skip


def train_member(config: TrainConfig, data: str, out: Path, *, device: str | None) -> Path:
    """Train, go on with, or find finished the run in `out`; returns its last checkpoint."""
    last = out / "checkpoints" / f"step-{config.steps:07d}"
    if last.is_dir() and (out / "run.json").is_file():
        require_same(config, json.loads((out / "run.json").read_text())["config"], where=str(out))
        return last

    from volar.train.loop import train

    return train(config, data, out, device=device)


def read_spending(folder: Path, *, step: int | None = None) -> dict[str, Any]:
    """compute.json of the training run at `folder`, or of the run that the checkpoint `folder` belongs to; empty where
    there is none, or when it tells of another step than the checkpoint's."""
    for path in (folder / "compute.json", folder.parent.parent / "compute.json"):
        if path.is_file():
            spent = json.loads(path.read_text())
            return spent if step is None or spent.get("training_steps") == step else {}
    return {}


def data_hash(data: str | None) -> str | None:
    """Hash of what recipes are trained on."""
    if data is None:
        return None

    from volar.data.formats import open_dataset

    return open_dataset(data).content_hash()
