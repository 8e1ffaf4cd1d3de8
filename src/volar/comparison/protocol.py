"""What a comparison promises before its first episode: question, arms, scenes, test and stopping rule, with a hash.

Kept in RUN/protocol.json. Whether the promise was kept is told by deviations.py.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from volar.core.atomic import write_files
from volar.core.errors import ConfigError
from volar.evaluation.plain import from_plain
from volar.evaluation.run import differences

Kind = Literal["recipe", "checkpoint", "served", "records"]
Design = Literal["anytime", "group", "fixed"]
FILE = "protocol.json"
SURROUNDINGS = ("environment", "code_version")  # may change while a comparison is resumed; then it is a deviation


@dataclass(frozen=True, kw_only=True)
class ArmPlan:
    """One side of the comparison. Its members are the trained policies that stand for it: one per training seed.

    where: path or address as it was given. overrides: what equal compute changed in a recipe.
    identity: what exactly it is: the whole training config, the hash of a checkpoint or of a record file.
    """

    name: str
    source: Kind
    where: str
    members: tuple[str, ...]
    training_seeds: tuple[int, ...]
    overrides: Mapping[str, Any]
    identity: Mapping[str, Any]
    description: str


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The frozen plan. Every member of every arm meets scenes first_seed .. first_seed + max_episodes - 1 of each task.

    arms: the first is the reference; every other one is tested against it, Holm's correction over these pairs.
    max_episodes: scenes per task. looks: numbers of scenes per task at which the test is evaluated and may stop.
    margin: two arms closer than this (difference of success rates) count as equivalent. execute: arm -> actions
    carried out per look; an arm that decides it itself (served, recorded) may be absent.
    controls: kinds of control arms; they meet the first control_scenes scenes, with the first member of each arm.
    allowed: differences between arms that were accepted beforehand. environment: package versions and the
    simulator's own facts. match, budget: compute axis on which all arms got the same, and that amount (None: what the
    reference takes). data: hash of the data set that recipes were trained on.
    """

    question: str
    primary: Literal["success"]
    arms: tuple[ArmPlan, ...]
    tasks: tuple[str, ...]
    first_seed: int
    max_episodes: int
    max_steps: int
    execute: Mapping[str, int]
    alpha: float
    margin: float
    design: Design
    looks: tuple[int, ...]
    match: str | None
    budget: float | None = None
    controls: tuple[str, ...]
    control_scenes: int
    pairing: Literal["paired", "unpaired"]
    allowed: tuple[str, ...]
    success_semantics: str
    data: str | None
    environment: Mapping[str, Any]
    code_version: str

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ConfigError(f"A comparison needs two arms or more, each with a name of its own; got {names}.")
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ConfigError(f"A comparison needs at least one task and names each once, got {list(self.tasks)}.")
        for name, value in (("episodes", self.max_episodes), ("max_steps", self.max_steps)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}.")
        if not 0 < self.alpha < 0.5:
            raise ConfigError(f"alpha must lie between 0 and 0.5, for example 0.05; got {self.alpha}.")
        if not 0 <= self.margin < 1:
            raise ConfigError(
                f"margin is a difference of success rates in [0, 1), for example 0.05; got {self.margin}."
            )
        if not self.looks or list(self.looks) != sorted(set(self.looks)) or self.looks[0] < 1:
            raise ConfigError(f"looks are rising numbers of scenes per task, got {list(self.looks)}.")
        if self.looks[-1] != self.max_episodes:
            raise ConfigError(f"The last look must be at all {self.max_episodes} scenes, got {self.looks[-1]}.")

    @property
    def members(self) -> tuple[str, ...]:
        """Every member of every arm, controls left out."""
        return tuple(member for arm in self.arms for member in arm.members)

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.max_episodes)

    def arm_of(self, member: str) -> ArmPlan:
        return next(arm for arm in self.arms if member in arm.members)


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A protocol as it lies in its folder. sha256: of its canonical JSON (sorted keys, no spaces, UTF-8). intact: False
    when the file was changed after it was frozen."""

    protocol: Protocol
    sha256: str
    intact: bool


def freeze(folder: Path, protocol: Protocol) -> str:
    """Write RUN/protocol.json and return its hash, or prove that the protocol which is there already is the same one.

    Only package versions and commit may differ from the one there. Raises ConfigError that lists every other
    difference, or says that the file was tampered with.
    """
    path, wanted = folder / FILE, _plain(protocol)
    if not path.exists():
        if folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise ConfigError(f"{folder} exists, is not empty and is not a comparison; choose another folder.")
        write_files({path: _file(wanted)})
        return _hash(wanted)
    there = read_protocol(folder)
    if not there.intact:
        raise ConfigError(
            f"{path} was changed after it was frozen (its hash is not {there.sha256[:12]} any more), so the comparison "
            f"cannot go on; restore the file, or begin another folder."
        )
    if found := list(differences(_comparable(there.protocol), _comparable(protocol))):
        raise ConfigError(
            f"{folder} holds a comparison with another protocol; choose another folder or repeat its settings:\n  "
            + "\n  ".join(found)
        )
    return there.sha256


def read_protocol(folder: Path) -> Registration:
    """Raises ConfigError when there is no protocol or it cannot be read; a changed one comes with intact=False."""
    path = folder / FILE
    try:
        content = json.loads(path.read_bytes())
        protocol, sha256 = content["protocol"], str(content["sha256"])
    except FileNotFoundError:
        raise ConfigError(f"No comparison in {folder}: {FILE} is missing. `volar compare` makes one.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged ({error!r}); restore it.") from error
    read = from_plain(Protocol, protocol, where=str(path))
    return Registration(protocol=read, sha256=sha256, intact=_hash(protocol) == sha256)


def _plain(protocol: Protocol) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(protocol), allow_nan=False))


def _comparable(protocol: Protocol) -> dict[str, Any]:
    """Arms by name, so that differences are told with it; where they lie may be written otherwise than before. Of the
    surroundings only the simulator's own facts, without which scenes would not be the same."""
    plain = _plain(protocol)
    return {
        **plain, **dict.fromkeys(SURROUNDINGS), "simulator": plain["environment"].get("simulator"),
        "order": [arm.name for arm in protocol.arms],
        "arms": {arm["name"]: {**arm, "where": None} for arm in plain["arms"]},
    }  # fmt: skip


def _hash(plain: Any) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _file(plain: Any) -> bytes:
    return json.dumps({"protocol": plain, "sha256": _hash(plain)}, indent=1, ensure_ascii=False).encode()
