"""A policy by language on disk: a small folder that names who answers, who perceives, and how. It holds neither weights
nor keys. Free of torch. Who acts by it: language_primitives.py."""

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import volar
from volar.core.atomic import write_files
from volar.core.errors import ConfigError
from volar.core.objects import Workspace
from volar.core.registry import Table, build_config
from volar.core.robot import RobotSpec

if TYPE_CHECKING:
    from volar.policies.language_primitives import LanguagePrimitives
    from volar.reasoning.language.conversation import Exchange

FILE = "language.json"
HORIZON = 16  # control steps between two looks at most
MODELS = Table(
    "language model",
    {
        "endpoint": "volar.reasoning.language.language_model:endpoint",
        "local": "volar.reasoning.language.local_model:local",
    },
)
CRITICS = Table(
    "critic",
    {
        "model": "volar.reasoning.language.model_critic:ModelJudge",
        "scripted": "volar.reasoning.language.scripted_critic:ScriptedJudge",
    },
)
PERCEPTIONS = Table(
    "perception",
    {
        "detector": "volar.policies.perception:DetectorPerception",
        "simulator": "volar.policies.perception:SimulatorPerception",
    },
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A member of one of the tables above and what it is called with. Text that begins with `$` stands for an
    environment variable, so that no key is written down; with `./` or `../` for a path beside the folder."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, table: Table, folder: Path, variables: Mapping[str, str]) -> Any:
        """ConfigError for options that it does not take and for variables that are not set."""
        options = {key: _resolved(value, folder, variables) for key, value in self.options.items()}
        make = table.load(self.name)
        try:
            inspect.signature(make).bind(**options)
        except TypeError as error:
            raise ConfigError(
                f"The {table.kind} {self.name!r}: {error}; it takes {inspect.signature(make)}."
            ) from error
        return make(**options)


def _resolved(value: Any, folder: Path, variables: Mapping[str, str]) -> Any:
    if not isinstance(value, str):
        return value
    if value.startswith("$"):
        if not (found := variables.get(value[1:])):
            raise ConfigError(f"The environment variable {value[1:]} is not set or empty.")
        return found
    return os.path.normpath(folder / value) if value.startswith(("./", "../")) else value


@dataclass(frozen=True, kw_only=True)
class LanguagePolicy:
    """critic: None where every motion is taken to have done what it should. options: of `LanguagePrimitives.Config`.
    robot, workspace: whom it leads, and where."""

    model: Part
    robot: RobotSpec
    workspace: Workspace
    perception: Part = field(default_factory=lambda: Part(name="simulator"))
    critic: Part | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """One sentence for the reader."""
        who = self.model.options.get("model") or self.model.name
        advice = "" if self.critic is None else "".join(f" {value}" for value in self.critic.options.values())
        critic = "" if self.critic is None else f", corrected by {self.critic.name}{advice}"
        settings = "".join(f", {key} {value}" for key, value in self.options.items())
        return f"language movement primitives set by {who}, objects from {self.perception.name}{critic}{settings}"


def is_language(path: Path) -> bool:
    return (path / FILE).is_file()


def write_language(folder: Path, policy: LanguagePolicy) -> None:
    """ConfigError where there is one already, and for options that the policy does not have."""
    path = folder / FILE
    if path.exists():
        raise ConfigError(f"{path} exists already and is not overwritten. Choose another folder.")
    require_options(policy)
    content = {"kind": "language", "volar": volar.__version__, **asdict(policy), "robot": policy.robot.to_json()}
    write_files({path: json.dumps(content, indent=1).encode()})


def require_options(policy: LanguagePolicy) -> Any:
    """The checked `LanguagePrimitives.Config`. ConfigError for members that no table knows, too."""
    from volar.policies.language_primitives import LanguagePrimitives

    MODELS.load(policy.model.name)
    PERCEPTIONS.load(policy.perception.name)
    if policy.critic is not None:
        CRITICS.load(policy.critic.name)
    config = build_config(LanguagePrimitives, policy.options)
    if (policy.critic is None) != (config.corrections == 0):
        raise ConfigError(
            "A critic and corrections=N, how often it may correct, go together: name both of them or neither."
        )
    return config


@dataclass(frozen=True, kw_only=True)
class StoredLanguage:
    """What `write_language` wrote. hash: of the file."""

    policy: LanguagePolicy
    folder: Path
    hash: str

    def require_variables(self, variables: Mapping[str, str]) -> None:
        """ConfigError, before anything runs, for one of the environment that an option stands for and that is not
        set."""
        for part in (self.policy.model, self.policy.perception, self.policy.critic):
            for value in () if part is None else part.options.values():
                _resolved(value, self.folder, variables)

    def to_policy(self) -> dict[str, Any]:
        """In the form of a checkpoint's config.json."""
        return {
            "kind": "policy", "folder": self.folder, "hash": self.hash, "part": None, "facts": {}, "files": {},
            "robot": self.policy.robot.to_json(), "policy": {"horizon": HORIZON},
            "card": {"kind": "language model over movement primitives"}, "description": self.policy.description,
            "language": {key: value for key, value in asdict(self.policy).items() if key != "robot"},
            "blind": not PERCEPTIONS.load(self.policy.perception.name).uses_images,
        }  # fmt: skip


def read_language(folder: Path) -> StoredLanguage:
    """ConfigError for a damaged file and for options that the policy does not have."""
    path = folder / FILE
    text = path.read_bytes()
    try:
        content = json.loads(text)
        policy = LanguagePolicy(
            model=Part(**content["model"]), perception=Part(**content["perception"]),
            critic=None if content["critic"] is None else Part(**content["critic"]),
            robot=RobotSpec.from_json(content["robot"]), options=dict(content["options"]),
            workspace=_workspace(content["workspace"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged: {type(error).__name__}: {error}.") from error
    require_options(policy)
    return StoredLanguage(policy=policy, folder=folder, hash=hashlib.sha256(text).hexdigest()[:16])


def _workspace(content: Mapping[str, Any]) -> Workspace:
    return Workspace(**{**content, "low": tuple(content["low"]), "high": tuple(content["high"])})


def load_language(
    folder: Path,
    *,
    execute: int,
    variables: Mapping[str, str],
    journal: "Callable[[Exchange], None] | None" = None,
    confirm: Callable[[str], str | None] | None = None,
) -> "LanguagePrimitives":
    """Who acts by the folder. variables: of the environment, for options that begin with `$`."""
    from volar.policies.language_primitives import LanguagePrimitives

    policy = read_language(folder).policy
    config = build_config(LanguagePrimitives, {**policy.options, "execute": execute})
    return LanguagePrimitives(
        config, policy.model.build(MODELS, folder, variables), policy.perception.build(PERCEPTIONS, folder, variables),
        spec=policy.robot, workspace=policy.workspace, journal=journal,
        confirm=confirm, judge=None if policy.critic is None else policy.critic.build(CRITICS, folder, variables),
    )  # fmt: skip
