"""What each tokenizer does to a user's action data, measured on episodes it was not fitted on. It measures tokenizers,
not policies: reconstruction error alone does not predict success (arXiv 2501.09747, 2602.04215, 2602.15397)."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import Tokenizer
from volar.core.registry import build_config
from volar.data.formats import open_dataset
from volar.data.normalize import Normalizer, exact_statistics
from volar.evaluation.token_metrics import (
    Clock,
    jerk_ratio,
    overlap,
    prefix_curve,
    seam,
    surprise,
    time_singles,
    use_of_ids,
    valid_shares,
)  # fmt: skip
from volar.nn.dct import dct_matrix
from volar.tokenizers import TABLE

SINGLES = 50  # chunks timed one by one
T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


@dataclass(frozen=True, kw_only=True)
class Motions:
    """The actions of a data set. trajectories: one [steps a] per episode, in the units of `dimensions`."""

    name: str
    trajectories: tuple[Float[np.ndarray, "_ a"], ...]
    rate_hz: float
    dimensions: tuple[str, ...]
    grippers: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Mean over splits and its 95 % t interval. Splits share episodes, so the interval shows how much the choice of
    held-out episodes matters, not what another data set would give."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        mean = float(np.mean(values))
        if len(values) == 1:
            return cls(mean=mean, low=mean, high=mean)
        reach = T_975.get(len(values), 1.96) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
        return cls(mean=mean, low=mean - reach, high=mean + reach)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One tokenizer. metrics: see `METRICS`. dimensions: root-mean-square error of each, in its unit. prefix: mean
    squared error (normalised) after i/8 of the tokens. example: one held-out chunk, decoded, in physical units."""

    name: str
    options: Mapping[str, Any]
    metrics: Mapping[str, Estimate]
    dimensions: tuple[Estimate, ...]
    prefix: tuple[Estimate, ...]
    example: Float[np.ndarray, "h a"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All tokenizers on the same splits of the same data. example: the chunk that every `Measured.example` codes."""

    data: str
    horizon: int
    rate_hz: float
    dimensions: tuple[str, ...]
    splits: int
    fitted_chunks: int
    held_out_chunks: int
    example: Float[np.ndarray, "h a"]
    rows: tuple[Measured, ...]


METRICS = {
    "tokens": "tokens per chunk",
    "tokens_most": "tokens of the longest chunk",
    "bits": "bits per chunk: tokens times log2 of the vocabulary",
    "surprise": "bits per chunk under a bigram model of the tokens: how predictable they are",
    "compression": "numbers per token",
    "rmse": "root-mean-square error, all dimensions, physical units",
    "l1": "mean absolute error, physical units",
    "worst": "largest error, physical units",
    "relative": "root-mean-square error in per cent of each dimension's 1-99 % range",
    "frequency": "mean absolute error of the cosine transform, normalised",
    "seam": "jump between chunks that the tokenizer adds, root-mean-square, physical units",
    "jerk": "third difference of the decoded motion over that of the true one",
    "valid_flipped": "share of sequences with one random token that are still valid, per cent",
    "valid_random": "share of random sequences of the usual length that are valid, per cent",
    "used": "share of the vocabulary that occurs, per cent",
    "entropy": "entropy of the ids over that of even use, per cent",
    "overlap": "share of tokens that stay when the window moves on by one step, per cent",
    "saturated": "numbers that were clamped, per cent",
    "fit_seconds": "CPU seconds of the fit",
    "encode_us": "CPU microseconds per chunk, encoding a batch",
    "decode_us": "CPU microseconds per chunk, decoding a batch",
    "encode_one_us": "CPU microseconds to encode a single chunk",
    "decode_one_us": "CPU microseconds to decode a single chunk",
}


def read_motions(root: str | Path, *, grippers: Sequence[int] | None = None) -> Motions:
    """The actions of a LeRobot v3.0 data set. grippers: dimensions that switch; None takes those whose name says so."""
    dataset = open_dataset(root)
    if "action" not in dataset.arrays:
        raise ConfigError(f"{root} has no 'action'; its features are {sorted(dataset.features)}.")
    actions = np.asarray(dataset.arrays["action"], dtype=np.float32).reshape(dataset.num_frames, -1)
    names = dataset.features["action"].get("names") or [f"action {index}" for index in range(actions.shape[1])]
    if dataset.spec is not None:
        action = dataset.spec.action
        names = [f"{name} ({unit})" for name, unit in zip(action.names, action.units, strict=True)]
    found = [index for index, name in enumerate(names) if "grip" in str(name).lower()]
    return Motions(
        name=PurePath(dataset.root).name,
        trajectories=tuple(actions[episode.start : episode.stop] for episode in dataset.episodes),
        rate_hz=dataset.fps,
        dimensions=tuple(map(str, names)),
        grippers=tuple(found if grippers is None else grippers),
    )


def compare(
    motions: Motions, names: Sequence[str], *, horizon: int, options: Mapping[str, Mapping[str, Any]] | None = None,
    splits: int = 3, held_out: float = 0.2, seed: int = 0, most_chunks: int = 4000, clock: Clock = time.process_time,
    progress: Callable[[str], None] = lambda line: None,
) -> Comparison:  # fmt: skip
    """Fit and measure the named tokenizers on `splits` random splits by episode.

    options: name -> choices of its Config. held_out: share of the episodes. most_chunks: to fit and to measure on.
    Raises ConfigError for an unknown name or option, and for fewer than two episodes.
    """
    if len(motions.trajectories) < 2 or splits < 1 or not 0 < held_out < 1:
        raise ConfigError(
            f"Needs 2 episodes or more, splits >= 1 and 0 < held_out < 1; got {len(motions.trajectories)}, {splits} "
            f"and {held_out}. Episodes are held out whole, so that the same motion is never on both sides."
        )
    wanted = {name: _options(name, motions, (options or {}).get(name, {})) for name in names}
    for name, choices in wanted.items():
        _make(name, choices, motions, horizon)
    results: dict[str, list[_Result]] = {name: [] for name in wanted}
    parts = [_split(motions, horizon, held_out, seed + index, most_chunks) for index in range(splits)]
    for index, part in enumerate(parts):
        for name, choices in wanted.items():
            progress(f"split {index + 1} of {splits}: {name}")
            results[name].append(_measure(_make(name, choices, motions, horizon), part, seed + index, clock))
    rows = tuple(_row(name, wanted[name], results[name]) for name in wanted)
    return Comparison(
        data=motions.name, horizon=horizon, rate_hz=motions.rate_hz, dimensions=motions.dimensions, splits=splits,
        fitted_chunks=len(parts[0].fit), held_out_chunks=len(parts[0].held_out),
        example=parts[0].physical(parts[0].held_out[parts[0].example][None])[0], rows=rows,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One split, normalised. chains: per held-out episode, which rows of `held_out` follow one another. shifted: each
    a pair of windows one step apart. example: the row of the liveliest held-out chunk."""

    fit: Tensor
    held_out: Tensor
    chains: tuple[range, ...]
    shifted: tuple[Tensor, Tensor]
    normalizer: Normalizer
    example: int

    def physical(self, chunks: Tensor) -> np.ndarray:
        return self.normalizer.denormalize(chunks.double().numpy())


@dataclass(frozen=True, kw_only=True)
class _Result:
    metrics: dict[str, float]
    dimensions: list[float]
    prefix: list[float]
    example: np.ndarray


def _options(name: str, motions: Motions, given: Mapping[str, Any]) -> dict[str, Any]:
    """Tokenizers that treat grippers apart are told which dimensions they are."""
    fields = TABLE.load(name).Config.__dataclass_fields__
    own = {"gripper": motions.grippers} if "gripper" in fields and motions.grippers else {}
    return own | dict(given)


def _make(name: str, options: Mapping[str, Any], motions: Motions, horizon: int) -> Tokenizer:
    cls = TABLE.load(name)
    return cls(build_config(cls, options), horizon=horizon, action_dim=len(motions.dimensions))


def _split(motions: Motions, horizon: int, held_out: float, seed: int, most: int) -> _Part:
    random = np.random.default_rng(seed)
    order = random.permutation(len(motions.trajectories))
    count = min(max(1, round(held_out * len(order))), len(order) - 1)
    apart, fit = [[motions.trajectories[index] for index in part] for part in (order[:count], order[count:])]
    normalizer = Normalizer(exact_statistics(np.concatenate(fit)), "quantile")

    def windows(trajectory: np.ndarray, starts: range) -> np.ndarray:
        rows = np.minimum(np.array(starts, dtype=int)[:, None] + np.arange(horizon), len(trajectory) - 1)
        return trajectory[rows]

    def normalised(chunks: Sequence[np.ndarray]) -> Tensor:
        joined = np.concatenate(chunks)
        return torch.from_numpy(normalizer.normalize(joined.astype(np.float32)))

    total = sum(map(len, fit))
    stride = max(1, min(horizon, total // most))
    kept = normalised([windows(trajectory, range(0, len(trajectory), stride)) for trajectory in fit])
    kept = kept[torch.from_numpy(np.sort(random.permutation(len(kept))[:most]))]
    ends, chains, pieces = 0, [], []
    for trajectory in apart:
        piece = windows(trajectory, range(0, len(trajectory), horizon))
        chains.append(range(ends, ends + len(piece)))
        ends += len(piece)
        pieces.append(piece)
        if ends >= most:
            break
    starts = [range(0, len(trajectory) - 1, max(1, horizon // 2)) for trajectory in apart[: len(chains)]]
    here = normalised([windows(t, s) for t, s in zip(apart, starts, strict=False)])[:most]
    later = [range(s.start + 1, s.stop + 1, s.step) for s in starts]
    there = normalised([windows(t, s) for t, s in zip(apart, later, strict=False)])[:most]
    chunks = normalised(pieces)
    return _Part(
        fit=kept, held_out=chunks, chains=tuple(chains), shifted=(here, there), normalizer=normalizer,
        example=int(chunks.diff(dim=1).abs().sum(dim=(1, 2)).argmax()) if horizon > 1 else 0,
    )  # fmt: skip


def _measure(tokenizer: Tokenizer, part: _Part, seed: int, clock: Clock) -> _Result:
    start = clock()
    tokenizer.fit(part.fit, generator=torch.Generator().manual_seed(seed))
    fit_seconds = clock() - start
    chunks = part.held_out
    tokenizer.decode(tokenizer.encode(chunks))  # tables that are built on first use are not what is timed
    before, start = tokenizer.saturated, clock()
    tokens = tokenizer.encode(chunks)
    middle = clock()
    decoded = tokenizer.decode(tokens)
    end = clock()
    saturated = tokenizer.saturated - before
    singles = time_singles(tokenizer, chunks[:SINGLES], clock)
    true, found = part.physical(chunks), part.physical(decoded)
    error = found - true
    lengths = np.array([len(sequence) for sequence in tokens])
    rate = math.log2(tokenizer.vocabulary)
    frequency = torch.einsum("kh,nha->nka", dct_matrix(tokenizer.horizon), decoded - chunks)
    metrics = {
        "tokens": lengths.mean(), "tokens_most": lengths.max(), "bits": lengths.mean() * rate,
        "surprise": surprise(tokenizer.encode(part.fit), tokens, tokenizer.vocabulary),
        "compression": chunks[0].numel() / lengths.mean(),
        "rmse": np.sqrt((error**2).mean()), "l1": np.abs(error).mean(), "worst": np.abs(error).max(),
        "relative": 50 * float((decoded - chunks).square().mean().sqrt()), "frequency": float(frequency.abs().mean()),
        "seam": seam(error, part.chains), "jerk": jerk_ratio(true, found),
        **valid_shares(tokenizer, tokens, seed), **use_of_ids(tokens, tokenizer.vocabulary),
        "overlap": overlap(*(tokenizer.encode(windows) for windows in part.shifted)),
        "saturated": 100 * saturated / chunks.numel(), "fit_seconds": fit_seconds,
        "encode_us": 1e6 * (middle - start) / len(chunks), "decode_us": 1e6 * (end - middle) / len(chunks), **singles,
    }  # fmt: skip
    return _Result(
        metrics={name: float(value) for name, value in metrics.items()},
        dimensions=np.sqrt((error**2).mean(axis=(0, 1))).tolist(),
        prefix=prefix_curve(tokenizer, tokens, chunks),
        example=found[part.example],
    )


def _row(name: str, options: Mapping[str, Any], results: Sequence[_Result]) -> Measured:
    return Measured(
        name=name,
        options=options,
        metrics={key: Estimate.of([result.metrics[key] for result in results]) for key in METRICS},
        dimensions=tuple(map(Estimate.of, zip(*(result.dimensions for result in results), strict=True))),
        prefix=tuple(map(Estimate.of, zip(*(result.prefix for result in results), strict=True))),
        example=results[0].example,
    )
