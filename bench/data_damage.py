"""Damages small data sets of every format at random; counts what reading then says. Prints one line of JSON a format.

python bench/data_damage.py [--rounds 1000] [--formats RLDS robomimic] [--root FOLDER] [--seed 0]: rounds per format.
tests/damage.py tells what is done and what the counts mean; beside these, "hang" is over 20 s, "large" over 1 GiB,
"died" a killed process. Faults are told on stderr; --formats F --first ROUND --rounds 1 repeats one.
"""

import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from zlib import crc32

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from damage import DAMAGES, FINE, MAKERS, Copy, Outcome

HANG_S, LARGE_KIB, LIMIT_BYTES = 20, 2**20, 6 * 2**30


def copied(root: Path, folder: Path) -> Path:
    """A writable copy, whatever the rights of the original."""
    shutil.copytree(root, folder / "data", copy_function=shutil.copyfile)
    for path in [folder / "data", *(folder / "data").rglob("*")]:
        path.chmod(0o755)
    return folder / "data"


def damage(
    name: str, root: Path | None, rounds: range, seed: int, folder: Path, told: "Connection[Outcome | None, None]"
) -> None:
    """Tells of every round what came of it."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    copy = Copy(copied(root, folder) if root else MAKERS[name](folder))
    told.send(None)
    for turn in rounds:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome = copy.read_damaged(kind_of(turn), np.random.default_rng([seed, turn, crc32(name.encode())]))
        if outcome and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > LARGE_KIB:
            outcome = Outcome(says="large", where=outcome.where, error=outcome.error)
        told.send(outcome)


def kind_of(turn: int) -> str:
    return list(DAMAGES)[turn % len(DAMAGES)]


def count(name: str, root: Path | None, rounds: range, seed: int) -> dict[str, Counter[str]]:
    """Kind of damage -> outcomes. A process that hangs or dies is replaced by one that goes on behind that round."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in DAMAGES}
    turn = rounds.start
    while turn < rounds.stop:
        with tempfile.TemporaryDirectory() as scratch:
            told, tell = multiprocessing.Pipe(duplex=False)
            arguments = (name, root, range(turn, rounds.stop), seed, Path(scratch), tell)
            process = multiprocessing.get_context("spawn").Process(target=damage, args=arguments)
            process.start()
            tell.close()
            told.recv()
            for turn in range(turn, rounds.stop):  # noqa: B020
                outcome = awaited(told)
                if outcome:
                    counts[kind_of(turn)][outcome.says] += 1
                    if outcome.says not in FINE:
                        what = f"{kind_of(turn)} of {outcome.where}: {outcome.says} {outcome.error[:300]}"
                        print(f"{name}: round {turn}, {what}", file=sys.stderr, flush=True)
                    if outcome.says in ("hang", "died"):
                        break
            process.kill()
            process.join()
            turn += 1
    return counts


def awaited(told: "Connection[None, Outcome | None]") -> Outcome | None:
    if not told.poll(HANG_S):
        return Outcome(says="hang", where="?")
    try:
        return told.recv()
    except EOFError:
        return Outcome(says="died", where="?")


def main(
    rounds: int = 1000, formats: tuple[str, ...] = (), root: Path | None = None, seed: int = 0, first: int = 0
) -> None:
    for name in [str(root)] if root else formats or MAKERS:
        counts = count(name, root, range(first, first + rounds), seed)
        total = sum(counts.values(), Counter())
        faults = sum(number for says, number in total.items() if says not in FINE)
        unnoticed = {kind: each["unnoticed"] for kind, each in counts.items() if each["unnoticed"]}
        line = {"format": name, "mutations": sum(total.values()), **total, "faults": faults, "unnoticed in": unnoticed}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    tyro.cli(main)
