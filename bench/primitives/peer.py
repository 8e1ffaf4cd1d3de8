"""Our movement primitives beside the package `movement_primitives` (PyPI): the same motions, and the time for 256.

Run: VOLAR_PRIMITIVES_PYTHON=python-that-has-movement_primitives python bench/primitives/peer.py
Writes docs/results/primitives/peer.json; tests/test_primitives.py holds us to the motions in it.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from volar.nn.primitives.discrete import Discrete, discrete_response
from volar.nn.primitives.orientation import turn
from volar.nn.primitives.promp import ProMP, conditioned, moments
from volar.nn.primitives.response import Parameters, motion

RESULT = Path(__file__).parents[2] / "docs" / "results" / "primitives" / "peer.json"
BATCH, ROUNDS, POINTS = 256, 15, 101
PEER = Path(__file__).parent / "peer_side.py"


def ours() -> dict[str, Callable[[], object]]:
    random = np.random.default_rng(0)
    weights = torch.tensor(random.normal(0, 50, (BATCH, 3, 10)))
    times = torch.linspace(0, 1, POINTS, dtype=torch.float64)
    response = discrete_response(Discrete())
    zeros, ones = torch.zeros(BATCH, 3, dtype=torch.float64), torch.ones(BATCH, 3, dtype=torch.float64)
    parameters = Parameters(start=zeros, speed=zeros, goal=ones, weights=weights, duration=ones[:, 0])
    start = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64).expand(BATCH, 4)
    goal = torch.tensor([[0.6, 0.8, 0, 0]], dtype=torch.float64).expand(BATCH, 4)

    def turned() -> object:
        return turn(
            Discrete(), start=start, goal=goal, weights=weights, duration=ones[:, 0], times=times, steps=POINTS - 1
        )

    eye = torch.eye(30, dtype=torch.float64)
    promp = ProMP(mean=torch.zeros(BATCH, 3, 10, dtype=torch.float64), covariance=eye.expand(BATCH, 30, 30))
    noise = 1e-6 * torch.eye(3, dtype=torch.float64)
    return {
        "discrete": lambda: motion(response, parameters, times),
        "orientation": turned,
        "promp": lambda: moments(conditioned(promp, 0.5, ones, noise), times),
    }


def main() -> None:
    torch.set_num_threads(1)
    peer = subprocess.Popen(
        [os.environ["VOLAR_PRIMITIVES_PYTHON"], str(PEER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert peer.stdin is not None and peer.stdout is not None
    motions = json.loads(peer.stdout.readline())
    times: dict[str, dict[str, list[float]]] = {}
    for _ in range(ROUNDS):  # by turns, so that a busy moment of the machine hits both
        for name, call in ours().items():
            call()
            began = time.process_time()
            call()
            times.setdefault(name, {"ours": [], "peer": []})["ours"].append(time.process_time() - began)
            peer.stdin.write(name + "\n")
            peer.stdin.flush()
            times[name]["peer"].append(float(peer.stdout.readline()))
    peer.stdin.close()
    speed = {
        name: {
            "ours_ms": round(1000 * median(both["ours"]), 3),
            "peer_ms": round(1000 * median(both["peer"]), 3),
            "ratio": round(median(p / o for p, o in zip(both["peer"], both["ours"], strict=True)), 1),
        }
        for name, both in times.items()
    }
    about = {"batch": BATCH, "points": POINTS, "dimensions": 3,
             "rounds": ROUNDS, "torch": torch.__version__}  # fmt: skip
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"about": {**about, **motions.pop("about")}, "cpu_time": speed, **motions}, indent=1))
    print(json.dumps(speed, indent=1))


if __name__ == "__main__":
    main()
