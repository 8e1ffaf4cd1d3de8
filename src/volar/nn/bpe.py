"""Byte-pair coding of integer sequences. Pieces are trained by the `tokenizers` library on whole sequences (no words);
encoding takes the longest piece that fits, which needs no more pieces than merging in rank order (arXiv 2403.01289).

A batch runs through all sequences at once, one table look-up per symbol: the trie with failure links of LinMaxMatch
(arXiv 2012.15524), completed to a transducer.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from volar.core.errors import ConfigError

Piece = tuple[int, ...]

FIRST_CHARACTER = 0x4E00  # symbols travel through the library as these characters: none is a space or a surrogate
MAX_TABLE = 4_000_000  # entries of the transducer: 32 MB. Larger alphabets are encoded one by one
SYMBOL = np.dtype("<i4")
MIN_BATCH = 12  # below this, one by one is faster


class PieceCoder:
    """Piece i has id i; the first `num_symbols` are the single symbols, so every sequence can be encoded. Ids from
    len(pieces) to vocabulary - 1 are never used and stand for nothing."""

    def __init__(self, pieces: list[Piece], *, num_symbols: int, vocabulary: int) -> None:
        assert pieces[:num_symbols] == [(symbol,) for symbol in range(num_symbols)]
        self.pieces = pieces
        self.num_symbols = num_symbols
        self._trie = _Trie.of(pieces)
        spelled = [np.array(piece, dtype=SYMBOL).tobytes() for piece in pieces]
        self._spelled = dict(enumerate(spelled + [b""] * (vocabulary - len(pieces))))

    @classmethod
    def train(cls, sequences: Iterable[list[int]], *, num_symbols: int, vocabulary: int) -> "PieceCoder":
        """Pairs are merged, the most frequent first, until `vocabulary` pieces exist or no pair occurs twice."""
        if num_symbols > vocabulary:
            raise ConfigError(f"{num_symbols} symbols do not fit a vocabulary of {vocabulary}: raise the vocabulary.")
        from tokenizers import Tokenizer, models, trainers  # for training only

        characters = [chr(FIRST_CHARACTER + symbol) for symbol in range(num_symbols)]
        library = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary, min_frequency=2, show_progress=False, initial_alphabet=characters
        )
        library.train_from_iterator(("".join([characters[s] for s in sequence]) for sequence in sequences), trainer)
        pieces: dict[Piece, None] = {(symbol,): None for symbol in range(num_symbols)}
        for left, right in json.loads(library.to_str())["model"]["merges"]:
            pieces.setdefault(tuple(ord(character) - FIRST_CHARACTER for character in left + right))
        return cls(list(pieces), num_symbols=num_symbols, vocabulary=vocabulary)

    def encode(self, symbols: np.ndarray) -> list[list[int]]:
        """Ids of each row of [n s]."""
        if len(self._trie.children) * self.num_symbols > MAX_TABLE:
            return [self.encode_one(row) for row in symbols.tolist()]
        if len(symbols) < MIN_BATCH:
            return [self._transducer.encode_one(row) for row in symbols.tolist()]
        table = self._transducer
        state = np.zeros(len(symbols), dtype=np.int32)
        output = np.empty((symbols.shape[1] + 1, len(symbols)), dtype=np.int32)
        for time, column in enumerate(np.ascontiguousarray(symbols.T, dtype=np.int32)):
            entry = state * self.num_symbols + column
            np.take(table.output, entry, out=output[time])
            state = np.take(table.following, entry)
        output[-1] = table.final[state]
        spoken = output.T.ravel()
        counts = table.spellings.lengths[spoken].reshape(len(symbols), -1).sum(axis=1)
        ids = table.spellings.join(spoken[spoken > 0]).tolist()
        ends = np.cumsum(counts).tolist()
        return [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def encode_one(self, symbols: list[int]) -> list[int]:
        """As `encode`, for one sequence and without tables."""
        children, accepts, ids, position, size = self._trie.children, self._trie.accepts, [], 0, len(symbols)
        while position < size:
            node, found, end = 0, -1, position
            for index in range(position, size):
                step = children[node].get(symbols[index])
                if step is None:
                    break
                node = step
                if accepts[node] >= 0:
                    found, end = accepts[node], index + 1
            ids.append(found)
            position = end
        return ids

    def spell(self, ids: list[int]) -> bytes:
        """The symbols of a sequence, as the bytes of an array of type SYMBOL. KeyError for an id outside of the
        vocabulary."""
        return b"".join(map(self._spelled.__getitem__, ids))

    @cached_property
    def _transducer(self) -> "_Transducer":
        return _Transducer.of(self._trie, self.num_symbols)


@dataclass(frozen=True)
class _Ragged:
    """Integer sequences of unequal length, one after the other in `values`."""

    values: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[Piece]) -> "_Ragged":
        rows = list(rows)
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        values = np.array([value for row in rows for value in row], dtype=np.int64)
        return cls(values=values, starts=np.cumsum(lengths) - lengths, lengths=lengths)

    def join(self, rows: np.ndarray) -> np.ndarray:
        """The values of the named rows, in their order."""
        lengths = self.lengths[rows]
        shift = np.repeat(self.starts[rows] - np.cumsum(lengths) + lengths, lengths)
        shift += np.arange(len(shift))
        return self.values[shift]


@dataclass(frozen=True)
class _Trie:
    """Nodes in breadth-first order, root 0. accepts: id of the piece that ends at a node, or -1."""

    children: list[dict[int, int]]
    accepts: list[int]

    @classmethod
    def of(cls, pieces: list[Piece]) -> "_Trie":
        children: list[dict[int, int]] = [{}]
        accepts = [-1]
        nodes = dict.fromkeys(range(len(pieces)), 0)
        for depth in range(max(map(len, pieces))):
            for identity in list(nodes):
                piece = pieces[identity]
                if depth == len(piece):
                    del nodes[identity]
                    continue
                step = children[nodes[identity]].setdefault(piece[depth], len(children))
                if step == len(children):
                    children.append({})
                    accepts.append(-1)
                nodes[identity] = step
                if depth + 1 == len(piece):
                    accepts[step] = identity
        return cls(children=children, accepts=accepts)


@dataclass(frozen=True)
class _Transducer:
    """following, output: at entry node * num_symbols + symbol, the next node and the row of `spellings` that is spoken
    on the way. final: the row spoken when the sequence ends at a node. Row 0 is silence."""

    following: np.ndarray
    output: np.ndarray
    final: np.ndarray
    spellings: _Ragged

    def encode_one(self, symbols: list[int]) -> list[int]:
        """One sequence in plain Python, which is faster than numpy for few of them."""
        steps, spellings, size = self._steps, self._spellings, len(self.following)
        ids: list[int] = []
        base = 0
        for symbol in symbols:
            base = steps[base + symbol]
            if base >= size:
                row, base = divmod(base, size)
                ids += spellings[row]
        return ids + spellings[self.final[base * len(self.final) // size]]

    @cached_property
    def _steps(self) -> memoryview:
        """At each entry the first entry of the next node, plus the number of entries times the row spoken."""
        size = len(self.following)
        steps = self.following.astype(np.int64) * (size // len(self.final)) + self.output * np.int64(size)
        return steps.data

    @cached_property
    def _spellings(self) -> list[list[int]]:
        ends = np.cumsum(self.spellings.lengths)
        return [part.tolist() for part in np.split(self.spellings.values, ends[:-1])]

    @classmethod
    def of(cls, trie: _Trie, num_symbols: int) -> "_Transducer":
        size = len(trie.children)
        following = np.zeros((size, num_symbols), dtype=np.int32)
        output = np.zeros((size, num_symbols), dtype=np.int32)
        rows: dict[Piece, int] = {(): 0}
        spellings: list[Piece] = [()]

        def row(spelling: Piece) -> int:
            if rows.setdefault(spelling, len(spellings)) == len(spellings):
                spellings.append(spelling)
            return rows[spelling]

        # When node v cannot go on, the pieces spoken[v] are certain and what is left of its string is node failure[v].
        failure, final = [0] * size, [0] * size
        spoken: list[Piece] = [()] * size
        for node, children in enumerate(trie.children):
            if node:
                back = failure[node]
                composed = {old: row(spoken[node] + spellings[old]) for old in np.unique(output[back]).tolist()}
                lookup = np.zeros(max(composed) + 1, dtype=np.int32)
                lookup[list(composed)] = list(composed.values())
                output[node] = lookup[output[back]]
                following[node] = following[back]
                final[node] = row(spoken[node] + spellings[final[back]])
            for symbol, child in children.items():
                if trie.accepts[child] >= 0:
                    spoken[child] = (trie.accepts[child],)
                else:
                    failure[child] = int(following[node, symbol])
                    spoken[child] = spellings[output[node, symbol]]
            for symbol, child in children.items():
                following[node, symbol] = child
                output[node, symbol] = 0
        return cls(
            following=following.ravel(), output=output.ravel(), final=np.array(final), spellings=_Ragged.of(spellings)
        )
