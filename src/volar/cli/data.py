"""`volar data ...`: everything about data sets, one module per sub-command, imported when it is called."""

from importlib import import_module

from volar.cli.output import Output
from volar.core.errors import unknown_name

COMMANDS: dict[str, str] = {
    "info": "what a data set holds, how its pictures are stored, and how fast they are read",
    "stats": "exact statistics of every number, of sets larger than memory too; --write renews stats.json",
    "check": "what is wrong with it: statistics, units, cameras, copies, lags, words; exit codes for CI",
    "convert": "a data set of any format that volar reads, as LeRobot v3.0",
    "merge": "data sets of one robot become one",
    "split": "some episodes, or all of them shared out to several data sets",
    "label": "marks on pictures and words for every frame, made from what the robot did",
    "curate": "score demonstrations, keep the best of every task, weigh the rest",
    "rollouts": "record what a policy does, successes and failures, for scores that learn from outcomes",
    "branches": "record what comes of every candidate at states that a policy meets, for learned values",
    "view": "an offline HTML browser of episodes: films, curves, instructions, findings",
}


def help_text() -> str:
    rows = "\n".join(f"  {name:<9}{line}" for name, line in COMMANDS.items())
    return f"usage: volar data COMMAND [OPTIONS]\n\ncommands:\n{rows}\n\nvolar data COMMAND --help tells its options."


def main(arguments: list[str]) -> Output:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return Output({"commands": COMMANDS}, help_text())
    if arguments[0] not in COMMANDS:
        raise unknown_name("data command", arguments[0], COMMANDS)
    return import_module(f"volar.cli.data_{arguments[0]}").main(arguments[1:])
