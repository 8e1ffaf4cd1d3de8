"""Who acts: actors are made in the processes that run episodes, from names, paths and addresses alone."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from volar.cli.guides import GUIDED, guided
from volar.core.errors import ConfigError
from volar.core.robot import Actor, RobotSpec
from volar.envs import TABLE
from volar.evaluation.run import Role

if TYPE_CHECKING:
    from torch import Tensor, nn

REMOTE = ("ws://", "wss://")
JOURNAL = "language.jsonl"  # beside the records: one line per exchange with a language model


@dataclass(frozen=True, kw_only=True)
class Acting:
    """Who acts for an arm. policy: folder of a checkpoint, a composition or a policy by language, or the address of a
    policy server; "" for arms that have no policy. journal: file that is told what a language model was asked and
    said. evaluations: budget of a decoder that iterates; None leaves it alone. token_variable:
    environment variable that holds the server's token. part: see `Policy.load`. by_hand: what a person says in place of
    the policy, thoughts as JSON."""

    role: Role
    policy: str = ""
    execute: int = 1
    evaluations: int | None = None
    token_variable: str | None = None
    part: str | None = None
    journal: Path | None = None
    by_hand: str = ""


@dataclass(frozen=True)
class ActorMaker:
    """Makes the actor of an arm inside a worker process; torch is loaded only where a policy acts. An arm and its
    control arms share one policy, since only one of them acts at a time."""

    arms: Mapping[str, Acting]
    robot: RobotSpec
    environment: str
    _policies: dict[Acting, Actor] = field(default_factory=dict, init=False, repr=False)
    _frozen: dict[str, "Tensor"] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, arm: str) -> Actor:
        from volar.envs.controls import BlankImages, RandomActor

        acting = self.arms[arm]
        if acting.role == "random_actions":
            return RandomActor(self.robot, execute=acting.execute)
        if acting.role == "expert":
            return TABLE.load(self.environment).expert()
        own = replace(acting, role="policy", by_hand="")
        if own not in self._policies:
            self._policies[own] = _load(own, self._frozen)
        if acting.role in GUIDED:
            expert = TABLE.load(self.environment).expert()
            return guided(
                acting.role, self._policies[own], folder=Path(acting.policy), expert=expert, said=acting.by_hand
            )
        return BlankImages(self._policies[own]) if acting.role == "blank_images" else self._policies[own]


def _load(acting: Acting, frozen: dict[str, "Tensor"]) -> Actor:
    if acting.policy.startswith(REMOTE):
        from volar.serving.client import RemoteActor

        return RemoteActor(acting.policy, token=read_token(acting.token_variable))

    from volar.core.model import UNLIMITED, Budget
    from volar.planning.composition import is_composition
    from volar.policies.actor import load_policy
    from volar.policies.language_folder import is_language, load_language
    from volar.reasoning.language.conversation import Journal

    budget = UNLIMITED if acting.evaluations is None else Budget(evaluations=acting.evaluations)
    if is_composition(Path(acting.policy)):
        from volar.planning.composed import load_composed

        composed = load_composed(Path(acting.policy), execute=acting.execute, budget=budget)
        for member in composed.members:
            share_frozen(member.policy, frozen)
        return composed
    if is_language(Path(acting.policy)):
        journal = None if acting.journal is None else Journal(acting.journal)
        return load_language(Path(acting.policy), execute=acting.execute, variables=os.environ, journal=journal)
    actor = load_policy(acting.policy, execute=acting.execute, budget=budget, part=acting.part)
    share_frozen(actor.policy, frozen)
    return actor


def share_frozen(module: "nn.Module", kept: dict[str, "Tensor"]) -> None:
    """Let frozen parameters that are equal to those of an earlier policy be the very same memory: policies trained on
    one pretrained backbone differ in a few per cent of their weights. kept: name -> tensor of earlier ones."""
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            known = kept.setdefault(name, parameter.data)
            if known.shape == parameter.shape and known.dtype == parameter.dtype and bool((known == parameter).all()):
                parameter.data = known


def read_token(variable: str | None) -> str | None:
    """The token in that environment variable; ConfigError when it is not set."""
    if variable is None:
        return None
    if not (token := os.environ.get(variable)):
        raise ConfigError(f"The environment variable {variable} is not set or empty.")
    return token
