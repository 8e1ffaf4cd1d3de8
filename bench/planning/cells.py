"""What the planning study runs, as plain data: base policies on their tasks, and the arms of each part."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from volar.cli.planners import Proposals
from volar.planning.actor import Follow
from volar.planning.mismatch import DynamicsError

SEEDS = (0, 1, 2)  # of training
FIRST_SCENE = 20_000  # no demonstration, validation or evaluation of another study used these
ROLLOUT = 200  # control steps; never beyond the time-out


@dataclass(frozen=True, kw_only=True)
class Base:
    """A policy on one task. checkpoint: below the folder of trained policies, `{seed}` being the training seed.
    execute: control steps of a decision and of a planner's edge. evaluations: of the decoder, per chunk."""

    task: str
    checkpoint: str
    execute: int = 8
    max_steps: int = 120
    evaluations: int | None = 2


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arm. planner: "" for the policy as it is. error: of the planner's simulator. oracle: see SimulationConfig."""

    planner: str = "tree_search"
    simulations: int = 30
    seconds: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    proposals: Proposals = "policy"
    candidates: int = 10
    follow: Follow = "open_loop"
    rollout: int = ROLLOUT
    error: DynamicsError | None = None
    oracle: bool = True


TABLETOP = "diffusion-{seed}"
BASES = {
    "precise": Base(task="tabletop-state/precise", checkpoint=TABLETOP),
    "push": Base(task="tabletop-state/push", checkpoint=TABLETOP),
    "pick-place": Base(task="tabletop-state/pick-place-red", checkpoint=TABLETOP),
    "soccer": Base(task="metaworld-state/soccer", checkpoint="metaworld-{seed}", execute=16, max_steps=150),
}
ALONE = {"policy": Cell(planner="", simulations=0)}
PLANNERS = ("tree_search", "best_of_n")


def budgets(*counts: int) -> dict[str, Cell]:
    """V1, V5 and V7: tree search and best-of-N at equal simulations; leaves are simulated five at once."""
    return ALONE | {
        f"{name}-{count}": Cell(planner=name, simulations=count, options={"parallel": min(count, 5)})
        for count in counts
        for name in PLANNERS
    }


def dynamics() -> dict[str, Cell]:
    """V6: how wrong the planner's simulator is, and whether a found solution is carried out blindly."""
    errors = {f"gain-{round(100 * error)}": DynamicsError(gain=1 + error) for error in (0.05, 0.1, 0.2)}
    errors |= {
        "none": DynamicsError(),
        "mass-20": DynamicsError(mass=1.2),
        "friction-20": DynamicsError(friction=0.8),
        "delay-20": DynamicsError(delay=0.2),
    }
    follows: tuple[Follow, ...] = ("open_loop", "replan")
    return ALONE | {
        f"{follow}-{name}": Cell(simulations=10, options={"parallel": 5}, follow=follow, error=error)
        for name, error in errors.items()
        for follow in follows
    }


def proposals() -> dict[str, Cell]:
    """Whether other candidates than the policy's draws solve what its draws do not."""
    return {
        f"around-{count}": Cell(simulations=count, options={"parallel": 5}, proposals="around") for count in (10, 30)
    }


def verified() -> dict[str, Cell]:
    """The same candidates without a tree: best-of-N, each run beginning with another one."""
    options = {"parallel": 5, "candidates": True}
    return {
        f"flat-around-{count}": Cell(planner="best_of_n", simulations=count, options=options, proposals="around")
        for count in (10, 30)
    }


PARTS = {
    "budgets": partial(budgets, 3, 10, 30),
    "large": partial(budgets, 100),
    "dynamics": dynamics,
    "proposals": proposals,
    "short": partial(budgets, 3, 10),
    "verified": verified,
}
