"""Several policies as one at test time: convex combination of their fields or token distributions (GPC, arXiv
2510.01068), and the baselines that switch or vote. Policies come in as functions; they may see different things.

Fields may be added only where they are of one kind over one normalised action space: the caller's promise, which
`require_same_space` checks as far as numbers can.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import UNLIMITED, Budget, Field, FieldDecoder, Predicted, Predictor, Sample
from volar.core.robot import Actor, Chunk, Observation
from volar.data.normalize import Normalizer

Weights = Sequence[float] | Float[Tensor, "n ..."]
SAME = 5e-4  # of the range from -1 to 1, in which two normalisations may differ and still be one


def convex_weights(weights: Weights, count: int) -> Float[Tensor, "n ..."]:
    """`weights` as a tensor [n], [n h 1] (per step), [n 1 a] (per dimension) or [n h a]: at least 0, and 1 in sum over
    the policies everywhere. ConfigError otherwise."""
    tensor = torch.as_tensor(weights, dtype=torch.float32)
    if len(tensor) != count or tensor.ndim not in (1, 3):
        raise ConfigError(f"{count} policies need weights [{count}] or [{count} h a]; got {list(tensor.shape)}.")
    total = tensor.sum(0)
    if not bool(torch.isfinite(tensor).all()) or bool((tensor < 0).any()) or bool(((total - 1).abs() > 1e-4).any()):
        raise ConfigError(f"The weights of a convex combination are at least 0 and sum to 1; got {tensor.tolist()}.")
    return tensor


def read_weights(listed: Any) -> Float[Tensor, "n ..."]:
    """Weights as JSON holds them, one number per policy or for each a list [h a], as a tensor. Raises ConfigError."""
    try:
        return torch.tensor(listed, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"Weights are one number per policy, or for each a list [steps dimensions] of them: {error}."
        ) from error


def combined(fields: Sequence[Field], weights: Weights) -> Field:
    """The convex combination of fields of one kind (velocities, noises, descent directions) as a field. A policy that
    weighs nothing anywhere is not asked."""
    return _weighted(fields, convex_weights(weights, len(fields)))


def conjunction(fields: Sequence[Field], weights: Weights) -> Field:
    """The weighted sum of energy gradients: the product of the densities, an AND of the policies. For decoders that
    descend an energy. weights: at least 0, [n] or [n h a]; they need not sum to 1, and steps grow with their sum."""
    return _weighted(fields, conjunction_weights(weights, len(fields)))


def conjunction_weights(weights: Weights, count: int) -> Float[Tensor, "n ..."]:
    """`weights` as a tensor, [n] or [n h a]. ConfigError where one is negative or their number is not `count`."""
    tensor = torch.as_tensor(weights, dtype=torch.float32)
    if len(tensor) != count or tensor.ndim not in (1, 3) or not bool((tensor >= 0).all()):
        raise ConfigError(f"A conjunction of {count} fields needs as many weights of at least 0, got {weights}.")
    return tensor


def _weighted(fields: Sequence[Field], weights: Float[Tensor, "n ..."]) -> Field:
    shares = [(field, weight) for field, weight in zip(fields, weights, strict=True) if bool((weight > 0).any())]
    if not shares:
        raise ConfigError("All weights are 0, so there is nothing to follow.")

    def field(chunks: Float[Tensor, "b h a"], time: Float[Tensor, " b"]) -> Float[Tensor, "b h a"]:
        parts = [weight.to(chunks) * each(chunks, time) for each, weight in shares]
        return torch.stack(parts).sum(0)

    return field


def solve_combined(
    solver: FieldDecoder, fields: Sequence[Field], weights: Weights, *, rows: int, device: torch.device,
    generator: torch.Generator | None = None, budget: Budget = UNLIMITED, energies: bool = False,
) -> Sample:  # fmt: skip
    """`solver` follows the convex combination, with `energies` the conjunction. evaluations: summed over the policies
    that were asked; so is the budget, each of whose evaluations is one of one policy."""
    tensor = (conjunction_weights if energies else convex_weights)(weights, len(fields))
    asked = int((tensor.reshape(len(fields), -1) > 0).any(1).sum())
    sample = solver.solve(
        _weighted(fields, tensor), rows=rows, device=device, generator=generator, budget=shared(budget, asked)
    )
    return Sample(actions=sample.actions, evaluations=sample.evaluations * asked, strangeness=sample.strangeness)


def shared(budget: Budget, asked: int) -> Budget:
    """What each of `asked` policies, or draws, may spend of a budget; seconds run on for all of them together."""
    if budget.evaluations is None:
        return budget
    if budget.evaluations < asked:
        raise ConfigError(
            f"A budget of {budget.evaluations} evaluations is too small for {asked} policies or draws, each of which "
            f"takes at least one."
        )
    return Budget(evaluations=budget.evaluations // asked, seconds=budget.seconds, clock=budget.clock)


def residuals(fields: Sequence[Field], chunks: Float[Tensor, "b h a"]) -> Float[Tensor, "n b"]:
    """Root mean square of every policy's field at these chunks, for fields without time that vanish at the data.
    A conjunction can rest where gradients cancel: then its own residual is small and its members' are not."""
    time = chunks.new_zeros(len(chunks))
    return torch.stack([field(chunks, time).square().mean((1, 2)).sqrt() for field in fields])


def mixed_predictor(predictors: Sequence[Predictor], weights: Weights, *, geometric: bool = False) -> Predictor:
    """Reads tokens with every policy and tells the log-probabilities of their mixture. One that weighs nothing is not
    asked; one that is asked alone is itself, to the last bit."""
    tensor = convex_weights(weights, len(predictors))
    if tensor.ndim != 1:
        raise ConfigError(f"Tokens are mixed by one weight per policy, got weights {list(tensor.shape)}.")
    asked = [(each, weight) for each, weight in zip(predictors, tensor.tolist(), strict=True) if weight > 0]
    if len(asked) == 1:
        return asked[0][0]
    shares = [weight for _, weight in asked]

    def predict(tokens: Int[Tensor, "b s"]) -> Predicted:
        told = [predictor(tokens) for predictor, _ in asked]
        logits = mixed_log_probabilities([each.logits for each in told], shares, geometric=geometric)
        return Predicted(logits=logits, then=mixed_predictor([each.then for each in told], shares, geometric=geometric))

    return predict


def mixed_log_probabilities(
    logits: Sequence[Float[Tensor, "... k"]], weights: Weights, *, geometric: bool = False
) -> Float[Tensor, "... k"]:
    """Log-probabilities of a mixture of token distributions over one vocabulary. geometric: the normalised weighted
    product instead of the weighted mean, so that one policy's no is a no."""
    shares = convex_weights(weights, len(logits))
    if shares.ndim != 1 or len({each.shape for each in logits}) != 1:
        raise ConfigError("Token distributions are mixed by one weight per policy over one vocabulary and length.")
    stacked = torch.stack([each.log_softmax(-1) for each in logits])
    shares = shares.to(stacked).reshape(-1, *[1] * (stacked.ndim - 1))
    if geometric:
        # 0 * -inf is NaN: who weighs nothing is left out.
        return torch.where(shares > 0, shares * stacked, torch.zeros_like(stacked)).sum(0).log_softmax(-1)
    return (stacked + shares.log()).logsumexp(0)


def require_same_space(normalizers: Sequence[Normalizer], names: Sequence[str]) -> None:
    """normalizers: of each policy's actions. ConfigError where two policies normalise differently, since the sum of
    their fields would be a field of nothing. Maps count, not statistics: two data sets with the same smallest and
    largest actions make one space. They may differ by a thousandth of a normalised unit."""
    ends = [[each.denormalize(np.full(each.width, x)) for x in (-1.0, 1.0)] for each in normalizers]
    reach = np.abs(ends[0][1] - ends[0][0])
    for name, normalizer, end in zip(names, normalizers, ends, strict=True):
        same = normalizer.width == normalizers[0].width and np.shape(end) == np.shape(ends[0])
        if not same or bool((np.abs(np.subtract(end, ends[0])) > SAME * reach).any()):
            raise ConfigError(
                f"{names[0]} and {name} normalise actions differently; fields and tokens can be combined only in one "
                f"space. Train both with the same normalisation on the same range of actions, or let them vote."
            )


def best_constant_weight(first_error: float, second_error: float) -> float:
    """Weight of the first policy that minimises the error of the sum of two independent errors with these standard
    deviations: e2^2 / (e1^2 + e2^2). Says where a gain may be expected; correlated errors leave less of it."""
    if not first_error >= 0 or not second_error >= 0 or first_error + second_error == 0:
        raise ConfigError(f"Errors are at least 0 and not both 0, got {first_error} and {second_error}.")
    return second_error**2 / (first_error**2 + second_error**2)


@dataclass(frozen=True, kw_only=True)
class WeightSearch:
    """weights: the chosen ones. successes: of every grid point, in the order of `grid`. episodes: what it cost."""

    weights: tuple[float, ...]
    grid: tuple[tuple[float, ...], ...]
    successes: tuple[int, ...]
    episodes: int


def weight_grid(count: int, *, parts: int = 10) -> tuple[tuple[float, ...], ...]:
    """All weights of `count` policies in steps of 1 / parts, each at least one step."""
    if count < 1 or parts < count:
        raise ConfigError(f"A grid over {count} policies needs at least {count} parts, got {parts}.")
    inner = product(range(1, parts), repeat=count - 1)
    shares = ((*each, parts - sum(each)) for each in inner)
    return tuple(tuple(share / parts for share in each) for each in shares if each[-1] >= 1)


def search_weights(
    outcomes: Callable[[tuple[float, ...]], Bool[np.ndarray, " e"]], grid: Sequence[tuple[float, ...]]
) -> WeightSearch:
    """The weights with most successes; of equals those nearest to the middle of the equals. outcomes: runs validation
    episodes, whose scenes must not be those of the evaluation: the best of many points looks better than it is."""
    if not grid:
        raise ConfigError("A weight search needs at least one point.")
    results = [outcomes(weights) for weights in grid]
    successes = [int(result.sum()) for result in results]
    best = np.array([w for w, count in zip(grid, successes, strict=True) if count == max(successes)])
    nearest = int(np.abs(best - best.mean(0)).sum(1).argmin())
    return WeightSearch(
        weights=tuple(best[nearest].tolist()), grid=tuple(grid), successes=tuple(successes),
        episodes=sum(map(len, results)),
    )  # fmt: skip


def vote(chunks: Float32[np.ndarray, "n h a"], weights: Sequence[float] | None = None) -> int:
    """The chunk with the smallest weighted distance to all others, which is nobody's average; the first of equals."""
    flat = chunks.reshape(len(chunks), -1).astype(np.float64)
    shares = np.ones(len(chunks)) if weights is None else np.asarray(weights)
    return int((np.linalg.norm(flat[:, None] - flat[None], axis=2) @ shares).argmin())


class Committee(Actor):
    """Final baseline: all policies are asked at every look and one chunk is carried out as it stands.

    choose: the chunks -> the number of the one to take, for example `by_vote` or `by_strangeness`. evaluations and
    latency: summed over all, since all were asked one after the other.
    """

    def __init__(self, actors: Sequence[Actor], choose: Callable[[Sequence[Chunk]], int]) -> None:
        if not actors:
            raise ConfigError("A committee has at least one member.")
        self._actors, self._choose = tuple(actors), choose
        self.privileged = tuple(dict.fromkeys(word for actor in actors for word in actor.privileged))
        self.uses_images = any(actor.uses_images for actor in actors)

    def reset(self, seed: int) -> None:
        for actor in self._actors:
            actor.reset(seed)

    def act(self, observation: Observation) -> Chunk:
        chunks = [actor.act(observation) for actor in self._actors]
        taken = chunks[self._choose(chunks)]
        return Chunk(
            actions=taken.actions, execute=taken.execute, evaluations=sum(chunk.evaluations for chunk in chunks),
            latency=sum(chunk.latency for chunk in chunks), strangeness=taken.strangeness,
        )  # fmt: skip


def by_vote(chunks: Sequence[Chunk]) -> int:
    """`vote` over the steps that all of them have."""
    steps = min(len(chunk.actions) for chunk in chunks)
    return vote(np.stack([chunk.actions[:steps] for chunk in chunks]))


def by_strangeness(chunks: Sequence[Chunk]) -> int:
    """Switch to whoever finds its own chunk least strange. ConfigError where one cannot tell."""
    strange = [chunk.strangeness for chunk in chunks]
    if any(each is None for each in strange):
        raise ConfigError("Switching by strangeness needs policies whose decoders tell it; by_vote works with all.")
    return int(np.argmin(np.array(strange, dtype=np.float64)))
