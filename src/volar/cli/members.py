"""`volar list FAMILY`: which names a family knows."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict

import tyro

from volar.backbones import TABLE as BACKBONES
from volar.cli.output import Output
from volar.cli.tables import show
from volar.core.errors import unknown_name
from volar.decoders import TABLE as DECODERS
from volar.envs import TABLE as ENVIRONMENTS
from volar.envs.perturbation import TABLE as PERTURBATIONS
from volar.envs.suites import all_suites
from volar.planning import TABLE as PLANNERS
from volar.reasoning import TABLE as REASONERS
from volar.tokenizers import TABLE as TOKENIZERS
from volar.train.curation import TABLE as SCORES

FAMILIES = {
    "backbones": BACKBONES,
    "decoders": DECODERS,
    "environments": ENVIRONMENTS,
    "perturbations": PERTURBATIONS,
    "planners": PLANNERS,
    "reasoners": REASONERS,
    "scores": SCORES,
    "tokenizers": TOKENIZERS,
}


def list_family(family: tyro.conf.Positional[str] = "families") -> Output:
    """List the members of a family.

    Args:
        family: backbones, decoders, environments, perturbations, planners, reasoners, scores, suites, tasks,
            tokenizers; or nothing, for their names.
    """
    if family == "families":
        return Output({"families": [*FAMILIES, "suites", "tasks"]})
    if family == "suites":
        return _list_suites()
    if family == "tasks":
        names = [f"{name}/{task}" for name in ENVIRONMENTS for task in _tasks(ENVIRONMENTS.load(name))]
        return Output({"family": family, "members": names}, "\n".join(names))
    if family not in FAMILIES:
        raise unknown_name("family", family, [*FAMILIES, "suites", "tasks"])
    table = FAMILIES[family]
    members = [{"name": name, "implementation": table[name]} for name in table]
    return Output(
        {"family": family, "members": members}, "\n".join(f"{m['name']:<20}{m['implementation']}" for m in members)
    )


def _list_suites() -> Output:
    """Every suite whose benchmark is installed, with its protocol in short."""
    suites = all_suites().values()
    rows = [(each.name, len(each.tasks), each.episodes, _span(each.max_steps), each.saturation()) for each in suites]
    return Output(
        {"family": "suites", "members": [asdict(each) for each in suites]},
        show(("suite", "tasks", "episodes each", "time-out, steps", "room to rank policies"), rows),
    )


def _span(max_steps: int | Mapping[str, int]) -> str:
    values = {max_steps} if isinstance(max_steps, int) else set(max_steps.values())
    return f"{min(values)}" if len(values) == 1 else f"{min(values)} to {max(values)}"


def _tasks(environment: type) -> list[str]:
    """Every task once, those of shared scenes after the others."""
    return list(dict.fromkeys([*environment.tasks(), *itertools.chain(*environment.shared_scenes())]))


def main(arguments: list[str]) -> Output:
    return tyro.cli(list_family, prog="volar list", args=arguments)
