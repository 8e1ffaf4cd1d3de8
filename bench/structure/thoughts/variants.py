"""What the study of embodied chain-of-thought trains and how each policy is run: plain data. Equal steps for all, but
for those that set out from another."""

from dataclasses import dataclass, replace
from pathlib import Path

from volar.policies.config import PolicyConfig
from volar.reasoning import ecot_variants as ways
from volar.reasoning.ecot_variants import Options
from volar.train.config import TrainConfig

CUBES, REGIONS = ("red", "green", "blue"), ("white", "yellow", "purple")
HELD_OUT = (("red", "purple"), ("green", "white"), ("blue", "yellow"))
TRAINED = tuple((cube, region) for cube in CUBES for region in REGIONS if (cube, region) not in HELD_OUT)
SEEDS = (0, 1, 2)  # of training
SCENES = {"trained": 12, "held out": 24}  # per pair, so that both kinds have 72 episodes a training
PAIRS = {"trained": TRAINED, "held out": HELD_OUT}
SEGMENTS = ("subtask", "move")
HORIZON, EXECUTE, MAX_STEPS, FIRST_SCENE = 8, 8, 160, 100_000
STEPS = 3000


@dataclass(frozen=True, kw_only=True)
class Training:
    """options: of the reasoner, None for none. start: the training whose weights it sets out from."""

    options: Options | None
    start: str | None = None


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A trained policy as it is run. options: of the reasoner where they differ from the training's. edited: a person
    says that the next cube is meant, and of the episode counts what happens to that one. late: looks that a thought
    takes while the policy acts on the one before."""

    training: str
    options: Options | None = None
    edited: bool = False
    late: int = 0


TRAININGS = {
    "none": Training(options=None),
    "ecot": Training(options=ways.ecot(SEGMENTS)),
    "dropout": Training(options=ways.dropout(SEGMENTS)),
    "pre-training": Training(options=ways.action_only(SEGMENTS), start="ecot"),
    "none-twice": Training(options=None, start="none"),
    "scaffolding": Training(options=ways.scaffolding(SEGMENTS)),
    "co-training": Training(options=ways.co_training(SEGMENTS)),
    "thinking-tokens": Training(options=ways.thinking_tokens(8)),
    "hybrid": Training(options=ways.hybrid(SEGMENTS)),
    "hybrid-subtask": Training(options=ways.hybrid(("subtask",))),
    "hybrid-led": Training(options=ways.hybrid(("subtask",), lead=True)),
}
ARMS = {
    **{name: Arm(training=name) for name in TRAININGS},
    "ecot, fast": Arm(training="ecot", options=ways.fast(SEGMENTS)),
    "ecot, silent": Arm(training="ecot", options={"mode": "act"}),
    "dropout, thinking": Arm(training="dropout", options={"mode": "think"}),
    "hybrid, thinking": Arm(training="hybrid", options={"mode": "think"}),
}
STEERED = {
    **{f"{name}, {'edited' if edited else 'left alone'}": Arm(training=name, edited=edited)
       for name in ("ecot", "dropout", "hybrid", "hybrid-subtask", "hybrid-led") for edited in (True, False)},
    "none, left alone": Arm(training="none"),
}  # fmt: skip

LATE = {f"ecot, {looks} late": Arm(training="ecot", late=looks) for looks in (1, 2, 4)}


def task(pair: tuple[str, str]) -> str:
    return f"tabletop-state/sort-{pair[0]}-to-{pair[1]}"


def sentence(pair: tuple[str, str]) -> str:
    return f"put the {pair[0]} cube onto the {pair[1]} region"


def following(cube: str) -> str:
    """The cube that an edit names in place of this one."""
    return CUBES[(CUBES.index(cube) + 1) % len(CUBES)]


def recipe(name: str, seed: int, out: Path) -> TrainConfig:
    training = TRAININGS[name]
    policy = PolicyConfig(
        backbone="state", backbone_options={"width": 64, "depth": 1}, decoder="regression", horizon=HORIZON,
        normalise_action="min_max", normalise_proprioception="mean_std",
    )  # fmt: skip
    if training.options is not None:
        policy = replace(policy, reasoner="ecot", reasoner_options=dict(training.options))
    start = None if training.start is None else str(run_folder(out, training.start, seed))
    return TrainConfig(
        policy=policy, start=start, steps=STEPS, batch=64, learning_rate=3e-3, seed=seed, validate_every=STEPS,
        checkpoint_every=STEPS, log_every=100,
    )  # fmt: skip


def run_folder(out: Path, training: str, seed: int) -> Path:
    return out / "train" / f"{training}-{seed}"
