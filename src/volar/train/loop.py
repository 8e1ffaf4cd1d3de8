"""The imitation loop: batch, loss, step, validate, save. Everything random in step n is a function of (seed, n),
so a resumed run continues bit for bit on the same processor and number of threads."""

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, Sampler

from volar.core.atomic import write_files
from volar.core.errors import ConfigError, RobotFault
from volar.core.fingerprint import fingerprint
from volar.data.mixture import Draws, EpisodeDraws, Mixture
from volar.data.windows import WindowBatch, Windows
from volar.policies.vla import Policy
from volar.train.config import TrainConfig, require_same
from volar.train.demonstrations import (
    Data,
    identity,
    new_policy,
    open_demonstrations,
    prepare_data,
    robots_of,
    to_batch,
)
from volar.train.spending import Spending
from volar.train.state import Average, load_state, newest_state, save_state, stop_at_next_step


class Shuffled(Sampler[list[int]]):
    """Endless batches of indices; batch n depends on (seed, n) only, so a run can start at any step."""

    def __init__(self, size: int, *, batch: int, seed: int, start: int, rank: int, world: int) -> None:
        self.size, self.batch, self.seed, self.start, self.rank, self.world = size, batch, seed, start, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        per_epoch, epoch_of_order, order = max(self.size // self.batch, 1), -1, np.empty(0, np.int64)
        step = self.start * self.world + self.rank
        while True:
            epoch, position = divmod(step, per_epoch)
            if epoch != epoch_of_order:
                order = np.random.default_rng((self.seed, epoch)).permutation(self.size)
                epoch_of_order = epoch
            yield order[position * self.batch : (position + 1) * self.batch].tolist()
            step += self.world


class Weighted(Sampler[list[int]]):
    """The same, when the parts of a mixture or the episodes of a data set are drawn by weight."""

    def __init__(self, draws: Draws | EpisodeDraws, *, start: int, rank: int, world: int) -> None:
        self.draws, self.start, self.rank, self.world = draws, start, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        for number in count(self.start * self.world + self.rank, self.world):
            yield self.draws.indices(number).tolist()


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(done, 1.0))))


def step_generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    """Also seeds the global generator, for dropout."""
    number = int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(number)
    return torch.Generator(device).manual_seed(number)


def validate(policy: Policy, windows: Windows | Mixture, config: TrainConfig, device: torch.device) -> dict[str, float]:
    """Loss and mean absolute error of sampled chunks (normalised units) over at most 1024 held-out windows."""
    if not len(windows):
        return {}
    policy.eval()
    chosen = np.random.default_rng(config.seed).permutation(len(windows))[:1024]
    losses, errors = [], []
    with torch.no_grad():
        for start in range(0, len(chosen), config.batch):
            batch = to_batch(policy, windows.__getitems__(chosen[start : start + config.batch].tolist()), device)
            generator = step_generator(config.seed, start, device)
            losses.append(policy.loss(batch, generator=generator))
            assert batch.actions is not None and batch.valid is not None
            error = (policy.predict(batch, generator=generator).actions - batch.actions).abs().mean(-1)
            errors.append(error[batch.valid])
    policy.train()
    return {"validation_loss": torch.cat(losses).mean().item(), "validation_error": torch.cat(errors).mean().item()}


def train(
    config: TrainConfig, data: str | Path | Sequence[str | Path], out: Path, *, device: str | None = None,
    progress: bool = True,
) -> Path:  # fmt: skip
    """Train on a data set or a mixture of several, or continue what `out` holds. Returns the last checkpoint's folder.

    out/: run.json, metrics.jsonl, compute.json, checkpoints/step-*/ (averaged weights), state/ (to resume).
    Raises ConfigError before any work when data, policy and settings do not fit; RobotFault on a non-finite loss.
    """
    if config.track != "none" and find_spec(config.track) is None:
        raise ConfigError(f"The tracker {config.track!r} is missing: pip install {config.track}, or --track none.")
    parts = open_demonstrations([data] if isinstance(data, str | Path) else data, config)
    rates = {name: robot.action.rate_hz for name, robot in robots_of(parts, config).items()}
    run = {"kind": "training", "config": json.loads(json.dumps(config.to_json())), "data": identity(parts)}
    if (out / "run.json").is_file():
        before = json.loads((out / "run.json").read_text())
        require_same(config, before["config"], where=str(out))
        if before["data"] != run["data"]:
            raise ConfigError(f"{out} was trained on other data than this; choose another folder.")
    elif out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} exists and is not a training run; choose another folder.")
    accelerator = Accelerator(
        cpu=device == "cpu", mixed_precision="bf16" if config.precision == "bf16" else "no",
        log_with=None if config.track == "none" else config.track, project_dir=out,
    )  # fmt: skip
    policy = new_policy(parts, config).to(accelerator.device)
    with accelerator.main_process_first():  # it computes the features, the others read them
        splits = prepare_data(parts, policy, config, progress=progress)
    out.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process and not (out / "run.json").is_file():
        facts = {**run, **({"rates_hz": rates} if config.mixture_pad else {})}
        facts["fingerprint"] = fingerprint(seed=config.seed)
        if progress and len(set(rates.values())) > 1:
            told = ", ".join(f"{name} {rate:g} Hz" for name, rate in rates.items())
            Console(stderr=True).print(f"A chunk of {config.policy.horizon} actions lasts differently long: {told}.")
        write_files({out / "run.json": json.dumps(facts, indent=1).encode()})
    if config.track != "none":
        accelerator.init_trackers("volar", config={"run": json.dumps(run)})
    return Loop(config, policy, splits, out, accelerator, progress).run()


class Loop:
    """One run's moving parts; `run` is the loop itself."""

    def __init__(
        self, config: TrainConfig, policy: Policy, data: Data, out: Path, accelerator: Accelerator, progress: bool
    ) -> None:
        self.config, self.policy, self.data, self.out, self.progress = config, policy, data, out, progress
        self.accelerator, self.device = accelerator, accelerator.device
        self.trainable = {name: value for name, value in policy.named_parameters() if value.requires_grad}
        self.average = Average(self.trainable, config.ema)
        self.optimizer = torch.optim.AdamW(
            self.trainable.values(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.step = self._resume()
        self.model, self.optimizer = accelerator.prepare(policy, self.optimizer)
        self.metrics = (out / "metrics.jsonl").open("a")

    def _resume(self) -> int:
        newest = newest_state(self.out)
        step = 0 if newest is None else load_state(newest, self.trainable, self.average, self.optimizer)
        path = self.out / "metrics.jsonl"
        if path.exists():  # what was logged after the state that we go on from will be logged again
            lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
            kept = "".join(f"{line}\n" for line in lines if json.loads(line)["step"] <= step)
            write_files({path: kept.encode()})
        return step

    def run(self) -> Path:
        windows: Any = self.data.train  # map-style, but free of torch
        loader = DataLoader(
            windows, num_workers=self.config.workers, collate_fn=_as_it_is, batch_sampler=self._sampler()
        )
        first, processes = self.step, self.accelerator.num_processes
        spending = Spending(self.out, self.policy, resumed=first > 0, processes=processes)
        columns = (
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self.policy.train()
        shown = self.progress and self.accelerator.is_main_process
        with (
            Progress(*columns, console=Console(stderr=True), disable=not shown) as bar,
            stop_at_next_step() as stop,
        ):
            task = bar.add_task("", total=self.config.steps, completed=self.step)
            for raw in loader if self.step < self.config.steps else ():
                facts = self._one_step(raw)
                if self.accelerator.is_main_process and spending.due(self.step):
                    self._count(spending, raw)
                self.step += 1
                bar.update(task, completed=self.step, description=f"loss {facts['loss']:.4f}")
                if self.step % self.config.log_every == 0:
                    speed = (self.step - first) * self.config.batch / spending.seconds
                    self._log({**facts, "samples_per_s": speed, "seconds": spending.seconds})
                    spending.meter.joules()  # a counter that is read too seldom wraps unnoticed
                if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
                    with self.average.applied():
                        self._log(validate(self.policy, self.data.validation, self.config, self.device))
                if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps or stop():
                    self._save(spending)
                if stop() and self.step < self.config.steps:
                    raise KeyboardInterrupt
                if self.step >= self.config.steps:
                    break
        self.metrics.close()
        self.accelerator.end_training()
        return self.out / "checkpoints" / f"step-{self.step:07d}"

    def _sampler(self) -> Sampler[list[int]]:
        train, seed = self.data.train, self.config.seed
        place = {
            "start": self.step, "rank": self.accelerator.process_index, "world": self.accelerator.num_processes,
        }  # fmt: skip
        if isinstance(train, Mixture) and (shares := self.config.mixture_weights):
            sizes = tuple(map(len, train.parts.values()))
            return Weighted(Draws(sizes, shares, self.config.batch, seed), **place)
        if isinstance(train, Windows) and self.data.weights is not None:
            return Weighted(EpisodeDraws(train.starts, self.data.weights, self.config.batch, seed), **place)
        return Shuffled(len(train), batch=self.config.batch, seed=seed, **place)

    def _one_step(self, raw: WindowBatch) -> dict[str, float]:
        rate = learning_rate(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        generator = step_generator(self.config.seed, self.step, self.device)
        with self.accelerator.autocast():
            losses = self.model(to_batch(self.policy, raw, self.device), generator=generator)
        loss = losses.mean()
        if not torch.isfinite(loss):
            bad = self._episodes(raw, torch.nonzero(~torch.isfinite(losses)).flatten().tolist())
            raise RobotFault(
                f"Non-finite loss at step {self.step}, in windows of episodes {bad}. Training stopped; the last "
                f"checkpoint is intact. Look at these episodes with `volar data check`, or lower the learning rate."
            )
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        norm = torch.as_tensor(self.accelerator.clip_grad_norm_(list(self.trainable.values()), self.config.clip))
        if not torch.isfinite(norm):
            everything = self._episodes(raw, range(len(raw.episode)))
            raise RobotFault(f"Non-finite gradient at step {self.step}, in a batch of episodes {everything}.")
        self.optimizer.step()
        self.average.update(self.step)
        return {"loss": loss.item(), "learning_rate": float(rate), "gradient_norm": norm.item()}

    def _episodes(self, raw: WindowBatch, rows: Sequence[int]) -> str:
        """The episodes of these rows, with the names of their data sets in a mixture."""
        names = list(self.data.train.parts) if isinstance(self.data.train, Mixture) else []
        whose = [f"{names[raw.part[row]]}/" if raw.part is not None else "" for row in rows]
        found = sorted({(part, int(raw.episode[row])) for part, row in zip(whose, rows, strict=True)})
        return f"[{', '.join(f'{part}{episode}' for part, episode in found)}]"

    def _log(self, facts: dict[str, float]) -> None:
        if self.accelerator.is_main_process and facts:
            self.metrics.write(json.dumps({"step": self.step, **facts}) + "\n")
            self.metrics.flush()
            self.accelerator.log(facts, step=self.step)

    def _count(self, spending: Spending, raw: WindowBatch) -> None:
        self.optimizer.zero_grad()  # they are spent; counting needs the room for its own
        with self.accelerator.autocast():
            spending.count(to_batch(self.policy, raw, self.device))

    def _save(self, spending: Spending) -> None:
        if not self.accelerator.is_main_process:
            return
        save_state(self.out, self.step, self.trainable, self.average, self.optimizer)
        folder = self.out / "checkpoints" / f"step-{self.step:07d}"
        labels = {"labels": dict(self.data.labels)} if self.data.labels else {}
        facts = {"step": self.step, "train": self.config.to_json(), **labels, **fingerprint()}
        if not folder.exists():
            with self.average.applied():
                self.policy.save(folder, facts=facts)
        seconds = spending.before.get("feature_seconds", 0.0) + self.data.feature_seconds
        spending.write(
            step=self.step,
            samples=self.step * self.config.batch * self.accelerator.num_processes,
            facts={
                "training_frames": self.data.frames,
                "feature_seconds": seconds,
                "feature_flops": self.data.feature_flops,
            },
        )


def _as_it_is(batch: Any) -> Any:
    """`Windows.__getitems__` has put the batch together already."""
    return batch
