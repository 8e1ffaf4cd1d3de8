"""Statistics are exact, and normalising is undone by denormalising."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from volar.core.errors import ConfigError
from volar.data.normalize import Normalizer, Statistics, exact_statistics

MODES = ("mean_std", "min_max", "quantile")
finite = st.floats(-1e4, 1e4, width=32)
tables = st.integers(1, 30).flatmap(
    lambda n: st.integers(1, 5).flatmap(lambda d: arrays(np.float32, (n, d), elements=finite))
)


@given(tables)
@settings(max_examples=60, deadline=None)
def test_statistics_equal_a_slow_computation(values: np.ndarray) -> None:
    statistics = exact_statistics(values)
    for dimension in range(values.shape[1]):
        column = sorted(float(value) for value in values[:, dimension])
        mean = sum(column) / len(column)
        assert statistics.mean[dimension] == pytest.approx(mean, rel=1e-12, abs=1e-9)
        variance = sum((value - mean) ** 2 for value in column) / len(column)
        assert statistics.std[dimension] == pytest.approx(variance**0.5, rel=1e-6, abs=1e-6)
        assert (statistics.min[dimension], statistics.max[dimension]) == (column[0], column[-1])
        rank = 0.99 * (len(column) - 1)
        below = int(rank)
        above = min(below + 1, len(column) - 1)
        expected = column[below] + (rank - below) * (column[above] - column[below])
        assert statistics.q99[dimension] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(tables)
@settings(max_examples=60, deadline=None)
def test_json_round_trip_is_exact(values: np.ndarray) -> None:
    statistics = exact_statistics(values)
    again = Statistics.from_json(json.loads(json.dumps(statistics.to_json())))
    assert again == statistics
    for name in ("mean", "std", "min", "max", "q01", "q99"):
        assert np.array_equal(getattr(again, name), getattr(statistics, name))


@pytest.mark.parametrize("mode", MODES)
@given(tables)
@settings(max_examples=60, deadline=None)
def test_denormalise_undoes_normalise(mode: str, values: np.ndarray) -> None:
    exact = values.astype(np.float64)
    normalizer = Normalizer(exact_statistics(exact), mode)  # type: ignore[arg-type]
    back = normalizer.denormalize(normalizer.normalize(exact))
    np.testing.assert_allclose(back, exact, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_tensors_and_arrays_agree_and_keep_their_type(mode: str) -> None:
    values = np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32)
    normalizer = Normalizer(exact_statistics(values), mode)  # type: ignore[arg-type]
    ours, theirs = normalizer.normalize(values), normalizer.normalize(torch.from_numpy(values))
    assert ours.dtype == np.float32 and theirs.dtype == torch.float32
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)
    chunk = torch.from_numpy(values).reshape(5, 10, 4)
    torch.testing.assert_close(normalizer.denormalize(normalizer.normalize(chunk)), chunk, rtol=1e-4, atol=1e-5)


def test_ranges_of_the_modes() -> None:
    values = np.random.default_rng(0).normal(3, 2, (1000, 3))
    statistics = exact_statistics(values)
    scaled = Normalizer(statistics, "mean_std").normalize(values)
    np.testing.assert_allclose([scaled.mean(0), scaled.std(0)], [[0] * 3, [1] * 3], atol=1e-9)
    scaled = Normalizer(statistics, "min_max").normalize(values)
    np.testing.assert_allclose([scaled.min(0), scaled.max(0)], [[-1] * 3, [1] * 3], atol=1e-9)
    scaled = Normalizer(statistics, "quantile").normalize(values)
    np.testing.assert_allclose(np.quantile(scaled, [0.01, 0.99], axis=0), [[-1] * 3, [1] * 3], atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_a_constant_dimension_maps_to_zero_and_back_exactly(mode: str) -> None:
    values = np.column_stack([np.linspace(-1, 1, 20), np.full(20, 0.1), np.full(20, 1e-30)]).astype(np.float32)
    normalizer = Normalizer(exact_statistics(values), mode)  # type: ignore[arg-type]
    assert normalizer.degenerate == (1, 2)
    scaled = normalizer.normalize(values)
    assert (scaled[:, 1:] == 0).all() and scaled[:, 0].std() > 0.1
    assert np.array_equal(normalizer.denormalize(scaled)[:, 1:], values[:, 1:])
    assert np.array_equal(normalizer.denormalize(np.full((1, 3), 0.7, np.float32))[:, 1:], values[:1, 1:])


@pytest.mark.parametrize("mode", MODES)
def test_rounding_is_no_variation_and_a_small_motion_is(mode: str) -> None:
    """The quaternion of a thing that stands still varies by 1e-17; noise on it must not become noise of size 1e14."""
    steps = np.linspace(-1, 1, 20)
    values = np.column_stack([1e-17 * steps, 0.5 + 1e-8 * steps, 1e-6 * steps])
    normalizer = Normalizer(exact_statistics(values), mode)  # type: ignore[arg-type]
    assert normalizer.degenerate == (0, 1)
    noisy = normalizer.normalize(values + 1e-3)
    assert (noisy[:, :2] == 0).all() and np.ptp(noisy[:, 2]) > 1.9


def test_a_rarely_moving_dimension_keeps_its_information_under_quantiles() -> None:
    values = np.zeros((1000, 1))
    values[7] = 4.0
    normalizer = Normalizer(exact_statistics(values), "quantile")
    assert normalizer.degenerate == ()
    assert normalizer.normalize(values).max() == 1 and normalizer.normalize(values).min() == -1


def test_bad_input_is_named() -> None:
    values = np.ones((3, 2))
    values[1, 1] = np.nan
    with pytest.raises(ConfigError, match=r"dimension\(s\) \[1\].*first: 1"):
        exact_statistics(values)
    with pytest.raises(ConfigError, match="no rows"):
        exact_statistics(np.empty((0, 2)))
    statistics = exact_statistics(np.random.default_rng(0).normal(size=(9, 2)))
    normalizer = Normalizer(statistics, "mean_std")
    with pytest.raises(ConfigError, match="non-finite"):
        normalizer.normalize(torch.tensor([[1.0, float("inf")]]))
    with pytest.raises(ConfigError, match="describe 2 dimensions, the array has 3"):
        normalizer.denormalize(np.zeros((1, 3)))
    with pytest.raises(ConfigError, match="exactly the keys"):
        Statistics.from_json({"count": 1})


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_wider_network_is_filled_with_zeros_and_cut_back(kind):
    values = np.random.default_rng(0).normal(3, 2, (20, 3)).astype(np.float32)
    plain, wide = (Normalizer(exact_statistics(values), "min_max", width=width) for width in (None, 5))
    found = wide.normalize(kind(values))
    assert found.shape == (20, 5) and bool((found[:, 3:] == 0).all()) and found.dtype == kind(values).dtype
    assert bool((found[:, :3] == plain.normalize(kind(values))).all())
    assert bool((wide.denormalize(found + 0) == plain.denormalize(found[:, :3])).all())
    with pytest.raises(ConfigError, match="5 dimensions, the array has 3"):
        wide.denormalize(kind(values))
    with pytest.raises(ConfigError, match="do not fit"):
        Normalizer(exact_statistics(values), "min_max", width=2)
