"""What the planning study runs, as plain data: base policies on their tasks, and the arms of each part."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
}
ALONE = {"policy": Cell(planner="", simulations=0)}


def budgets() -> dict[str, Cell]:
    """V1 and V7: tree search and best-of-N at equal simulations."""
    planners = ("tree_search", "best_of_n")
    cells = {
        f"{name}-{count}": Cell(planner=name, simulations=count) for count in (3, 10, 30, 100) for name in planners
    }
    return {**ALONE, **cells}


PARTS = {"budgets": budgets}
