"""What an evaluation was: its arms, its settings and where it came from. Lies in `run.json` beside the records."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from volar.core.atomic import TEMPORARY, write_files
from volar.core.errors import ConfigError
from volar.evaluation.plain import from_plain

Role = Literal[
    "policy", "shuffled_instruction", "blank_images", "random_actions", "expert",
    "oracle_thoughts", "shuffled_thoughts", "by_hand", "other",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Who acts. role: what the arm is for; the report compares every other arm with the first `policy`.
    description: one sentence for the reader."""

    role: Role
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """Everything about a run that is known before its first episode, and must not change until its last.

    title: what was evaluated, in a few words. Every arm meets every task with every seed.
    success_semantics: when an episode counts as a success, in a sentence. settings: step limits, cameras and the
    like; fingerprint: versions, commit, hashes (volar.core.fingerprint).
    """

    title: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    arms: Mapping[str, Arm]
    success_semantics: str
    settings: Mapping[str, Any]
    fingerprint: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name, values in (("task", self.tasks), ("seed", self.seeds), ("arm", tuple(self.arms))):
            if not values:
                raise ConfigError(f"An evaluation needs at least one {name}, got none.")
            if len(set(values)) < len(values):
                raise ConfigError(f"An evaluation names each {name} once, got {values}.")


def begin(folder: Path, info: RunInfo, *, beside: Collection[str] = ()) -> None:
    """Write `folder/run.json`, or prove that the run which is already there is the same one and may be continued.

    beside: names that may lie in the folder before the run begins. Raises ConfigError that lists every difference.
    """
    path = folder / "run.json"
    wanted = json.loads(json.dumps({"kind": "evaluation", **asdict(info)}, allow_nan=False))
    if path.exists():
        read_run(folder)
        if found := list(differences(json.loads(path.read_text()), wanted)):
            raise ConfigError(
                f"{folder} holds another evaluation; choose another folder or repeat its settings:\n  "
                + "\n  ".join(found)
            )
        return
    if folder.exists() and any(_foreign(path) and path.name not in beside for path in folder.iterdir()):
        raise ConfigError(f"{folder} exists, is not empty and is not an evaluation; choose another folder.")
    write_files({path: json.dumps(wanted, indent=1, ensure_ascii=False).encode()})


def read_run(folder: Path) -> RunInfo:
    """What `begin` wrote. Raises ConfigError when there is no evaluation in `folder` or its run.json is damaged."""
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"No evaluation in {folder}: run.json is missing. `volar evaluate` makes one.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}).") from error
    kind = content.pop("kind", None) if isinstance(content, dict) else None
    if kind != "evaluation":
        raise ConfigError(f"{path} describes a run of kind {kind!r}, expected 'evaluation'.")
    return from_plain(RunInfo, content, where=str(path))


def _foreign(path: Path) -> bool:
    return not path.name.startswith(".") and not path.name.endswith(TEMPORARY)


def differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """One line for every value on which two pieces of plain JSON differ, with the keys that lead to it."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from differences(before.get(key, "absent"), now.get(key, "absent"), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name}: {before!r} there, {now!r} asked for now"
