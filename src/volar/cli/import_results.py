"""`volar import-results FILE`: what vla-eval wrote, as an evaluation that `volar report` and `volar compare` read."""

from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from volar.cli.output import Output


@dataclass(frozen=True, kw_only=True)
class ImportResults:
    """Take over a result of vla-eval (*_aggregate.json), and say what it does not tell."""

    result: tyro.conf.Positional[Path]
    """the file, or a folder that holds one"""
    out: Path
    """folder of the evaluation"""
    arm: str = "policy"
    """a name for who was evaluated"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(ImportResults, prog="volar import-results", args=arguments)

    from volar.evaluation.vla_eval import import_results

    imported = import_results(command.result, command.out, arm=command.arm)
    told = "\n".join(f"  {line}" for line in imported.unknown)
    text = f"{imported.episodes} episodes, {imported.broken} broken, in {command.out}. Not known:\n{told}"
    return Output({"run": str(command.out), **asdict(imported)}, f"{text}\nThe page: volar report {command.out}")
