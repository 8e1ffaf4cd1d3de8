"""Which chunks may be tried at a state: the policy's own one always, and others around it.

Each is a function that `Simulator` takes as `propose`, made with `functools.partial`. Priors are over candidate ids.
"""

import numpy as np
from jaxtyping import Float, Float32, Float64

from volar.core.errors import ConfigError
from volar.core.robot import ActionSpec
from volar.planning.library import ChunkLibrary
from volar.planning.planner import Candidates
from volar.planning.simulation import Draw


def own_chunk(draw: Draw, random: np.random.Generator) -> Candidates:
    """Nothing but the policy's own chunk: for planners that make their own candidates."""
    return Candidates(chunks=draw(1), prior=np.ones(1))


def from_library(
    draw: Draw, random: np.random.Generator, *, library: ChunkLibrary, num: int = 10, nearness: float = 10.0,
    uniform: float = 0.1, sharpness: float = 5.0,
) -> Candidates:  # fmt: skip
    """The policy's own chunk and num - 1 distinct ones of the library (VLAPS, arXiv 2508.12211).

    Drawn without replacement with weights (1 - uniform) softmax(-nearness * distance) + uniform / n;
    prior = softmax(-sharpness * distance), the own chunk being at distance 0. All are cut to the shortest.
    """
    if num < 1 or not 0 <= uniform <= 1:
        raise ConfigError(f"from_library needs num >= 1 and uniform in [0, 1], got {num} and {uniform}.")
    (own,) = draw(1)
    distances = library.distances(own)
    weights = (1 - uniform) * softmax(-nearness * distances) + uniform / len(distances)
    # A weight that underflows to 0 cannot be drawn.
    count = min(num - 1, int((weights > 0).sum()))
    drawn = random.choice(len(weights), size=count, replace=False, p=weights / weights.sum())
    steps = min(len(own), library.chunks.shape[1])
    chunks = np.concatenate([own[None, :steps], library.chunks[drawn, :steps]]).astype(np.float32)
    return Candidates(chunks=chunks, prior=softmax(-sharpness * np.append(0.0, distances[drawn])))


def from_policy(draw: Draw, random: np.random.Generator, *, num: int = 10) -> Candidates:
    """Distinct chunks among `num` draws of a stochastic policy; prior = how often each was drawn. A policy that always
    draws the same leaves one candidate, and nothing to search."""
    if num < 1:
        raise ConfigError(f"from_policy needs num >= 1, got {num}.")
    drawn = draw(num)
    distinct, first, counts = np.unique(drawn, axis=0, return_index=True, return_counts=True)
    order = np.argsort(first)
    return Candidates(chunks=distinct[order], prior=counts[order] / num)


def around_policy(
    draw: Draw, random: np.random.Generator, *, spec: ActionSpec, num: int = 10, deviation: float = 0.3,
    sharpness: float = 1.0,
) -> Candidates:  # fmt: skip
    """The own chunk and num - 1 shifts of it: one Gaussian offset per chunk and dimension, `deviation` times half the
    action's range, clipped to its bounds. prior = softmax(-sharpness * size of the offset in deviations)."""
    if num < 1 or not deviation > 0:
        raise ConfigError(f"around_policy needs num >= 1 and deviation > 0, got {num} and {deviation}.")
    (own,) = draw(1)
    half = (np.array(spec.high) - np.array(spec.low)) / 2
    offsets = random.normal(size=(num, 1, spec.dim))
    offsets[0] = 0.0
    chunks = spec.clip(own + deviation * half * offsets)
    chunks[0] = own
    return Candidates(chunks=chunks, prior=softmax(-sharpness * np.sqrt((offsets**2).sum((1, 2)))))


def prior_from_scores(scores: Float[np.ndarray, " n"], *, temperature: float = 1.0) -> Float64[np.ndarray, " n"]:
    """softmax(scores / temperature): for a decoder's log-likelihoods, or its energies with the sign turned."""
    if not temperature > 0 or not np.isfinite(scores).all():
        raise ConfigError(f"A prior needs a positive temperature and finite scores, got {temperature} and {scores}.")
    return softmax(scores / temperature)


def softmax(scores: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    exponents = np.exp(scores.astype(np.float64) - scores.max())
    return exponents / exponents.sum()


def random_chunks(
    spec: ActionSpec, random: np.random.Generator, *, num: int, steps: int
) -> Float32[np.ndarray, "n m a"]:
    """Uniform between the action's bounds, one action held over each chunk, so that the chunks go somewhere."""
    actions = random.uniform(spec.low, spec.high, (num, 1, spec.dim))
    return np.repeat(actions, steps, axis=1).astype(np.float32)
