"""`volar data split SOURCE --out OUT`: some episodes of a data set, or all of them shared out to several."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.cli.output import Output
from volar.cli.rewriting import Target, summary, text
from volar.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Split(Target):
    """Write episodes of SOURCE as LeRobot v3.0 data sets of their own. One of --fractions, --by-task (a folder for
    each below OUT) or --episodes (OUT itself) says which. Goes on where it was interrupted."""

    source: tyro.conf.Positional[str]
    """a data set of any format that volar reads"""
    out: Path
    """folder of the new data set, or of the folders of several"""
    fractions: dict[str, float] | None = None
    """names and shares that sum to 1, such as train 0.8 validation 0.2; every task is shared out alike"""
    seed: int = 0
    """of which episodes --fractions puts where"""
    by_task: bool = False
    """one data set for every instruction"""
    episodes: str | None = None
    """such as 0-9,12, or @FILE with a list that `volar data curate` wrote"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Split, prog="volar data split", args=arguments)
    ways = {"--fractions": bool(command.fractions), "--by-task": command.by_task, "--episodes": bool(command.episodes)}
    if sum(ways.values()) != 1:
        given = [way for way, chosen in ways.items() if chosen]
        raise ConfigError(f"Say how to split with one of {', '.join(ways)}; got {' and '.join(given) or 'none'}.")
    if bad := [name for name in command.fractions or {} if not name.replace("-", "").replace("_", "").isalnum()]:
        raise ConfigError(f"The names of fractions become folders: letters, digits, - and _ only, got {bad}.")

    from volar.data.formats import open_dataset
    from volar.data.rewrite import Piece, rewrite
    from volar.data.selection import by_fractions, by_task, parse_episodes

    choices, dataset = command.choices(), open_dataset(command.source)
    if command.episodes:
        groups = {"": parse_episodes(command.episodes, len(dataset.episodes))}
    elif command.fractions:
        groups = by_fractions(dataset.episodes, command.fractions, command.seed)
    else:
        groups = by_task(dataset.episodes)
    results = [
        rewrite([Piece(dataset=dataset, episodes=part)], command.out / name, choices=choices, progress=True)
        for name, part in groups.items()
    ]
    return Output(summary(results), text(results))
