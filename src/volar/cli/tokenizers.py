"""`volar tokenizers compare DATASET`: what each action tokenizer does to a user's data, in a table and a page."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from volar.cli.output import Output
from volar.tokenizers import TABLE


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Fit every tokenizer on most episodes of a LeRobot data set and measure it on the others."""

    action: tyro.conf.Positional[Literal["compare"]]
    """the only one so far"""
    dataset: tyro.conf.Positional[str]
    """folder or URL of a data set"""
    names: tuple[str, ...] = tuple(TABLE)
    """which tokenizers; `volar list tokenizers` names them"""
    horizon: int = 16
    """actions per chunk"""
    splits: int = 3
    """random splits by episode; intervals are over them"""
    gripper: tuple[int, ...] | None = None
    """dimensions that switch; by default those whose name contains "grip" """
    seed: int = 0
    """of the splits and of what is learned"""
    out: Path = Path("tokenizers.html")
    """one HTML page with all measurements and drawings"""


def compare(command: Compare) -> Output:
    """Raises ConfigError before anything is fitted."""
    from rich.console import Console

    from volar.core.atomic import write_files
    from volar.evaluation.token_page import console_table, page
    from volar.evaluation.tokens import compare as measure
    from volar.evaluation.tokens import read_motions

    motions = read_motions(command.dataset, grippers=command.gripper)
    comparison = measure(
        motions, command.names, horizon=command.horizon, splits=command.splits, seed=command.seed,
        progress=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    console = Console(width=150)
    with console.capture() as captured:
        console.print(console_table(comparison))
    write_files({command.out: page(comparison).encode()})
    text = f"{captured.get()}\nAll measurements and drawings: {command.out}"
    return Output(plain(asdict(comparison)), text)


def plain(value: Any) -> Any:
    """Arrays and tuples of a comparison as lists, for JSON."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if type(value).__module__ == "numpy" else value


def main(arguments: list[str]) -> Output:
    return compare(tyro.cli(Compare, prog="volar tokenizers", args=arguments))
