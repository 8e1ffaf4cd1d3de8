"""Damages every kind of file of a data set at random; counts what reading then says. Prints one line of JSON.

python bench/data_damage.py [--rounds 4000] [--root FOLDER]: FOLDER, or a small recording made here. "named": a
ConfigError with the place; "same": the damage changed nothing; "other": wrong data; "crash": any other exception.
"""

import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import tyro

from volar.core.errors import ConfigError
from volar.data.formats import open_dataset

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from recordings import open_writer, record


def content(root: Path) -> list[object]:
    dataset = open_dataset(root, decoded_bytes=0)
    pictures = [dataset.frames(camera.name, range(dataset.num_frames)).tobytes() for camera in dataset.cameras]
    return [dataset.spec, dataset.tasks, *[array.tobytes() for array in dataset.arrays.values()], *pictures]


def damaged(good: bytes, generator: np.random.Generator) -> bytes:
    """Cut short, one bit flipped, 16 random bytes, a hole, or one bit flipped near the end."""
    bad, kind = bytearray(good), generator.integers(5)
    place = int(generator.integers(max(len(good) - 400, 0) if kind == 4 else 0, len(good)))
    if kind == 0:
        return good[:place]
    if kind in (1, 4):
        bad[place] ^= 1 << int(generator.integers(8))
    elif kind == 2:
        bad[place : place + 16] = generator.bytes(len(bad[place : place + 16]))
    else:
        del bad[place : place + int(generator.integers(1, 64))]
    return bytes(bad)


def main(rounds: int = 4000, root: Path | None = None, seed: int = 0) -> None:
    generator, counts = np.random.default_rng(seed), Counter()
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "data"
        if root is None:
            with open_writer(copy) as writer:
                for episode in range(4):
                    record(writer, episode)
        else:
            shutil.copytree(root, copy)
        whole = content(copy)
        kinds: dict[str, list[Path]] = {}
        for path in sorted(copy.rglob("*.*")):
            if path.is_file() and path.name not in (".lock", "stats.json"):
                kinds.setdefault(path.parent.relative_to(copy).parts[0] + path.name[:4], []).append(path)
        for turn in range(rounds):
            files = kinds[sorted(kinds)[turn % len(kinds)]]
            path = files[generator.integers(len(files))]
            good = path.read_bytes()
            path.write_bytes(damaged(good, generator))
            try:
                counts["same" if content(copy) == whole else "other"] += 1
            except ConfigError as error:
                counts["named" if str(copy) in str(error) else "unnamed"] += 1
            except Exception as error:  # the point of this script is to count them
                counts["crash"] += 1
                print(path.relative_to(copy), repr(error), file=sys.stderr)
            path.write_bytes(good)
    print(json.dumps({"rounds": rounds, **counts}))


if __name__ == "__main__":
    tyro.cli(main)
