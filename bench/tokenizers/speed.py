"""Our FAST and BEAST against the public implementations, on the same chunks, in one process, one thread, CPU time,
rounds interleaved. The public code is not part of this repository: fetch it and name its folders.

--peer-fast FOLDER: holds action_tokenizer.py with UniversalActionProcessor (lerobot 18f0dfe,
    src/lerobot/policies/molmoact2/hf_model/; needs transformers).
--peer-beast FOLDER: holds beast_peer.py with BEASTBsplineTokenizer(num_dof, num_basis, seq_len, gripper_indices),
    fit_parameters(batches), encode(chunks), reconstruct_traj(tokens) (Dont4rootMe/beast_tokenizer 4835d9a; its
    classes there take more arguments and need mp_pytorch, wrap them).

    python bench/tokenizers/speed.py --peer-fast FOLDER --peer-beast FOLDER --out bench/tokenizers/speed.json
"""

import contextlib
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
import tyro
from motions import smooth_motions

from volar.tokenizers.beast import Beast
from volar.tokenizers.fast import Fast

STEPS, DIMS = 50, 7


@dataclass(frozen=True, kw_only=True)
class Speed:
    """See the module's text. chunks: raced and measured; many: further ones, in which wrong answers are counted."""

    peer_fast: Path
    peer_beast: Path
    out: Path
    fitted: int = 2000
    chunks: int = 1000
    many: int = 20_000
    singles: int = 100
    rounds: int = 7


@dataclass(frozen=True)
class Side:
    """What is timed: a batch to tokens, tokens to a batch; chunks [n h a] in, [n h a] out."""

    encode: Callable[[np.ndarray], Any]
    decode: Callable[[Any], np.ndarray]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def race(ours: Side, theirs: Side, chunks: np.ndarray, command: Speed) -> dict[str, Any]:
    """Median microseconds per chunk of each job and side, and the ratio of medians."""
    singles = [chunks[index : index + 1] for index in range(command.singles)]
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(command.rounds + 1):
        for name, side in {"ours": ours, "theirs": theirs}.items():
            spent, tokens = timed(lambda side=side: side.encode(chunks))
            times.setdefault(("encode batch", name), []).append(spent / len(chunks))
            spent, _ = timed(lambda side=side, tokens=tokens: side.decode(tokens))
            times.setdefault(("decode batch", name), []).append(spent / len(chunks))
            few = singles if name == "ours" or turn < 3 else singles[:20]
            spent, each = timed(lambda side=side, few=few: [side.encode(chunk) for chunk in few])
            times.setdefault(("encode one", name), []).append(spent / len(few))
            spent, _ = timed(lambda side=side, each=each: [side.decode(one) for one in each])
            times.setdefault(("decode one", name), []).append(spent / len(few))
    result = {}
    for job in ("encode batch", "decode batch", "encode one", "decode one"):
        micro = {name: 1e6 * statistics.median(times[job, name][1:]) for name in ("ours", "theirs")}  # first: warm-up
        result[job] = {**micro, "ratio": micro["theirs"] / micro["ours"]}
    return result


def rmse(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.sqrt(((found - true) ** 2).mean()))


def off(found: np.ndarray, true: np.ndarray) -> int:
    """How many chunks have a number that is wrong by more than half of its dimension's range."""
    return int((np.abs(found - true).max(axis=(1, 2)) > 1).sum())


def zeros(decoded: np.ndarray) -> int:
    return int((np.abs(decoded) < 1e-9).all(axis=(1, 2)).sum())


def race_fast(noise: float, command: Speed) -> dict[str, Any]:
    """Both get the chunks scaled by the training quantiles, which the public processor expects."""
    train = smooth_motions(command.fitted, steps=STEPS, noise=noise, seed=1)
    test = smooth_motions(command.chunks, steps=STEPS, noise=noise, seed=2)
    low, high = np.quantile(train.reshape(-1, DIMS), [0.01, 0.99], axis=0)

    def scaled(motions: np.ndarray) -> np.ndarray:
        return (2 * (motions - low) / (high - low) - 1).astype(np.float32)

    train, test = scaled(train), scaled(test)
    tokenizer = Fast(Fast.Config(), horizon=STEPS, action_dim=DIMS)
    our_fit, _ = timed(lambda: tokenizer.fit(torch.from_numpy(train)))
    processor = import_module("action_tokenizer").UniversalActionProcessor
    their_fit, peer = timed(lambda: processor.fit(list(train), time_horizon=STEPS, action_dim=DIMS))
    ours = Side(lambda x: tokenizer.encode(torch.from_numpy(x)), lambda t: tokenizer.decode(t).numpy())
    theirs = Side(peer, lambda t: peer.decode(t, time_horizon=STEPS, action_dim=DIMS))
    with contextlib.redirect_stdout(io.StringIO()):  # the peer prints every sequence that it cannot decode
        times = race(ours, theirs, test, command)
        sides = {"ours": ours, "theirs": theirs}
        tokens = {name: side.encode(test) for name, side in sides.items()}
        decoded = {name: side.decode(tokens[name]) for name, side in sides.items()}
        further = scaled(smooth_motions(command.many, steps=STEPS, noise=noise, seed=3))
        answers = {name: side.decode(side.encode(further)) for name, side in sides.items()}
    return {
        **times,
        "fit seconds": {"ours": our_fit, "theirs": their_fit},
        "tokens": {name: float(np.mean([len(one) for one in each])) for name, each in tokens.items()},
        "rmse": {name: rmse(found, test) for name, found in decoded.items()},
        f"largest error of {command.many}": {
            name: float(np.abs(found - further).max()) for name, found in answers.items()
        },
        f"of {command.many} off by more than half the range": {
            name: off(found, further) for name, found in answers.items()
        },
        f"of {command.many} answered with zeros": {name: zeros(found) for name, found in answers.items()},
        "numbers clamped and counted": tokenizer.saturated,
    }


def race_beast(noise: float, command: Speed) -> dict[str, Any]:
    train = smooth_motions(command.fitted, steps=STEPS, noise=noise, seed=1)
    test = smooth_motions(command.chunks, steps=STEPS, noise=noise, seed=2)
    tokenizer = Beast(Beast.Config(gripper=(DIMS - 1,)), horizon=STEPS, action_dim=DIMS)
    tokenizer.fit(torch.from_numpy(train))
    peer = import_module("beast_peer").BEASTBsplineTokenizer(
        DIMS, num_basis=10, seq_len=STEPS, gripper_indices=[DIMS - 1]
    )
    peer.fit_parameters(torch.from_numpy(train).split(500))
    ours = Side(lambda x: tokenizer.encode(torch.from_numpy(x)), lambda t: tokenizer.decode(t).numpy())
    theirs = Side(lambda x: peer.encode(torch.from_numpy(x)), lambda t: peer.reconstruct_traj(t).numpy())
    times = race(ours, theirs, test, command)
    joints = slice(0, DIMS - 1)
    errors = {
        name: rmse(side.decode(side.encode(test))[..., joints], test[..., joints])
        for name, side in {"ours": ours, "theirs": theirs}.items()
    }
    return {**times, "rmse of the joints": errors}


def main(command: Speed) -> None:
    torch.set_num_threads(1)
    sys.path[:0] = [str(command.peer_fast), str(command.peer_beast)]
    results = {
        f"{name}, noise {noise}": run(noise, command)
        for name, run in {"fast": race_fast, "beast": race_beast}.items()
        for noise in (0.0, 0.02)
    }
    command.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Speed))
