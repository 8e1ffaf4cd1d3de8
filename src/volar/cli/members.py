"""`volar list FAMILY`: which names a family knows."""

import itertools

import tyro

from volar.backbones import TABLE as BACKBONES
from volar.cli.output import Output
from volar.core.errors import unknown_name
from volar.decoders import TABLE as DECODERS
from volar.envs import TABLE as ENVIRONMENTS
from volar.planning import TABLE as PLANNERS
from volar.tokenizers import TABLE as TOKENIZERS
from volar.train.curation import TABLE as SCORES

FAMILIES = {
    "backbones": BACKBONES,
    "decoders": DECODERS,
    "environments": ENVIRONMENTS,
    "planners": PLANNERS,
    "scores": SCORES,
    "tokenizers": TOKENIZERS,
}


def list_family(family: tyro.conf.Positional[str] = "families") -> Output:
    """List the members of a family.

    Args:
        family: backbones, decoders, environments, planners, scores, tokenizers, tasks; or nothing, for their names.
    """
    if family == "families":
        return Output({"families": [*FAMILIES, "tasks"]})
    if family == "tasks":
        names = [f"{name}/{task}" for name in ENVIRONMENTS for task in _tasks(ENVIRONMENTS.load(name))]
        return Output({"family": family, "members": names}, "\n".join(names))
    if family not in FAMILIES:
        raise unknown_name("family", family, [*FAMILIES, "tasks"])
    table = FAMILIES[family]
    members = [{"name": name, "implementation": table[name]} for name in table]
    return Output(
        {"family": family, "members": members}, "\n".join(f"{m['name']:<20}{m['implementation']}" for m in members)
    )


def _tasks(environment: type) -> list[str]:
    """Every task once, those of shared scenes after the others."""
    return list(dict.fromkeys([*environment.tasks(), *itertools.chain(*environment.shared_scenes())]))


def main(arguments: list[str]) -> Output:
    return tyro.cli(list_family, prog="volar list", args=arguments)
