"""Statistics in one pass and the checks of data sets: every check finds a planted fault and is silent on clean data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volar.core.errors import ConfigError
from volar.data.normalize import exact_statistics
from volar.data.streaming import BUFFER, QuantileSketch, StreamingStatistics

PROBABILITIES = (0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0)


def streams(count: int) -> dict[str, np.ndarray]:
    """Rows that are hard for a sketch: sorted both ways, zig-zag, periodic with the buffers, ties, heavy tails."""
    generator = np.random.default_rng(3)
    normal = generator.normal(size=count)
    ascending = np.sort(normal)
    zigzag = np.empty(count)
    zigzag[::2], zigzag[1::2] = ascending[: (count + 1) // 2], ascending[::-1][: count // 2]
    return {
        "random": normal,
        "ascending": ascending,
        "descending": ascending[::-1].copy(),
        "zigzag": zigzag,
        "periodic": np.sin(2 * np.pi * np.arange(count) / BUFFER),
        "buffers interleaved": ascending.reshape(-1, count // 50).T.ravel() if count % 50 == 0 else ascending,
        "constant": np.full(count, 0.1),
        "two-valued": (generator.random(count) < 0.013).astype(float),
        "heavy tails": generator.standard_cauchy(count) ** 3,
        "integers": generator.geometric(0.3, count).astype(float),
    }


def rank_gap(values: np.ndarray, answer: float, probability: float) -> float:
    """By how much of all rows the answer misses the quantile; ties belong to every rank that they span."""
    below, up_to = (values < answer).mean(), (values <= answer).mean()
    return max(below - probability, probability - up_to, 0.0)


@pytest.mark.parametrize("count", [100_000, 123_457])
def test_quantiles_lie_within_the_stated_rank_error(count):
    columns = streams(count)
    sketch = QuantileSketch(len(columns))
    rows = np.stack(list(columns.values()), axis=1)
    for start in range(0, count, 1000):
        sketch.update(rows[start : start + 1000])
    assert 0 < sketch.rank_error <= np.log2(count / BUFFER) / (4 * BUFFER) + 2 / BUFFER < 0.005
    answers = sketch.quantiles(PROBABILITIES)
    for column, (name, values) in enumerate(columns.items()):
        for probability, answer in zip(PROBABILITIES, answers[:, column], strict=True):
            assert rank_gap(values, answer, probability) <= sketch.rank_error + 1e-12, (name, probability)
            assert answer in values, "an answer did occur"


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.integers(1, 9000), min_size=1, max_size=6), seed=st.integers(0, 2**32 - 1),
    order=st.sampled_from(["left", "right", "none"]),
)  # fmt: skip
def test_parts_merge_in_any_shape(parts, seed, order):
    generator = np.random.default_rng(seed)
    rows = generator.choice([generator.normal(size=sum(parts)), np.round(generator.normal(size=sum(parts)), 1)])[
        :, None
    ]
    if generator.random() < 0.5:
        rows = np.sort(rows, axis=0)
    pieces = np.split(rows, np.cumsum(parts)[:-1])
    if order == "none":
        whole = StreamingStatistics(1)
        for piece in pieces:
            whole.update(piece)
    else:
        collected = []
        for piece in pieces:
            collected.append(StreamingStatistics(1))
            collected[-1].update(piece)
        whole, *rest = collected if order == "left" else collected[::-1]
        for part in rest:
            whole.merge(part)
    exact = exact_statistics(rows)
    assert whole.count == exact.count and whole.min == exact.min and whole.max == exact.max
    np.testing.assert_allclose(whole.mean, exact.mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(whole.std, exact.std, rtol=1e-10, atol=1e-14)
    for probability, answer in zip(PROBABILITIES, whole.sketch.quantiles(PROBABILITIES)[:, 0], strict=True):
        if whole.rank_error:
            assert rank_gap(rows[:, 0], answer, probability) <= whole.rank_error + 1e-12
        else:
            assert answer == np.quantile(rows[:, 0], probability)


def test_few_rows_give_the_exact_statistics():
    rows = np.random.default_rng(0).normal(size=(2 * BUFFER - 1, 3)).astype(np.float32)
    streaming = StreamingStatistics(3)
    for row in np.array_split(rows, 7):
        streaming.update(row)
    ours, exact = streaming.statistics(), exact_statistics(rows)
    assert streaming.rank_error == 0
    for name in ("min", "max", "q01", "q99"):
        np.testing.assert_array_equal(vars(ours)[name], vars(exact)[name])


def test_moments_survive_a_large_offset():
    """A sum of squares would have lost every digit of this spread."""
    rows = 1e9 + np.random.default_rng(0).normal(scale=1e-3, size=(50_000, 1))
    streaming = StreamingStatistics(1)
    for part in np.array_split(rows, 500):
        streaming.update(part)
    np.testing.assert_allclose(streaming.std, rows.std(0), rtol=1e-6)


def test_memory_does_not_grow_with_the_rows():
    """Buffers per level, levels with the logarithm of the rows."""
    sketch = QuantileSketch(2)
    for start in range(0, BUFFER + 1):
        sketch.update(np.full((512, 2), float(start)))
    held = sum(1 for level in sketch._levels if level is not None) + len(sketch._loose) / BUFFER
    assert sketch.count == 512 * (BUFFER + 1) and held <= np.log2(sketch.count / BUFFER) + 2


def test_streaming_marks_degenerate_dimensions_and_refuses_bad_rows():
    streaming = StreamingStatistics(2)
    streaming.update(np.array([[0.1, 1.0], [0.1, 2.0]]))
    assert streaming.degenerate == (0,)
    with pytest.raises(ConfigError, match="2 dimensions"):
        streaming.update(np.zeros((3, 3)))
    with pytest.raises(ConfigError, match=r"non-finite numbers in dimension\(s\) \[1\]"):
        streaming.update(np.array([[0.0, np.nan]]))
    with pytest.raises(ConfigError, match="no rows"):
        StreamingStatistics(1).statistics()
