"""`volar language ...`: policies by language, one module per sub-command, imported when it is called."""

from importlib import import_module

from volar.cli.output import Output
from volar.core.errors import unknown_name

COMMANDS: dict[str, str] = {
    "write": "a folder that acts as a policy wherever a checkpoint does: evaluate, compare, report",
    "plan": "the first motion that it would make, in words; nothing moves",
    "run": "one episode, told motion by motion; --confirm asks a person before each",
    "summary": "of an evaluation: success by the number of corrections, and what the model cost",
    "tune": "a small language model taught offline to set movement primitives; the local back end takes it",
    "exam": "what such a model, or SmolLM2 as it is, gets right of questions that no lesson had",
}


def help_text() -> str:
    rows = "\n".join(f"  {name:<9}{line}" for name, line in COMMANDS.items())
    return (
        "usage: volar language COMMAND [OPTIONS]\n\n"
        f"commands:\n{rows}\n\nvolar language COMMAND --help tells its options."
    )


def main(arguments: list[str]) -> Output:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return Output({"commands": COMMANDS}, help_text())
    if arguments[0] not in COMMANDS:
        raise unknown_name("language command", arguments[0], COMMANDS)
    return import_module(f"volar.cli.language_{arguments[0]}").main(arguments[1:])
