"""Single measurements of a fitted tokenizer. Functions of tokens and chunks; who fits what on what is `tokens.py`."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, pairwise

import numpy as np
from jaxtyping import Float
from torch import Tensor

from volar.core.model import Tokenizer

Clock = Callable[[], float]

PREFIXES = 8  # the prefix curve has the error after 0/8, 1/8, ... 8/8 of the tokens
FLIPS = 2  # flipped and random sequences per held-out chunk


def time_singles(tokenizer: Tokenizer, chunks: Tensor, clock: Clock) -> dict[str, float]:
    """CPU microseconds for one chunk at a time, as a robot needs them."""
    singles = list(chunks.split(1))
    tokenizer.decode(tokenizer.encode(singles[0]))
    start = clock()
    tokens = [tokenizer.encode(chunk) for chunk in singles]
    middle = clock()
    for sequence in tokens:
        tokenizer.decode(sequence)
    each = 1e6 / len(singles)
    return {"encode_one_us": each * (middle - start), "decode_one_us": each * (clock() - middle)}


def seam(error: Float[np.ndarray, "n h a"], chains: Sequence[range]) -> float:
    """The error's own jump from the last step of a chunk to the first of the next."""
    jumps = [error[after, 0] - error[before, -1] for rows in chains for before, after in pairwise(rows)]
    return float(np.sqrt(np.mean(np.square(jumps)))) if jumps else 0.0


def jerk_ratio(true: Float[np.ndarray, "n h a"], found: Float[np.ndarray, "n h a"]) -> float:
    """Root-mean-square third difference of `found` over that of `true`."""
    if true.shape[1] < 4:
        return 1.0
    before, after = (np.sqrt((np.diff(motion, 3, axis=1) ** 2).mean()) for motion in (true, found))
    return float(after / before) if before > 0 else 1.0


def valid_shares(tokenizer: Tokenizer, tokens: Sequence[list[int]], seed: int) -> dict[str, float]:
    """How often the tokenizer takes a sequence for an encoding after one random flip, and a random sequence."""
    random = np.random.default_rng(seed)
    flipped, invented = [], []
    for sequence in chain.from_iterable([tokens] * FLIPS):
        other = list(sequence)
        other[random.integers(len(other))] = int(random.integers(tokenizer.vocabulary))
        flipped.append(other)
        invented.append(random.integers(tokenizer.vocabulary, size=len(sequence)).tolist())
    shares = {}
    for name, sequences in {"valid_flipped": flipped, "valid_random": invented}.items():
        before = tokenizer.invalid_decodes
        tokenizer.decode(sequences)
        shares[name] = 100 * (1 - (tokenizer.invalid_decodes - before) / len(sequences))
    return shares


def use_of_ids(tokens: Sequence[list[int]], vocabulary: int) -> dict[str, float]:
    """Share of the vocabulary that occurs, and how evenly, in per cent."""
    counts = np.bincount(list(chain.from_iterable(tokens)), minlength=vocabulary)
    share = counts[counts > 0] / counts.sum()
    entropy = -(share * np.log(share)).sum() / math.log(vocabulary)
    return {"used": 100 * (counts > 0).mean(), "entropy": 100 * entropy}


def overlap(here: Sequence[list[int]], there: Sequence[list[int]]) -> float:
    """Of the windows' tokens as bags, since those of FAST have no fixed place."""
    if not here:
        return 100.0
    pairs = zip(here, there, strict=True)
    return 100 * float(np.mean([(Counter(a) & Counter(b)).total() / max(len(a), len(b)) for a, b in pairs]))


def surprise(seen: Sequence[list[int]], tokens: Sequence[list[int]], vocabulary: int) -> float:
    """Cross-entropy of held-out tokens given the one before, in bits per chunk: counts of the fit, backed off to
    single ids and to evenness by Witten and Bell's weights."""
    start = vocabulary
    single = Counter(chain.from_iterable(seen))
    pairs = Counter(chain.from_iterable(pairwise([start, *sequence]) for sequence in seen))
    follows: Counter[int] = Counter()
    kinds: Counter[int] = Counter()
    for (before, _), count in pairs.items():
        follows[before] += count
        kinds[before] += 1
    total, distinct = single.total(), len(single)
    bits = 0.0
    for sequence in tokens:
        for before, token in pairwise([start, *sequence]):
            even = (single[token] + distinct / vocabulary) / (total + distinct)
            share = (
                (pairs[before, token] + kinds[before] * even) / (follows[before] + kinds[before])
                if follows[before]
                else even
            )
            bits -= math.log2(share)
    return bits / len(tokens)


def prefix_curve(tokenizer: Tokenizer, tokens: Sequence[list[int]], chunks: Tensor) -> list[float]:
    """Mean squared error after 0/8, 1/8, ... 8/8 of each sequence."""
    errors = []
    for eighths in range(PREFIXES + 1):
        cut = [sequence[: math.ceil(len(sequence) * eighths / PREFIXES)] for sequence in tokens]
        decoded = tokenizer.decode_prefix(cut, max(map(len, tokens)))
        errors.append(float((decoded - chunks).square().mean()))
    return errors
