"""A million random and adversarial chunks through every tokenizer, and as many wrong sequences: nothing may raise, be
non-finite, leave the range of the fit or come back as silent zeros.

    python bench/tokenizers/fuzz.py --chunks 1000000 --out bench/tokenizers/fuzz.json
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
import tyro
from motions import smooth_motions

from volar.core.model import Tokenizer
from volar.core.registry import build_config
from volar.tokenizers import TABLE

STEPS, DIMS, CONSTANT = 16, 5, 0.3
QUICK = {"steps": 150}  # of training: what is asked here does not depend on how well codes fit
OPTIONS: dict[str, dict[str, Any]] = {"vq": QUICK, "rvq": QUICK, "fsq": QUICK, "spline_rvq": QUICK}


@dataclass(frozen=True, kw_only=True)
class Fuzz:
    """chunks: of each tokenizer."""

    out: Path
    chunks: int = 1_000_000
    batch: int = 5000
    seed: int = 0


def motions(count: int, seed: int) -> np.ndarray:
    """Three joints, a gripper and a dimension that never moves."""
    moving = smooth_motions(count, steps=STEPS, joints=3, seed=seed)
    return np.concatenate([moving, np.full((count, STEPS, 1), CONSTANT, np.float32)], axis=-1)


def usual(random: np.random.Generator, count: int) -> np.ndarray:
    return motions(count, int(random.integers(2**31)))


def noise_of_any_size(random: np.random.Generator, count: int) -> np.ndarray:
    return random.normal(size=(count, STEPS, DIMS)) * 10 ** random.uniform(-30, 30, size=(count, 1, 1))


def spikes(random: np.random.Generator, count: int) -> np.ndarray:
    chunks = usual(random, count)
    where = random.uniform(size=chunks.shape) < 0.05
    return np.where(where, random.choice([-3e38, -1e9, -2.0, 0.0, 2.0, 1e9, 3e38], size=chunks.shape), chunks)


def alternating_extremes(random: np.random.Generator, count: int) -> np.ndarray:
    signs = np.where(np.arange(STEPS) % random.integers(2, 5, size=(count, 1)) == 0, 1.0, -1.0)
    return signs[..., None] * random.uniform(0, 2, size=(count, 1, DIMS))


def constants(random: np.random.Generator, count: int) -> np.ndarray:
    return np.broadcast_to(random.uniform(-3, 3, size=(count, 1, DIMS)), (count, STEPS, DIMS))


def tiny(random: np.random.Generator, count: int) -> np.ndarray:
    return random.choice([0.0, -0.0, 1e-45, -1e-45, 1e-38], size=(count, STEPS, DIMS))


KINDS = (usual, noise_of_any_size, spikes, alternating_extremes, constants, tiny)


def wrong(tokens: list[list[int]], vocabulary: int, random: np.random.Generator) -> list[list[int]]:
    """Flipped, cut, lengthened, shuffled, invented and empty sequences."""
    changed = []
    for index, sequence in enumerate(tokens):
        other = list(sequence)
        place, token = int(random.integers(len(other))), int(random.integers(vocabulary))
        match index % 6:
            case 0:
                other[place] = token
            case 1:
                other = other[:place]
            case 2:
                other[place:place] = [token] * int(random.integers(1, 9))
            case 3:
                random.shuffle(other)
            case 4:
                other = random.integers(vocabulary, size=int(random.integers(2 * len(other)))).tolist()
            case 5:
                other.pop(place)
        changed.append(other)
    return changed


def faults(decoded: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> dict[str, int]:
    outside = (decoded < low - 1e-5) | (decoded > high + 1e-5)
    return {
        "not finite": int((~torch.isfinite(decoded)).any(dim=(1, 2)).sum()),
        "outside the fit": int(outside.any(dim=2).any(dim=1).sum()),
        "silent zeros": int((decoded.abs() < 1e-9).all(dim=2).all(dim=1).sum()),
    }


def fuzz(name: str, command: Fuzz, seen: torch.Tensor) -> dict[str, Any]:
    cls = TABLE.load(name)
    tokenizer: Tokenizer = cls(build_config(cls, OPTIONS.get(name, {})), horizon=STEPS, action_dim=DIMS)
    tokenizer.fit(seen, generator=torch.Generator().manual_seed(command.seed))
    low, high = seen.amin(dim=(0, 1)), seen.amax(dim=(0, 1))
    random = np.random.default_rng(command.seed)
    found: Counter[str] = Counter()
    start = time.process_time()
    for done in range(0, command.chunks, command.batch):
        kind: Callable[..., np.ndarray] = KINDS[done // command.batch % len(KINDS)]
        with np.errstate(over="ignore"):
            chunks = torch.from_numpy(np.clip(kind(random, command.batch), -3e38, 3e38).astype(np.float32))
        tokens = tokenizer.encode(chunks)
        found.update(faults(tokenizer.decode(tokens), low, high))
        before = tokenizer.invalid_decodes
        found.update(faults(tokenizer.decode(wrong(tokens, tokenizer.vocabulary, random)), low, high))
        found["invalid and counted"] += tokenizer.invalid_decodes - before
    return {
        "chunks": command.chunks, "wrong sequences": command.chunks, **found, "numbers clamped": tokenizer.saturated,
        "CPU seconds": round(time.process_time() - start),
    }  # fmt: skip


def main(command: Fuzz) -> None:
    torch.set_num_threads(1)
    seen = torch.from_numpy(motions(1000, seed=12345))
    results = {}
    for name in TABLE:
        results[name] = fuzz(name, command, seen)
        print(name, results[name], flush=True)
        command.out.write_text(json.dumps(results, indent=1) + "\n")
    broken = [name for name, row in results.items() if any(row[key] for key in faults(seen, seen, seen))]
    sys.exit(f"Faults in {', '.join(broken)}." if broken else 0)


if __name__ == "__main__":
    main(tyro.cli(Fuzz))
