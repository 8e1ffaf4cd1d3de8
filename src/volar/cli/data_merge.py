"""`volar data merge A B ... --out OUT`: data sets of one robot become one."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.cli.output import Output
from volar.cli.rewriting import Target, summary, text
from volar.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Merge(Target):
    """Write the episodes of all SOURCES into one LeRobot v3.0 data set, in the order given. Data sets that differ in
    rate, features or robot are refused with a list of all differences. Goes on where it was interrupted."""

    sources: tyro.conf.Positional[tuple[str, ...]]
    """data sets of any format that volar reads"""
    out: Path
    """folder of the new data set"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Merge, prog="volar data merge", args=arguments)
    if len(command.sources) < 2:
        raise ConfigError(f"Merging takes at least two data sets, got {list(command.sources)}.")

    from volar.data.formats import open_dataset
    from volar.data.rewrite import Piece, rewrite

    datasets = [open_dataset(source) for source in command.sources]
    hashes = [dataset.content_hash() for dataset in datasets]
    for index, content in enumerate(hashes):
        if content in hashes[:index]:
            same = command.sources[hashes.index(content)]
            raise ConfigError(f"{command.sources[index]} and {same} hold the same; every episode would be there twice.")
    pieces = [Piece(dataset=dataset, episodes=tuple(range(len(dataset.episodes)))) for dataset in datasets]
    results = [rewrite(pieces, command.out, choices=command.choices(), progress=True)]
    return Output(summary(results), text(results))
