"""What the study of visual primitives trains and which cells it runs: plain data. One backbone, one decoder, equal
steps; what differs is told here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from volar.envs.tabletop.tasks import sort
from volar.policies.config import Option, PolicyConfig
from volar.train.config import TrainConfig

SEEDS = (0, 1, 2)  # of training
HORIZON, EXECUTE, STEPS, BATCH = 8, 8, 2000, 256
BY_STEPS = 6000  # where 18 ways round are learned
FIRST_SCENE = 100_000  # demonstrations begin at 0
CAMERA, PIXELS = "top", 224  # a virtual camera: the policies see numbers, and marks are places on its picture
PICTURE = 64  # pixels a side, where policies see it too
DEMONSTRATIONS = (100, 200, 400)  # of each of the six trained tasks; the last is what all other parts have
WAYS = ("coordinates", "overlay", "crop")  # to hand on a point, where there are pictures
ERRORS, DELAYS = (4, 8, 16), (4, 12)  # of the labels: pixels, frames of 50 ms
POINT_FLOPS = 1.18  # of a training step with points, relative to one without; as counted in compute.json
POINTED = (2, 4, 8, 16)  # pixels that a pointer is off at run time

Thinker = Literal["itself", "oracle", "shuffled"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to train. data: folder among the study's data sets. reasoner: options of `visual`, None for none.
    sees: whether the policy sees pictures beside numbers, as overlay and crop need. steps: of the gradient."""

    data: str = "labelled"
    reasoner: Mapping[str, Option] | None = field(default_factory=dict)
    sees: bool = False
    steps: int = STEPS


VARIANTS = {
    "none": Variant(reasoner=None),
    "none-longer": Variant(reasoner=None, steps=round(STEPS * POINT_FLOPS)),
    "point": Variant(),
    "auxiliary": Variant(reasoner={"inject": "none"}),
    "bottleneck": Variant(reasoner={"hears": False}),
    "box": Variant(data="boxed", reasoner={"form": "box"}),
    "regions": Variant(reasoner={"form": "regions"}),
    "markers": Variant(reasoner={"form": "markers"}),
    **{f"error-{pixels}": Variant(data=f"error-{pixels}") for pixels in ERRORS},
    **{f"late-{frames}": Variant(data=f"late-{frames}") for frames in DELAYS},
    **{f"{name}-{count}": Variant(data=f"labelled-{count}", reasoner=options)
       for count in DEMONSTRATIONS[:-1] for name, options in (("none", None), ("point", {}))},
    "seen, none": Variant(data="pictures", sees=True, reasoner=None),
    **{f"seen, {way}": Variant(data="pictures", sees=True, reasoner={"inject": way})
       for way in WAYS},
    "none-by": Variant(data="by", reasoner=None, steps=BY_STEPS),
    "point-by": Variant(data="by", steps=BY_STEPS),
    "bottleneck-by": Variant(data="by", reasoner={"hears": False}, steps=BY_STEPS),
    "auxiliary-by": Variant(data="by", reasoner={"inject": "none"}, steps=BY_STEPS),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One way to run a trained variant. by: whose thoughts it follows. off: pixels that they are moved, in a direction
    drawn for the episode. tasks: name -> scenes a training meets."""

    variant: str
    by: Thinker = "itself"
    off: float = 0.0
    tasks: Mapping[str, int]
    max_steps: int = 160


PAIRS = {**dict.fromkeys(sort.TRAINED, 12), **dict.fromkeys(sort.HELD_OUT, 24)}
STRAIGHT = dict.fromkeys(sort.STRAIGHT, 12)
DETOURS = dict.fromkeys(tuple(sort.BY)[::2], 12)


def pairs(variant: str, by: Thinker = "itself", off: float = 0.0) -> Cell:
    return Cell(variant=variant, by=by, off=off, tasks=PAIRS)


def straight(variant: str, by: Thinker = "itself") -> Cell:
    return Cell(variant=variant, by=by, tasks=STRAIGHT)


def detours(variant: str, by: Thinker = "itself") -> Cell:
    return Cell(variant=variant, by=by, tasks=DETOURS, max_steps=280)


PARTS: Mapping[str, Mapping[str, Cell]] = {
    "P1": {
        "none": pairs("none"), "point": pairs("point"), "auxiliary": pairs("auxiliary"),
        "point/oracle": pairs("point", "oracle"), "point/shuffled": pairs("point", "shuffled"),
    },
    "P1, without words": {
        "bottleneck": pairs("bottleneck"), "bottleneck/oracle": pairs("bottleneck", "oracle"),
        "bottleneck/shuffled": pairs("bottleneck", "shuffled"),
    },
    "P5, a pointer that is off": {
        f"{name}/oracle+{pixels}": pairs(name, "oracle", pixels)
        for name in ("point", "bottleneck") for pixels in POINTED
    },
    "P1, equal FLOPs": {"none-longer": pairs("none-longer")},
    "P6": {name: pairs(name) for name in VARIANTS if name.endswith(tuple(f"-{count}" for count in DEMONSTRATIONS[:-1]))
           and name.startswith(("none", "point"))},
    "P4": {name: pairs(name) for name in ("box", "regions", "markers")},
    "P2": {
        **{f"{name}, {kind}": run(name) for kind, run in (("straight", straight), ("detours", detours))
           for name in ("none-by", "point-by", "bottleneck-by")},
        **{f"{name}/oracle, {kind}": run(name, "oracle") for kind, run in (("straight", straight), ("detours", detours))
           for name in ("point-by", "bottleneck-by")},
    },
    "P2, controls": {
        f"{name}, {kind}": run(name.partition("/")[0], "shuffled" if "/" in name else "itself")
        for kind, run in (("detours", detours), ("straight", straight))
        for name in ("point-by/shuffled", "auxiliary-by")
    },
    "P5, labels that are off or late": {name: pairs(name) for name in VARIANTS if name.startswith(("error-", "late-"))},
    "P4, with pictures": {
        "seen, none": pairs("seen, none"),
        **{f"seen, {way}": pairs(f"seen, {way}") for way in WAYS},
        **{f"seen, {way}/oracle": pairs(f"seen, {way}", "oracle") for way in WAYS},
    },
}  # fmt: skip


def recipe(variant: str, seed: int) -> TrainConfig:
    chosen = VARIANTS[variant]
    options, steps = chosen.reasoner, chosen.steps
    return TrainConfig(
        policy=PolicyConfig(
            backbone="tiny" if chosen.sees else "state", decoder="regression", horizon=HORIZON,
            normalise_action="min_max", normalise_proprioception="mean_std",
            backbone_options={"width": 64, "depth": 2 if chosen.sees else 1},
            reasoner=None if options is None else "visual", reasoner_options=dict(options or {}),
        ),
        steps=steps, batch=BATCH, learning_rate=3e-3, seed=seed, validate_every=steps, checkpoint_every=steps,
        log_every=100,
    )  # fmt: skip


def run_folder(out: Path, variant: str, seed: int) -> Path:
    return out / "train" / f"{variant.replace(', ', '-')}-{seed}"
