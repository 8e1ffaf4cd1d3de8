"""A composition on disk: a small folder that names the checkpoints which act as one, and how. Not a checkpoint: the
weights stay where they are and are proved by hash. Free of torch. Who acts by it: composed.py.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import volar
from volar.core.atomic import write_files
from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import Camera, RobotSpec, require_match

FILE = "composition.json"
How = Literal["convex", "conjunction", "mixture", "product", "vote", "switch"]


@dataclass(frozen=True, kw_only=True)
class Composition:
    """How several policies act as one.

    how: "convex" adds fields, "conjunction" adds the gradients of energies (AND), "mixture" and "product" mix token
    distributions; "vote" carries out the chunk nearest to all others of `draws` per member, "switch" the least
    strange of one per member. weights: one per member; nested [h 1], [1 a] or [h a] per member where fields are
    added; None is equal weights, and what "switch" takes.
    """

    how: How = "convex"
    weights: Any = None
    draws: int = 1

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise unknown_name("way to compose policies", str(self.how), get_args(How))
        if self.draws < 1 or (self.draws > 1 and self.how != "vote"):
            raise ConfigError(
                f"draws is how many chunks every member of a vote gives, at least 1, and 1 for all others; got "
                f"{self.draws} for {self.how!r}."
            )
        if self.how == "switch" and self.weights is not None:
            raise ConfigError("A switch goes by strangeness alone and takes no weights; leave them out.")

    def weights_of(self, count: int) -> Any:
        """The weights, or equal ones: of a conjunction 1 / count each as well, so that its steps stay as they are."""
        return self.weights if self.weights is not None else [1 / count] * count


def require_same_robot(robots: Sequence[RobotSpec], names: Sequence[str]) -> None:
    """Policies may see different things, but the numbers of their actions must mean the same."""
    for name, robot in zip(names, robots, strict=True):
        blind = RobotSpec(action=robot.action, cameras=(), proprioception=())
        first = RobotSpec(action=robots[0].action, cameras=(), proprioception=())
        require_match(first, blind, our_name=names[0], their_name=name)


def union_robot(robots: Sequence[RobotSpec], names: Sequence[str]) -> RobotSpec:
    """What an environment must show so that every policy finds its own: the actions of all, every camera, every
    proprioceptive number, those of the policy with most of them first. ConfigError where actions or cameras differ."""
    require_same_robot(robots, names)
    cameras: dict[str, Camera] = {}
    for robot in robots:
        for camera in robot.cameras:
            known = cameras.setdefault(camera.name, camera)
            if known != camera:
                raise ConfigError(f"Camera {camera.name!r} is of two sizes, {known} and {camera}; retrain one policy.")
    ordered = sorted(robots, key=lambda robot: -len(robot.proprioception))  # stable, so equals keep their order
    proprioception = dict.fromkeys(number for robot in ordered for number in robot.proprioception)
    return RobotSpec(
        action=robots[0].action, cameras=tuple(cameras.values()), proprioception=tuple(proprioception)
    )  # fmt: skip


def is_composition(path: Path) -> bool:
    return (path / FILE).is_file()


def file_hash(member: Path) -> str:
    """Of a checkpoint's config.json, which holds the hashes of all its other files."""
    return hashlib.sha256((member / "config.json").read_bytes()).hexdigest()[:16]


def write_composition(
    folder: Path, composition: Composition, members: Sequence[Path], *, search: Mapping[str, Any] | None = None
) -> None:
    """members: folders of checkpoints, kept as paths relative to `folder`, so that both may move together. search: how
    the weights were found, with the scenes that may not be judged on any more. ConfigError where there is one already.
    """
    path = folder / FILE
    if path.exists():
        raise ConfigError(f"{path} exists already; a composition is never overwritten. Choose another folder.")
    configs = [json.loads((member / "config.json").read_text()) for member in members]
    robots = [RobotSpec.from_json(config["robot"]) for config in configs]
    content = {
        "kind": "composition", "volar": volar.__version__,
        "how": composition.how, "draws": composition.draws,
        "weights": None if composition.how == "switch" else composition.weights_of(len(members)),
        "members": [
            {"path": os.path.relpath(member.resolve(), folder.resolve()), "hash": file_hash(member),
             "policy": config["policy"], "card": config["card"]}
            for member, config in zip(members, configs, strict=True)
        ],
        "horizon": configs[0]["policy"]["horizon"],
        "robot": union_robot(robots, [str(member) for member in members]).to_json(),
        "search": None if search is None else dict(search),
    }  # fmt: skip
    write_files({path: json.dumps(content, indent=1).encode()})


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What `write_composition` wrote, with the members' folders found again. hash: stands for all their files."""

    composition: Composition
    members: tuple[Path, ...]
    robot: RobotSpec
    content: Mapping[str, Any]
    hash: str

    @property
    def description(self) -> str:
        """One sentence for the reader."""
        weights = self.content["weights"]
        parts = [f"{each['policy']['backbone']} + {each['policy']['decoder']}" for each in self.content["members"]]
        if weights is not None and not any(isinstance(weight, list) for weight in weights):
            parts = [f"{weight:g} ({part})" for weight, part in zip(weights, parts, strict=True)]
        drawn = f", {self.composition.draws} chunks each" if self.composition.draws > 1 else ""
        return f"{self.composition.how} of {len(parts)} policies{drawn}: {', '.join(parts)}"

    def to_policy(self, folder: Path) -> dict[str, Any]:
        """In the form of a checkpoint's config.json. A composition is a VLA where all its members are."""
        kinds = [each["card"]["kind"] for each in self.content["members"]]
        kind = kinds[0] if len(set(kinds)) == 1 else "multimodal policy"
        return {
            **self.content, "folder": folder, "hash": self.hash, "part": None, "facts": {}, "files": {},
            "policy": {"horizon": self.content["horizon"]}, "card": {"kind": kind}, "description": self.description,
        }  # fmt: skip


def read_composition(folder: Path) -> Stored:
    """ConfigError for a damaged file, and for a member that is not there or no longer the one that was composed."""
    path = folder / FILE
    text = path.read_bytes()
    try:
        content = json.loads(text)
        how = Composition(how=content["how"], weights=content["weights"], draws=content["draws"])
        members = tuple((folder / each["path"]).resolve() for each in content["members"])
        hashes = [each["hash"] for each in content["members"]]
        robot = RobotSpec.from_json(content["robot"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged: {type(error).__name__}: {error}.") from error
    for member, known in zip(members, hashes, strict=True):
        if not (member / "config.json").is_file():
            raise ConfigError(f"{path}: its member {member} is not there; move compositions and checkpoints together.")
        if file_hash(member) != known:
            raise ConfigError(f"{path}: {member} is not the checkpoint that was composed; compose it again.")
    return Stored(
        composition=how, members=members, robot=robot, content=content, hash=hashlib.sha256(text).hexdigest()[:16]
    )  # fmt: skip


def require_unsearched(policy: Mapping[str, Any], tasks: Sequence[str], seeds: Sequence[int]) -> None:
    """ConfigError where the weights of a composition were chosen on one of these scenes: the best of many points looks
    better there than it is. policy: what `Stored.to_policy` gave, or any checkpoint's config.json."""
    search = policy.get("search") or {}
    seen = sorted(set(search.get("seeds", ())) & set(seeds)) if set(search.get("tasks", ())) & set(tasks) else []
    if seen:
        raise ConfigError(
            f"The weights of {policy['folder']} were searched on {len(seen)} of these scenes, such as seed {seen[0]}; "
            f"it must be judged on new ones: --first-seed {max(search['seeds']) + 1} or higher."
        )
