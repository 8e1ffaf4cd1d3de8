"""`volar data convert SOURCE --out OUT`: a data set of any format that volar reads, as LeRobot v3.0."""

from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from volar.cli.output import Output
from volar.cli.rewriting import Target, summary, text


@dataclass(frozen=True, kw_only=True)
class Convert(Target):
    """Write SOURCE anew as a LeRobot v3.0 data set; numbers keep every bit. Goes on where it was interrupted."""

    source: tyro.conf.Positional[str]
    """a data set of any format that volar reads"""
    out: Path
    """folder of the new data set"""
    fps: float | None = None
    """frames per second, where what SOURCE says is wrong; times are written anew, films are encoded anew"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Convert, prog="volar data convert", args=arguments)

    from volar.data.formats import open_dataset
    from volar.data.rewrite import Piece, rewrite

    choices, dataset = replace(command.choices(), fps=command.fps), open_dataset(command.source)
    everything = tuple(range(len(dataset.episodes)))
    results = [rewrite([Piece(dataset=dataset, episodes=everything)], command.out, choices=choices, progress=True)]
    return Output(summary(results), text(results))
