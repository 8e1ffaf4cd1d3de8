"""What some formats leave unsaid and their reader must not guess: rate, instruction, order of numbers, which part.

Given in Python, or as the file ROOT.volar.json beside the data set; formats that say it all themselves need none.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import RobotSpec
from volar.data import layout
from volar.data.joined import Joined, Part
from volar.data.media import image_features
from volar.data.store import Store, open_store

ENDING = ".volar.json"


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """Everything may be left out that the data set says itself; what is missing then is asked for by name.

    fps: frames per second; that of `robot` if only this is given. instruction: of every episode, instead of the data
    set's own. state, action: names of what is joined to `observation.state` and `action`, in that order; () for no
    state. part: the split (RLDS) or filter key (robomimic) to read. last_step: False leaves out the last step of every
    episode, whose action means nothing where a data set keeps to the letter of RLDS. robot: what the numbers mean.
    """

    fps: int | float | None = None
    instruction: str | None = None
    state: tuple[str, ...] | None = None
    action: tuple[str, ...] | None = None
    part: str | None = None
    last_step: bool = True
    robot: RobotSpec | None = None

    @classmethod
    def from_json(cls, data: Any) -> "Declaration":
        """Raises ConfigError for an unknown key or a value of another kind."""
        if not isinstance(data, dict):
            raise ConfigError(f"A declaration must be a JSON object, got {data!r}.")
        known = {field.name for field in fields(cls)}
        if strangers := sorted(data.keys() - known):
            raise unknown_name("entry of a declaration", strangers[0], known)
        for name, kinds in (("fps", (int, float)), ("instruction", (str,)), ("part", (str,)), ("last_step", (bool,))):
            if name in data and type(data[name]) not in kinds:  # isinstance would take true for 1
                raise ConfigError(f"A declaration's {name} cannot be {data[name]!r}.")
        robot = RobotSpec.from_json(data["robot"]) if "robot" in data else None
        plain = {name: data[name] for name in ("fps", "instruction", "part", "last_step") if name in data}
        return cls(state=_words(data, "state"), action=_words(data, "action"), robot=robot, **plain)

    def to_json(self) -> dict[str, Any]:
        """What was declared, as plain JSON."""
        given = {field.name: vars(self)[field.name] for field in fields(self)}
        given |= {"robot": self.robot.to_json() if self.robot else None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    def rate(self, said: float | None, store: Store, format: str) -> float:
        """Frames per second; `said` is what the data set says. Raises ConfigError if nobody says it, or they differ."""
        rates = [self.fps, self.robot.action.rate_hz if self.robot else None, said]
        given = sorted({float(rate) for rate in rates if rate is not None})
        if not given:
            raise ConfigError(
                f"{store.root} is {format}, which does not say its frames per second. " + _remedy(store, {"fps": 10})
            )
        if len(given) > 1 or not (given[0] > 0 and math.isfinite(given[0])):
            raise ConfigError(
                f"{store.root}: the frames per second must be one positive number; declared {self.fps}, by the robot "
                f"{rates[1]}, by the data set {said}."
            )
        return given[0]

    def check_robot(self, features: Mapping[str, Any], store: Store) -> None:
        """Raises ConfigError if a declared robot has other cameras or actions than the data set."""
        if self.robot is None:
            return
        wanted = {camera.name: (camera.height, camera.width) for camera in self.robot.cameras}
        found = {camera.name: (camera.height, camera.width) for camera in image_features(features).values()}
        for what, robots, here in (
            ("cameras", wanted, found),
            ("action dimensions", [self.robot.action.dim], features[layout.ACTION]["shape"]),
            ("state dimensions", [len(self.robot.proprioception)], features.get(layout.STATE, {"shape": [0]})["shape"]),
        ):
            if robots != here:
                raise ConfigError(f"The declared robot has the {what} {robots}, {store.root} has {here}.")

    def choose(self, what: Literal["state", "action"], offered: Mapping[str, Part], store: Store) -> Joined | None:
        """What the state or action is made of: as declared, or the only part there is; None for nothing at all.

        Raises ConfigError for an unknown part, or if nobody says which of several, and in which order.
        """
        names = {"state": self.state, "action": self.action}[what]
        if names is None and len(offered) > 1:
            shapes = ", ".join(f"{name} {list(part.shape)}" for name, part in sorted(offered.items()))
            raise ConfigError(
                f"{store.root} does not say what the {what} is made of; it holds {shapes}. "
                + _remedy(store, {what: sorted(offered)[:2]})
            )
        chosen = tuple(offered) if names is None else names
        for name in chosen:
            if name not in offered:
                raise unknown_name(f"part of the {what} in {store.root}", name, offered)
        if len(set(chosen)) != len(chosen):
            raise ConfigError(f"The {what} of {store.root} is declared with a part that occurs twice: {chosen}.")
        return Joined(tuple((name, offered[name]) for name in chosen)) if chosen else None

    def require_instruction(self, said: str | None, store: Store, format: str) -> str:
        """The declared instruction, or what the data set says."""
        words = said if self.instruction is None else self.instruction
        if words is None:
            raise ConfigError(
                f"{store.root} is {format}, but holds no instruction. "
                + _remedy(store, {"instruction": "pick up the cube"})
            )
        return words


def find_declaration(store: Store) -> Declaration:
    """What the file beside the data set declares; nothing if there is none. Raises ConfigError if it is damaged."""
    beside = open_store(_place(store))
    if not beside.exists():
        return Declaration()
    try:
        return Declaration.from_json(json.loads(beside.text("")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{beside.root}: {error}") from error


def _words(data: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    if name not in data:
        return None
    if not isinstance(data[name], list) or not all(isinstance(word, str) for word in data[name]):
        raise ConfigError(f"A declaration's {name} must be a list of names, got {data[name]!r}.")
    return tuple(data[name])


def _remedy(store: Store, example: Mapping[str, Any]) -> str:
    return f"Write it into {_place(store)}, like {json.dumps(example)}, or open it with declared=Declaration(...)."


def _place(store: Store) -> str:
    return store.root.rstrip("/") + ENDING
