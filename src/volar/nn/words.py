"""Words as numbers without a vocabulary: each lower-case word is hashed. Not a tokenizer of a language model."""

import zlib
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Words:
    """ids: hashes below the vocabulary's size, padded on the right. real: False where padding is."""

    ids: Int[Tensor, "b n"]
    real: Bool[Tensor, "b n"]


def hashed_words(instructions: tuple[str, ...], *, vocabulary: int, device: torch.device) -> Words:
    """CRC-32 of each lower-case word, the same in every process. An empty instruction gives padding alone."""
    rows = [[zlib.crc32(word.encode()) for word in sentence.lower().split()] for sentence in instructions]
    longest = max(1, *(len(row) for row in rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return Words(ids=ids % vocabulary, real=torch.arange(longest, device=device) < lengths[:, None])
