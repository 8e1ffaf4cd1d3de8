"""Text <-> ids, with pieces of words learned from the labels; anything a person types can still be spelled in bytes."""

import re
from collections.abc import Iterable

import numpy as np

from volar.core.errors import ConfigError
from volar.nn.bpe import SYMBOL, PieceCoder

BYTES = 256
KEPT = 50_000  # texts whose ids are remembered
WORD = re.compile(r" ?[^\W\d_]+| ?\d| ?[^\w\s]|\s|_")  # a digit is a word of its own, so numbers keep their places


class Lexicon:
    """Final. Ids 0 to size - 1; the first 256 are bytes, so that every text has an encoding."""

    def __init__(self, coder: PieceCoder) -> None:
        self._coder = coder
        self._kept: dict[str, list[int]] = {}

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> "Lexicon":
        """At most `size` pieces; a word that the texts hold twice or more becomes a piece while there is room."""
        if size < BYTES:
            raise ConfigError(f"The vocabulary holds at least the {BYTES} bytes, got {size}.")
        words = (list(word.encode()) for text in texts for word in WORD.findall(_led(text)))
        return cls(PieceCoder.train(words, num_symbols=BYTES, vocabulary=size))

    @property
    def size(self) -> int:
        return len(self._coder.pieces)

    def ids(self, text: str) -> list[int]:
        """Shared by all who ask for the same text: not to be changed."""
        ids = self._kept.get(text)
        if ids is None:
            words = WORD.findall(_led(text))
            ids = [piece for word in words for piece in self._coder.encode_one(list(word.encode()))]
            if len(self._kept) < KEPT:
                self._kept[text] = ids
        return ids

    def text(self, ids: Iterable[int]) -> str:
        """What a model said, which may be no valid text; bytes that are none become U+FFFD."""
        symbols = np.frombuffer(self._coder.spell(list(ids)), dtype=SYMBOL)
        return bytes(symbols.astype(np.uint8)).decode(errors="replace").strip()

    def state(self) -> list[list[int]]:
        return [list(piece) for piece in self._coder.pieces[BYTES:]]

    @classmethod
    def restore(cls, state: Iterable[Iterable[int]]) -> "Lexicon":
        pieces = [*((byte,) for byte in range(BYTES)), *(tuple(piece) for piece in state)]
        return cls(PieceCoder(pieces, num_symbols=BYTES, vocabulary=len(pieces)))


def _led(text: str) -> str:
    """With the space before the first word that every other word has."""
    return f" {text.strip()}"
