"""The command line: the only place where everything meets. One module per command, imported when it is called.

Each module has `main(arguments) -> Output`. Results go to stdout, progress to stderr. Exit codes: 0 done, 1 our bug,
2 the request cannot work, 3 stopped because going on made no sense, 130 Ctrl-C.
"""

import json
import os
import sys
from importlib import import_module

from volar.cli.output import Output
from volar.core.errors import ConfigError, EpisodeError, RobotFault, unknown_name

COMMANDS = {
    "compare": "does B really beat A? equal compute, paired scenes, a test that may stop early, one page",
    "demo": "everything end to end on Meta-World: collect, train, evaluate, report",
    "collect": "let a scripted expert demonstrate tasks; writes a LeRobot v3.0 data set",
    "data": "look at, check, convert, merge, split and curate data sets",
    "train": "train a recipe on a data set, or continue a run",
    "evaluate": "run paired episodes of policies and control arms; continues where it stopped",
    "report": "one self-contained HTML page from a run",
    "published": "what two success rates from papers allow to say, and what not",
    "serve": "put a policy behind a WebSocket, for robots and simulators in other processes",
    "serve-env": "put simulators behind a WebSocket, for tasks named remote/HOST:PORT/ENVIRONMENT/TASK",
    "bridge": "a model server of vla-eval as a policy server of ours, for compare",
    "import-results": "take over what vla-eval wrote, for report and compare",
    "info": "describe a data set, a checkpoint or a run",
    "list": "list the members of a family: decoders, backbones, environments, tasks ...",
    "weights": "install, list or verify the pretrained weights of the compact backbone",
    "tokenizers": "compare action tokenizers on a data set",
    "compose": "several checkpoints as one policy, with given weights or with searched ones",
    "language": "policies without training: a language model sets the parameters of movement primitives",
    "plan": "a policy alone and under planners that try its chunks in the simulator first",
    "plan-study": "how many episodes a comparison needs, before any is run",
}


def help_text() -> str:
    rows = "\n".join(f"  {name:<16}{line}" for name, line in COMMANDS.items())
    return (
        "usage: volar COMMAND [OPTIONS]\n\n"
        "Vision-language-action policies as exchangeable parts, compared honestly under equal compute.\n\n"
        f"commands:\n{rows}\n\n"
        "everywhere:\n"
        "  --json     machine-readable result on stdout\n"
        "  --debug    show the traceback of an error\n"
        "  --version  versions of volar and of what it stands on\n\n"
        "volar COMMAND --help tells a command's options."
    )


def main(arguments: list[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json, debug = "--json" in words, "--debug" in words
    words = [word for word in words if word not in ("--json", "--debug")]
    try:
        output = _run(words)
        output.print(as_json=as_json)
        return output.exit_code
    except BrokenPipeError:  # whoever read our output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ConfigError as error:
        return _fail(error, 2, as_json=as_json, debug=debug)
    except (RobotFault, EpisodeError, OSError) as error:
        return _fail(error, 3, as_json=as_json, debug=debug)
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept; the same command goes on from there.", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        error.add_note("This is a bug in volar; --debug shows where.")
        return _fail(error, 1, as_json=as_json, debug=False)


def _run(words: list[str]) -> Output:
    if words and words[0] == "--version":
        from volar.core.fingerprint import package_versions

        return Output(package_versions())
    if not words or words[0] in ("-h", "--help", "help"):
        return Output({"commands": COMMANDS}, help_text())
    if words[0] not in COMMANDS:
        raise unknown_name("command", words[0], COMMANDS)
    module = "members" if words[0] == "list" else words[0].replace("-", "_")  # `list` would hide the builtin here
    return import_module(f"volar.cli.{module}").main(words[1:])


def _fail(error: BaseException, code: int, *, as_json: bool, debug: bool) -> int:
    if debug:
        raise error
    message = "\n".join([str(error) or type(error).__name__, *error_notes(error)])
    if as_json:
        print(
            json.dumps({"error": {"kind": type(error).__name__, "message": message, "exit_code": code}}),
            file=sys.stderr,
        )
    else:
        print(f"{type(error).__name__}: {message}", file=sys.stderr)
    return code


def error_notes(error: BaseException) -> list[str]:
    return list(error.__notes__) if "__notes__" in error.__dict__ else []
