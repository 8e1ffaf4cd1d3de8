"""Training steps per second with and without the feature cache, and what a chunk costs the finished policy.

    python bench/training.py --data runs/demo/data --out docs/results/training.md

Interleaved: every round measures each variant once; medians over rounds. One process, the given number of threads.
"""

import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro

from volar.cli.demo import recipe
from volar.core.fingerprint import fingerprint
from volar.core.robot import Observation
from volar.policies.actor import PolicyActor
from volar.policies.vla import Policy
from volar.train.config import TrainConfig
from volar.train.demonstrations import new_policy, open_demonstrations, prepare_data, to_batch


@dataclass(frozen=True, kw_only=True)
class Bench:
    data: Path
    out: Path
    rounds: int = 5
    steps: int = 4
    threads: int = 2


def variant(config: TrainConfig, data: Path, *, cached: bool, decoder: str, cache: Path):
    config = replace(config, cache_features=cached, policy=replace(config.policy, decoder=decoder))
    parts = [replace(part, cache=cache) for part in open_demonstrations([data], config)]
    policy = new_policy(parts, config)
    splits = prepare_data(parts, policy, config, progress=True)
    return config, policy, splits.train


def seconds_per_step(config: TrainConfig, policy: Policy, windows, steps: int) -> float:
    trainable = [value for value in policy.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4)
    random = np.random.default_rng(0)
    started = time.perf_counter()
    for _ in range(steps):
        raw = windows.__getitems__(random.integers(len(windows), size=config.batch).tolist())
        loss = policy.loss(to_batch(policy, raw, torch.device("cpu"))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - started) / steps


def seconds_per_chunk(policy: Policy) -> float:
    actor = PolicyActor(policy, execute=1)
    camera = policy.robot.cameras[0]
    picture = np.random.default_rng(0).integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
    observation = Observation(
        images={camera.name: picture}, proprioception=np.zeros(len(policy.robot.proprioception), np.float32),
        instruction="open the faucet", time=0.0,
    )  # fmt: skip
    actor.reset(0)
    return statistics.median(actor.act(observation).latency for _ in range(12))


def main(bench: Bench) -> None:
    torch.set_num_threads(bench.threads)
    config, rows = recipe(steps=1), {}
    made = {
        (decoder, cached): variant(config, bench.data, cached=cached, decoder=decoder, cache=bench.data / ".features")
        for decoder in ("regression", "flow")
        for cached in (True, False)
    }
    for _ in range(bench.rounds):
        for key, (settings, policy, windows) in made.items():
            policy.train()
            rows.setdefault(key, []).append(
                (
                    seconds_per_step(settings, policy, windows, bench.steps if key[1] else 1),
                    seconds_per_chunk(policy),
                )
            )
    lines = [
        "# Training speed and policy latency", "",
        f"`python bench/training.py`, batch {config.batch}, {bench.threads} threads, "
        f"medians of {bench.rounds} interleaved rounds.", "",
        "| decoder | features | steps/s | samples/s | chunk latency, ms |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for (decoder, cached), values in rows.items():
        step, chunk = (statistics.median(column) for column in zip(*values, strict=True))
        kind = "cached" if cached else "computed"
        lines.append(f"| {decoder} | {kind} | {1 / step:.2f} | {config.batch / step:.0f} | {1e3 * chunk:.1f} |")
    facts = fingerprint()
    lines += ["", f"Versions: {facts['versions']}; commit {facts['commit']}; {facts['machine']['system']}."]
    bench.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(tyro.cli(Bench))
