"""`volar plan-study`: how many episodes a comparison needs, before any is run."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import tyro

from volar.cli.output import Output
from volar.core.errors import ConfigError

CORRELATIONS = (0.0, 0.3, 0.6)  # shown when nobody says how alike the arms are


@dataclass(frozen=True, kw_only=True)
class PlanStudy:
    """How many episodes show that arm B is better than arm A: on the same scenes, on different ones, and when one may
    stop early."""

    rate: float = 0.5
    """success rate of arm A that you expect"""
    difference: float = 0.1
    """smallest difference B - A worth finding (0.1 = ten points)"""
    power: float = 0.8
    """chance to find it"""
    alpha: float = 0.05
    """chance to "find" one where there is none (two-sided)"""
    correlation: float | None = None
    """of the two arms' outcomes on a scene: 0 independent, 1 as alike as can be; by default several are shown"""
    tasks: int = 1
    """tasks that the scenes are spread over; numbers are rounded up to whole scenes per task"""
    looks: int = 5
    """of the group-sequential design"""
    margin: float | None = None
    """also: scenes that show equivalence within this margin, when the arms are equally good"""
    seeds: int = 1
    """trainings of each arm; more than one asks whether the methods differ and not only these checkpoints"""
    seed_deviation: float | None = None
    """standard deviation of the success rate between trainings of one arm, needed when there are several"""
    simulation_seed: int = 0
    """of the simulated anytime-valid studies"""


@dataclass(frozen=True, kw_only=True)
class Design:
    """One way to do it. Numbers of episodes per arm in all tasks; expected: mean number when B is better as said."""

    name: str
    most: int
    expected: int
    per_task: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """correlation: of the arms' outcomes on one scene. discordant: share of scenes that one arm solves alone."""

    correlation: float
    discordant: float
    designs: tuple[Design, ...]


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """Power for a difference between methods with the planned trainings, and with more episodes than anybody has.

    enough: fewest trainings per arm that could reach the power asked for; None above a hundred.
    """

    power: float
    power_at_most: float
    enough: int | None


def plan_study(command: PlanStudy) -> Output:
    """Raises ConfigError for numbers that do not fit together."""
    _check(command)
    correlations = CORRELATIONS if command.correlation is None else (command.correlation,)
    try:
        plans = tuple(
            _plan(command, correlation)
            for correlation in correlations
            if command.correlation is not None or correlation <= _highest(command)
        )
        trainings = _trainings(command, plans[0]) if command.seeds > 1 else None
    except ValueError as error:  # statistics know nothing of our errors
        raise ConfigError(str(error)) from error
    data: dict[str, Any] = {
        "request": asdict(command),
        "plans": [asdict(plan) for plan in plans],
        "trainings": trainings and asdict(trainings),
    }
    return Output(data, _text(command, plans, trainings))


def _plan(command: PlanStudy, correlation: float) -> Plan:
    from volar.statistics.power import (
        anytime_scenes,
        discordance,
        equivalence_scenes,
        group_scenes,
        paired_scenes,
        unpaired_episodes,
    )
    from volar.statistics.sequential import group_sequential

    power, alpha = command.power, command.alpha
    scene = discordance(command.rate, command.difference, correlation=correlation)
    fixed = paired_scenes(scene, power=power, alpha=alpha)
    apart = unpaired_episodes(command.rate, command.difference, power=power, alpha=alpha)
    looks = group_sequential([(k + 1) / command.looks for k in range(command.looks)], alpha=alpha)
    grouped = group_scenes(fixed, looks, power=power, alpha=alpha)
    anytime = anytime_scenes(scene, power=power, alpha=alpha, seed=command.simulation_seed)
    rows = [
        ("different scenes, fixed number", apart, None),
        ("same scenes, fixed number", fixed, None),
        (f"same scenes, {command.looks} planned looks", grouped.most, grouped.expected),
        ("same scenes, look at any time", anytime.most, anytime.expected),
    ]
    if command.margin is not None:
        same = discordance(command.rate, 0.0, correlation=correlation)
        scenes = equivalence_scenes(same, margin=command.margin, power=power, alpha=alpha)
        rows.append((f"same scenes, equivalent within {command.margin:g}", scenes, None))
    designs = tuple(_design(command.tasks, name, most, expected) for name, most, expected in rows)
    return Plan(correlation=correlation, discordant=scene.total, designs=designs)


def _design(tasks: int, name: str, most: int, expected: float | None) -> Design:
    per_task = math.ceil(most / tasks)
    total = per_task * tasks
    used = total if expected is None else min(math.ceil(expected), total)
    return Design(name=name, most=total, expected=used, per_task=per_task)


def _trainings(command: PlanStudy, plan: Plan) -> Trainings:
    """Episodes as in the paired design with a fixed number, for each pair of trainings."""
    from volar.statistics.power import discordance, trainings_power

    deviation = command.seed_deviation or 0.0
    scene = discordance(command.rate, command.difference, correlation=plan.correlation)

    def chance(trainings: int, pairs: float) -> float:
        return trainings_power(trainings, pairs, scene, deviation, alpha=command.alpha)

    enough = _first(lambda trainings: chance(trainings, math.inf) >= command.power) if deviation else 2
    return Trainings(
        power=chance(command.seeds, float(command.seeds * plan.designs[1].most)),
        power_at_most=chance(command.seeds, math.inf) if deviation else 1.0,
        enough=enough,
    )


def _first(holds: Callable[[int], bool]) -> int | None:
    return next((trainings for trainings in range(2, 101) if holds(trainings)), None)


def _highest(command: PlanStudy) -> float:
    """The highest correlation that the two rates can have."""
    low, high = sorted((command.rate, command.rate + command.difference))
    return math.sqrt(low * (1 - high) / (high * (1 - low)))


def _check(command: PlanStudy) -> None:
    other = command.rate + command.difference
    if not 0 < command.rate < 1:
        hint = f" Did you mean {command.rate / 100:g}?" if 1 < command.rate < 100 else ""
        raise ConfigError(f"--rate is a success rate between 0 and 1, got {command.rate:g}.{hint}")
    if not command.difference:
        raise ConfigError("--difference 0 can never be found. Ask for one that would matter, or use --margin.")
    if not 0 < other < 1:
        room = f"between {-command.rate:.3g} and {1 - command.rate:.3g}"
        raise ConfigError(f"--rate plus --difference is a rate too, got {other:g}. Choose a --difference {room}.")
    for name, value, low, high in (
        ("--power", command.power, 0.5, 1.0), ("--alpha", command.alpha, 0.0, 0.5),
        ("--margin", 0.5 if command.margin is None else command.margin, 0.0, 1.0),
    ):  # fmt: skip
        if not low < value < high:
            raise ConfigError(f"{name} must lie between {low:g} and {high:g}, got {value:g}.")
    if min(command.tasks, command.looks, command.seeds) < 1:
        raise ConfigError("--tasks, --looks and --seeds count something: one or more.")
    if command.looks > 100:
        raise ConfigError(f"--looks: at most 100, got {command.looks}; to look at any time see the last row instead.")
    if command.seeds > 1 and command.seed_deviation is None:
        raise ConfigError(
            "With --seeds above 1 say by how much trainings of one arm differ: --seed-deviation 0.03 for three points. "
            "Measure it (train one arm a few times) rather than hope."
        )
    if (command.seed_deviation or 0.0) < 0:
        raise ConfigError(f"--seed-deviation cannot be negative, got {command.seed_deviation:g}.")


def _text(command: PlanStudy, plans: tuple[Plan, ...], trainings: Trainings | None) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"Episodes per arm: {command.rate:.1%} against {command.rate + command.difference:.1%}, "
        f"power {command.power:g}, two-sided alpha {command.alpha:g}"
    )
    for name in ("design", "arms alike", "one arm alone", "at most", "on average", "per task"):
        table.add_column(name, justify="left" if name == "design" else "right")
    for index, plan in enumerate(plans):
        for design in plan.designs if not index else plan.designs[1:]:
            apart = design is plan.designs[0]
            table.add_row(
                design.name,
                "" if apart else f"{plan.correlation:g}",
                "" if apart else f"{plan.discordant:.1%}",
                f"{design.most:,}",
                f"{design.expected:,}" if design.expected < design.most else "",
                f"{design.per_task:,}" if command.tasks > 1 else "",
            )
        table.add_section()
    console = Console(width=110)
    with console.capture() as captured:
        console.print(table)
    lines = [captured.get().rstrip(), "", *_notes(command, trainings)]
    return "\n".join(lines)


def _notes(command: PlanStudy, trainings: Trainings | None) -> list[str]:
    notes = [
        "arms alike: correlation of the two outcomes on a scene; one arm alone: share of scenes that one arm solves\n"
        "and the other does not. A pilot of 50 scenes tells both.",
        "on average: if the arms differ as said; a larger difference stops sooner.",
    ]
    if trainings is None:
        return [*notes, "These numbers compare two checkpoints. To compare methods: --seeds and --seed-deviation."]
    line = f"With {command.seeds} trainings of each arm, that many scenes for each: power {trainings.power:.2f}"
    notes.append(f"{line}; with endless scenes {trainings.power_at_most:.2f}.")
    if trainings.power_at_most < command.power:
        few = "more than 100" if trainings.enough is None else f"{trainings.enough}"
        notes.append(f"No number of scenes is enough: train {few} times per arm.")
    return notes


def main(arguments: list[str]) -> Output:
    return plan_study(tyro.cli(PlanStudy, prog="volar plan-study", args=arguments))
