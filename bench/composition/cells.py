"""What the study of composition runs: plain data. Policies are those of the decoder study, three training seeds each;
a cell says which sensor each member looks by and how members act as one.

Members come from two different trainings, s and s + 1, as two policies of one team would.
"""

from dataclasses import dataclass
from typing import Any

from volar.planning.composition import Composition, How

TASKS = ("fork", "push", "pick-place-red")
WORLDS = {"front+side": "Both", "front+front": "Front", "side+side": "Side"}
SEEDS = (0, 1, 2)
EXECUTE, MAX_STEPS, FIRST_SCENE = 8, 120, 20_000
SEARCH_SCENE = 30_000
WEIGHTS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """views: the sensor of each member. budget: evaluations per chunk, all members together."""

    decoder: str
    how: How
    views: tuple[str, str]
    budget: int
    weights: Any = None
    draws: int = 1

    def task(self, name: str) -> str:
        """In the world that shows what the members look by."""
        return f"sensors:{WORLDS['+'.join(self.views)]}/{name}"

    @property
    def composition(self) -> Composition:
        return Composition(how=self.how, weights=self.weights, draws=self.draws)


def scalar(decoder: str, how: How, views: tuple[str, str], budget: int) -> dict[str, Cell]:
    """Weight of the second member from 0 to 1; the ends are each member alone with the whole budget."""
    return {
        f"{decoder}/{how}/{'+'.join(views)}/{second:g}": Cell(
            decoder=decoder, how=how, views=views, budget=budget, weights=[round(1 - second, 1), second]
        )
        for second in WEIGHTS
    }


# x from who sees x, y from who sees y, height and gripper from both: [1 a] per member.
BY_AXIS = [[[1.0, 0.0, 0.5, 0.5]], [[0.0, 1.0, 0.5, 0.5]]]


def sensors() -> dict[str, Cell]:
    """Two views of flow matching; twins with the same view are the control for what any ensemble brings."""
    two, same = ("front", "side"), {"twins-front": ("front", "front"), "twins-side": ("side", "side")}
    cells = scalar("flow", "convex", two, 10)
    cells["flow/axis"] = Cell(decoder="flow", how="convex", views=two, budget=10, weights=BY_AXIS)
    cells["flow/vote"] = Cell(decoder="flow", how="vote", views=two, budget=8, draws=2)
    for name, views in same.items():
        cells[f"flow/{name}"] = Cell(decoder="flow", how="convex", views=views, budget=10, weights=[0.5, 0.5])
    return cells


def energies() -> dict[str, Cell]:
    """Two views of equilibrium matching: AND, its baselines, and each alone."""
    two, cells = ("front", "side"), {}
    for name, weights in {"front": [1.0, 0.0], "side": [0.0, 1.0], "convex": [0.5, 0.5]}.items():
        cells[f"equilibrium/{name}"] = Cell(decoder="equilibrium", how="convex", views=two, budget=32, weights=weights)
    cells["equilibrium/and"] = Cell(decoder="equilibrium", how="conjunction", views=two, budget=32, weights=[0.9, 0.9])
    cells["equilibrium/vote"] = Cell(decoder="equilibrium", how="vote", views=two, budget=32, draws=2)
    cells["equilibrium/switch"] = Cell(decoder="equilibrium", how="switch", views=two, budget=32)
    cells["equilibrium/axis"] = Cell(decoder="equilibrium", how="convex", views=two, budget=32, weights=BY_AXIS)
    return cells


PARTS = {"sensors": sensors, "energies": energies}
