"""Benchmark suites by name: which tasks, how many episodes, how long, what counts as success, how to read the number.

A benchmark keeps its suites in a module of its own, which is imported when one of them is asked for.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from volar.core.errors import ConfigError, unknown_name
from volar.envs.perturbation import LEVELS
from volar.envs.perturbation import TABLE as AXES

BENCHMARKS = {
    "libero": "volar.envs.suites_libero",
    "metaworld": "volar.envs.suites_metaworld",
    "tabletop": "volar.envs.suites_tabletop",
}  # the first word of a suite's name -> module with `suites() -> tuple[Suite, ...]`
SEEDED = "drawn from the episode's seed"
ROBUSTNESS = (
    "Read the curves, not the mean of tasks: it mixes the unperturbed world with seven kinds of change.",
    "Levels are compared with level 0 on the same scenes. A flat curve that begins low shows no robustness.",
    "The sizes of levels are this benchmark's own; numbers are not those of LIBERO-Plus or LIBERO-PRO.",
)
SATURATED = 0.95  # success from which what is left to gain is no larger than what 100 episodes can tell apart


@dataclass(frozen=True, kw_only=True)
class Published:
    """A reference value. value: mean success over the suite's tasks, 0 to 1. episodes: all together, None where the
    source does not say. source: paper, arXiv id. verified: False where we know it from a second hand only."""

    method: str
    value: float
    episodes: int | None
    source: str
    verified: bool = False


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One suite's protocol. tasks: written `environment/task`. episodes: per task. max_steps: control steps until
    time-out, for all tasks or per task. first_seed, initial_states: where episodes begin, as number and in words.
    success: when an episode counts. reading: what a number on it means and what it does not."""

    name: str
    tasks: tuple[str, ...]
    episodes: int
    max_steps: int | Mapping[str, int]
    first_seed: int
    initial_states: str
    success: str
    reading: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ConfigError(f"The suite {self.name} must name each of its tasks once and at least one.")
        if self.episodes < 1 or self.first_seed < 0:
            raise ConfigError(f"The suite {self.name} needs episodes of at least 1 and a first seed of at least 0.")
        if isinstance(self.max_steps, Mapping) and (missing := set(self.tasks) - set(self.max_steps)):
            raise ConfigError(f"The suite {self.name} has no max_steps for {', '.join(sorted(missing))}.")

    @property
    def environment(self) -> str:
        return self.tasks[0].partition("/")[0]

    def saturation(self) -> str:
        """Whether the best known value leaves room to tell policies apart; empty where none is known."""
        if not self.published:
            return ""
        best = max(self.published, key=lambda each: each.value)
        told = (
            "saturated: what is left above it is too little to rank policies by"
            if best.value >= SATURATED
            else ("not saturated")
        )
        return f"Best value known here: {best.value:.1%} ({best.method}); {told}."


def graded(tasks: Iterable[str]) -> tuple[str, ...]:
    """Each task unperturbed, and at every level of every axis."""
    return tuple(
        name for task in tasks for name in (task, *(f"{task}@{axis}={level}" for axis in AXES for level in LEVELS))
    )


def find_suite(name: str) -> Suite:
    """The suite of that name. Raises ConfigError with the nearest name, or the package that its benchmark lacks."""
    benchmark = name.partition("-")[0]
    if benchmark not in BENCHMARKS:
        raise unknown_name("suite", name, all_suites())
    known = _suites_of(benchmark)
    if name not in known:
        raise unknown_name("suite", name, known)
    return known[name]


def all_suites() -> dict[str, Suite]:
    """Every suite whose benchmark is installed."""
    found: dict[str, Suite] = {}
    for benchmark in BENCHMARKS:
        try:
            found |= _suites_of(benchmark)
        except ConfigError:
            continue
    return found


@cache
def _suites_of(benchmark: str) -> dict[str, Suite]:
    try:
        module = import_module(BENCHMARKS[benchmark])
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The suites of {benchmark} need the package {error.name!r}, which is not installed. "
            f"Install volar with its extras: pip install 'volar[all]'."
        ) from error
    return {suite.name: suite for suite in module.suites()}
