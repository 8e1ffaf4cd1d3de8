"""Which scenes an evaluation runs: named one by one, or all that a suite's protocol says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from volar.core.errors import ConfigError
from volar.envs.suites import Suite, find_suite

EPISODES, FIRST_SEED, MAX_STEPS = 20, 1000, 150


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """max_steps: for all tasks or per task. suite: what the record says of the suite, empty without one."""

    tasks: tuple[str, ...]
    episodes: int
    first_seed: int
    max_steps: int | Mapping[str, int]
    suite: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(self.first_seed, self.first_seed + self.episodes))


def choose_scenes(
    *, suite: str | None, tasks: Sequence[str], episodes: int | None, first_seed: int | None, max_steps: int | None
) -> Scenes:
    """What is not given comes from the suite, or from the defaults here where there is none. ConfigError where neither
    tasks nor a suite are named."""
    if suite is None:
        if not tasks:
            raise ConfigError(
                "Name the tasks, --tasks metaworld/push ... (`volar list tasks` shows them), or a suite, "
                "--suite metaworld-mt10 (`volar list suites`)."
            )
        return Scenes(
            tasks=tuple(tasks), episodes=EPISODES if episodes is None else episodes,
            first_seed=FIRST_SEED if first_seed is None else first_seed,
            max_steps=MAX_STEPS if max_steps is None else max_steps,
        )  # fmt: skip
    protocol = find_suite(suite)
    given = {"tasks": tuple(tasks) or None, "episodes": episodes, "first_seed": first_seed, "max_steps": max_steps}
    own = {name: getattr(protocol, name) for name in given}
    changed = {name: value for name, value in given.items() if value is not None and value != own[name]}
    chosen: dict[str, Any] = {**own, **changed}
    return Scenes(**chosen, suite=_record(protocol, changed))


def _record(suite: Suite, changed: Mapping[str, Any]) -> dict[str, Any]:
    words = [
        f"{name} {len(value)} instead of {len(suite.tasks)}" if name == "tasks"
        else f"{name} {value} instead of {getattr(suite, name)}" for name, value in changed.items()
    ]  # fmt: skip
    return {
        "name": suite.name,
        "protocol": f"not the suite's protocol: {', '.join(words)}" if words else "followed",
        "initial_states": suite.initial_states,
        "success": suite.success,
        "reading": list(suite.reading),
        "saturation": suite.saturation(),
        "reference_values": [
            f"{each.method} {each.value:.1%}, {each.episodes or 'an unknown number of'} episodes ({each.source}"
            f"{'' if each.verified else '; not verified by us'})"
            for each in suite.published
        ],
    }
