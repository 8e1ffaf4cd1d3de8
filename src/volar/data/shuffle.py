"""A random order of any number of things, of which any place can be asked without making the rest.

A Feistel network on the smallest suitable power of four, walked until it falls inside (Black and Rogaway 2002, "Ciphers
with arbitrary finite domains"). Random enough for sampling, not for secrets.
"""

from typing import Final

import numpy as np
from jaxtyping import Int64, UInt64

ROUNDS: Final = 6
MIN_BITS: Final = 6  # with fewer, the network could express few of the orders of a handful of things


def shuffled(places: Int64[np.ndarray, " n"], size: int, *, seed: tuple[int, ...]) -> Int64[np.ndarray, " n"]:
    """What stands at `places` (0 to size - 1) of the order of 0 to size - 1 that `seed` names."""
    half = max(MIN_BITS, (size - 1).bit_length() + 1) // 2
    keys = np.random.SeedSequence(seed).generate_state(ROUNDS, np.uint64)
    found = _network(places.astype(np.uint64), half, keys)
    while (outside := found >= size).any():
        found[outside] = _network(found[outside], half, keys)
    return found.astype(np.int64)


def _network(values: UInt64[np.ndarray, " n"], half: int, keys: UInt64[np.ndarray, " r"]) -> UInt64[np.ndarray, " n"]:
    mask, bits = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = values >> bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) & mask)
    return (left << bits) | right


def _mixed(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """SplitMix64's finaliser: every bit of the input changes about half of the output's."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
