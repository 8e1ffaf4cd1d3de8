"""What the study trains and which cells it runs: plain data. One backbone, one trunk, one data set, equal steps."""

from dataclasses import dataclass, field
from pathlib import Path

from volar.policies.config import Option, PolicyConfig
from volar.train.config import TrainConfig

TASKS = ("tabletop-state/fork", "tabletop-state/precise", "tabletop-state/push", "tabletop-state/pick-place-red")
SEEDS = (0, 1, 2)  # of training
HORIZON, EXECUTE, MAX_STEPS = 16, 8, 120
FIRST_SCENE = 5000
EVALUATIONS = (1, 2, 4, 8, 16, 32, 64, 128)
LONG = ("flow", "equilibrium")  # carried on to the most evaluations
STOPS = (2.0, 1.0, 0.5, 0.25, 0.1, 0.03)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to train: a decoder, its options, and a tokenizer where it speaks."""

    decoder: str
    tokenizer: str | None = None
    options: dict[str, Option] = field(default_factory=dict)


CONTINUOUS = {name: Variant(decoder=name) for name in ("regression", "mip", "flow", "diffusion", "equilibrium")}
SPEAKERS = ("autoregressive", "blockwise", "discrete_diffusion")
TOKENIZERS = ("fast", "beast")
TOKENS = {f"{decoder}-{tokenizer}": Variant(decoder=decoder, tokenizer=tokenizer)
          for decoder in SPEAKERS for tokenizer in TOKENIZERS}  # fmt: skip
VARIANTS = {**CONTINUOUS, **TOKENS}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One way to run a trained variant. options: of the decoder, changed after training. evaluations: the budget.
    exact: the closed-form field in place of the trained one."""

    variant: str
    options: dict[str, Option] = field(default_factory=dict)
    evaluations: int | None = None
    exact: bool = False


def sweep() -> dict[str, Cell]:
    """(a) Success against evaluations; EqM at a fixed number, without its stop."""
    free = {"equilibrium": {"stop": 0.0}}
    iterative = ("flow", "diffusion", "equilibrium", "discrete_diffusion-fast", "discrete_diffusion-beast")
    cells = {
        f"{name}/{count}": Cell(variant=name, options=free.get(name, {}), evaluations=count)
        for name in iterative for count in EVALUATIONS if count <= (128 if name in LONG else 64)
    }  # fmt: skip
    points = {name: Cell(variant=name) for name in ("regression", "mip", "autoregressive-fast", "blockwise-fast")}
    return {**cells, **points}


def stops() -> dict[str, Cell]:
    """(b) E2: the residual at which EqM stops, up to 64 evaluations."""
    return {f"equilibrium/stop-{stop:g}": Cell(variant="equilibrium", options={"stop": stop}, evaluations=64)
            for stop in STOPS}  # fmt: skip


def parts() -> dict[str, Cell]:
    """(d) EqM's warm start; its objective and its stop are in the other parts' cells."""
    return {
        f"equilibrium/warm-{stop:g}": Cell(variant="equilibrium", options={"stop": stop, "reuse": 0.5}, evaluations=64)
        for stop in (0.0, 0.5)
    }


def tokens() -> dict[str, Cell]:
    """(c) Tokenizer x decoding algorithm; Jacobi decoding runs the autoregressive weights."""
    cells = {name: Cell(variant=name) for name in TOKENS}
    jacobi = {f"jacobi-{tokenizer}": Cell(variant=f"autoregressive-{tokenizer}", options={"window": 8})
              for tokenizer in TOKENIZERS}  # fmt: skip
    return {**cells, **jacobi}


def exact() -> dict[str, Cell]:
    """Control of (a) and (b): the closed-form field, which needs no training and hence has one member."""
    return {f"exact/{count}": Cell(variant="equilibrium", options={"stop": 0.0}, evaluations=count, exact=True)
            for count in EVALUATIONS[:-2]}  # fmt: skip


PARTS = {"sweep": sweep, "exact": exact, "stops": stops, "parts": parts, "tokens": tokens}


def recipe(variant: str, seed: int, steps: int) -> TrainConfig:
    chosen = VARIANTS[variant]
    return TrainConfig(
        policy=PolicyConfig(
            backbone="state", decoder=chosen.decoder, tokenizer=chosen.tokenizer, horizon=HORIZON,
            normalise_action="min_max", normalise_proprioception="mean_std", decoder_options=chosen.options,
        ),
        steps=steps, batch=64, seed=seed, validate_every=steps, checkpoint_every=steps, log_every=100,
    )  # fmt: skip


def run_folder(out: Path, variant: str, seed: int) -> Path:
    return out / "train" / f"{variant}-{seed}"
