"""Kills a recording process with SIGKILL at random moments and checks, each time, that every saved episode is there.

python bench/recording_kills.py [--kills 200]. The same recording goes on from kill to kill. Prints one line of JSON.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro

from volar.data.formats import open_dataset

TESTS = Path(__file__).parent.parent / "tests"
sys.path.insert(0, str(TESTS))

from recordings import make_trajectory, open_writer  # noqa: E402


def main(kills: int = 200, seed: int = 0, restart_every: int = 25) -> None:
    generator, intact, unannounced, leftovers = np.random.default_rng(seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        for kill in range(kills):
            root = Path(scratch) / str(kill // restart_every)
            child = subprocess.Popen([sys.executable, TESTS / "recordings.py", root], stdout=subprocess.PIPE, text=True)
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(int(generator.integers(1, 4)))]
            time.sleep(generator.uniform(0, 0.06))
            child.kill()
            said = int([*lines, *child.communicate()[0].splitlines()][-1]) + 1
            dataset = open_dataset(root)
            saved = len(dataset.episodes)
            made = [make_trajectory(episode) for episode in range(saved)]
            same = np.array_equal(dataset.arrays["action"], np.concatenate([episode.actions for episode in made]))
            same &= np.array_equal(
                dataset.frames("wrist", range(dataset.num_frames)),
                np.concatenate([episode.images["wrist"] for episode in made]),
            )
            dataset.frames("front", range(dataset.num_frames))
            intact += bool(same) and saved in (said, said + 1)
            unannounced += saved == said + 1
            leftovers += any(root.rglob("*.tmp"))
            open_writer(root).close()
    facts = {"kills": kills, "intact": intact, "one_more_than_said": unannounced, "killed_while_writing": leftovers}
    print(json.dumps(facts))


if __name__ == "__main__":
    tyro.cli(main)
