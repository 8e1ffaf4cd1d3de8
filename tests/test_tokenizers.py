"""Conformance of every tokenizer in the table, then the exact properties of single members and their mathematics."""

import json
import math
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct
from scipy.interpolate import BSpline, CubicSpline
from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers import models

from volar.cli import main
from volar.core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from volar.core.errors import ConfigError
from volar.core.model import Tokenizer
from volar.core.registry import build_config
from volar.core.robot import ActionSpec, RobotSpec, Trajectory
from volar.data.writer import DatasetWriter
from volar.evaluation import token_metrics
from volar.evaluation.tokens import METRICS, Comparison, Motions, compare
from volar.nn.bounds import Bounds
from volar.nn.bpe import FIRST_CHARACTER, SYMBOL, PieceCoder
from volar.nn.dct import dct_matrix
from volar.nn.quantize import Codebooks, FiniteScalar
from volar.nn.splines import basis_matrix, fit_matrix, fixed_start_matrix
from volar.tokenizers import TABLE, from_asset, to_asset

HORIZON, DIM, GRIPPER, CONSTANT = 16, 4, 2, 3
SHORT = {"steps": 60, "batch": 64}  # of training: conformance does not ask how good a tokenizer is
OPTIONS: dict[str, dict] = {
    "beast": {"gripper": (GRIPPER,)},
    "vq": SHORT | {"steps": 300},
    "rvq": SHORT | {"codes": 16, "width": 16},
    "fsq": SHORT,
    "spline_rvq": SHORT | {"gripper": (GRIPPER,), "codes": 16},
}
LEARNED = ["vq", "rvq", "spline_rvq", "fsq"]


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def make(name: str, *, horizon: int = HORIZON, action_dim: int = DIM, **options) -> Tokenizer:
    cls = TABLE.load(name)
    return cls(build_config(cls, OPTIONS.get(name, {}) | options), horizon=horizon, action_dim=action_dim)


def motion(count: int, seed: int, *, horizon: int = HORIZON) -> torch.Tensor:
    """Two smooth dimensions, a gripper that switches once, a constant: [count horizon 4]."""
    random = np.random.default_rng(seed)
    knots = random.uniform(-1, 1, size=(4, count * 2))
    smooth = CubicSpline(np.linspace(0, 1, 4), knots)(np.linspace(0, 1, horizon)).reshape(horizon, count, 2)
    switch = np.where(np.arange(horizon) < random.integers(0, horizon, size=(count, 1)), -1.0, 1.0)
    constant = np.full((count, horizon, 1), 0.3)
    return torch.tensor(np.concatenate([smooth.transpose(1, 0, 2), switch[..., None], constant], -1)).float()


@cache
def fitted(name: str) -> Tokenizer:
    tokenizer = make(name)
    tokenizer.fit(motion(300, seed=0), generator=seeded())
    return tokenizer


@cache
def asset(name: str) -> bytes:
    return to_asset(name, fitted(name))


def fresh(name: str) -> Tokenizer:
    """A fitted tokenizer whose counters nobody else moves."""
    return from_asset(asset(name))


def worst_error(name: str, tokenizer: Tokenizer, chunks: torch.Tensor) -> float:
    return (tokenizer.decode(tokenizer.encode(chunks)) - chunks).abs().max().item()


@pytest.mark.parametrize("name", TABLE)
class TestEveryTokenizer:
    def test_ids_shapes_and_length(self, name):
        tokenizer, chunks = fresh(name), motion(20, seed=1)
        tokens = tokenizer.encode(chunks)
        decoded = tokenizer.decode(tokens)
        assert decoded.shape == chunks.shape and decoded.dtype == torch.float32 and torch.isfinite(decoded).all()
        assert all(0 <= token < tokenizer.vocabulary for sequence in tokens for token in sequence)
        if tokenizer.length is not None:
            assert {len(sequence) for sequence in tokens} == {tokenizer.length}
        assert tokenizer.invalid_decodes == 0

    def test_beats_the_mean_chunk(self, name):
        """Even after a minute's worth less of training, tokens tell more than no tokens."""
        chunks = motion(50, seed=1)
        mean = motion(300, seed=0).mean(dim=0)
        error = (fresh(name).decode(fresh(name).encode(chunks)) - chunks).square().mean()
        assert error < 0.9 * (mean - chunks).square().mean()

    def test_batch_and_single_agree(self, name):
        tokenizer, chunks = fresh(name), motion(40, seed=2)
        together = tokenizer.encode(chunks)
        assert together == [tokenizer.encode(chunk[None])[0] for chunk in chunks]
        alone = torch.cat([tokenizer.decode([sequence]) for sequence in together])
        torch.testing.assert_close(tokenizer.decode(together), alone, rtol=0, atol=1e-5)

    def test_nothing_in_nothing_out(self, name):
        tokenizer = fresh(name)
        assert tokenizer.encode(torch.empty(0, HORIZON, DIM)) == []
        assert tokenizer.decode([]).shape == (0, HORIZON, DIM)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_refuses_what_is_not_finite(self, name, value):
        chunks = motion(3, seed=1)
        chunks[1, 2, 0] = value
        with pytest.raises(ConfigError, match=r"Chunk 1 is .* at step 2, dimension 0"):
            fresh(name).encode(chunks)
        with pytest.raises(ConfigError, match="finite"):
            make(name).fit(chunks)

    def test_refuses_another_shape_and_no_fit(self, name):
        with pytest.raises(ConfigError, match=rf"Expected float chunks \[n {HORIZON} {DIM}\]"):
            fresh(name).encode(torch.zeros(2, HORIZON, DIM + 1))
        with pytest.raises(ConfigError, match="fit"):
            make(name).encode(motion(1, seed=0))
        with pytest.raises(ConfigError, match="0 chunks"):
            make(name).fit(torch.empty(0, HORIZON, DIM))

    def test_constant_dimension_comes_back(self, name):
        decoded = fresh(name).decode(fresh(name).encode(motion(20, seed=3)))
        assert (decoded[..., CONSTANT] - 0.3).abs().max() < 1e-6

    def test_far_outside_saturates_and_says_so(self, name):
        tokenizer = fresh(name)
        seen = motion(300, seed=0)
        tokenizer.encode(seen[:20])
        usual = tokenizer.saturated
        chunks = motion(20, seed=4)
        chunks[3, 5:, 0] = 1e30
        chunks[4, :, 1] = -1e6
        decoded = tokenizer.decode(tokenizer.encode(chunks))
        assert tokenizer.saturated >= usual + 11 + HORIZON
        low, high = seen.amin(dim=(0, 1)), seen.amax(dim=(0, 1))
        assert (decoded >= low - 1e-5).all() and (decoded <= high + 1e-5).all()
        untouched = [row for row in range(20) if row not in (3, 4)]
        clean = fresh(name).decode(fresh(name).encode(chunks[untouched]))
        torch.testing.assert_close(decoded[untouched], clean, rtol=0, atol=1e-5)

    def test_one_flipped_token_never_raises_and_never_gives_zeros(self, name):
        tokenizer, random = fresh(name), np.random.default_rng(0)
        for sequence in tokenizer.encode(motion(30, seed=5)):
            for _ in range(10):
                flipped = list(sequence)
                flipped[random.integers(len(flipped))] = int(random.integers(tokenizer.vocabulary))
                decoded = tokenizer.decode([flipped])
                assert decoded.shape == (1, HORIZON, DIM) and torch.isfinite(decoded).all()
                assert decoded.abs().max() > 0.2  # the constant dimension alone is 0.3

    def test_any_sequence_gives_a_chunk_of_the_fit_and_is_counted(self, name):
        tokenizer, random = fresh(name), np.random.default_rng(1)
        seen = motion(300, seed=0)
        low, high = seen.amin(dim=(0, 1)), seen.amax(dim=(0, 1))
        size = tokenizer.length or 30
        lengths = [0, 1, size - 1, size, size + 1, 3 * size]
        sequences = [random.integers(tokenizer.vocabulary, size=length).tolist() for length in lengths]
        decoded = tokenizer.decode(sequences)
        assert (decoded >= low - 1e-5).all() and (decoded <= high + 1e-5).all()
        assert tokenizer.invalid_decodes >= 4
        before = tokenizer.invalid_decodes
        tokenizer.decode([[]])
        assert tokenizer.invalid_decodes == before + 1

    def test_no_tokens_give_about_the_median_chunk(self, name):
        median = motion(300, seed=0).median(dim=0).values[None]
        decoded = fresh(name).decode([[]])
        expected = fresh(name).decode(fresh(name).encode(median))
        if name == "fsq":  # whose decoder has learned what absence means
            assert (decoded - median).abs().mean() < 0.5
        else:  # fast takes the median of each frequency, which for a step is not that of each moment
            joints = [0, 1, CONSTANT]
            assert (decoded - expected)[..., joints].abs().mean() < 0.1

    def test_ids_outside_the_vocabulary_are_refused(self, name):
        tokenizer = fresh(name)
        for wrong in (-1, tokenizer.vocabulary):
            with pytest.raises(ConfigError, match=f"Token id {wrong} is outside"):
                tokenizer.decode([[wrong]])

    def test_prefix_is_not_counted(self, name):
        tokenizer = fresh(name)
        tokens = tokenizer.encode(motion(5, seed=6))
        whole = tokenizer.decode(tokens)
        assert torch.equal(tokenizer.decode_prefix(tokens, max(map(len, tokens))), whole)
        assert tokenizer.decode_prefix(tokens, 1).shape == whole.shape
        assert tokenizer.invalid_decodes == 0

    @pytest.mark.parametrize("horizon", [1, 2, 7])
    def test_short_horizons(self, name, horizon):
        tokenizer = make(name, horizon=horizon)
        chunks = motion(60, seed=7, horizon=50)[:, :horizon]
        tokenizer.fit(chunks, generator=seeded())
        decoded = tokenizer.decode(tokenizer.encode(chunks))
        assert decoded.shape == chunks.shape
        assert (decoded[..., CONSTANT] - 0.3).abs().max() < 1e-6

    def test_one_chunk_is_enough_to_fit(self, name):
        tokenizer = make(name)
        chunk = motion(1, seed=8)
        tokenizer.fit(chunk, generator=seeded())
        assert tokenizer.decode(tokenizer.encode(chunk)).shape == chunk.shape

    def test_all_constant_data(self, name):
        tokenizer = make(name)
        chunks = torch.full((10, HORIZON, DIM), -0.7)
        tokenizer.fit(chunks, generator=seeded())
        torch.testing.assert_close(tokenizer.decode(tokenizer.encode(chunks)), chunks, rtol=0, atol=1e-6)

    def test_same_generator_same_ids(self, name):
        chunks = motion(100, seed=9)
        first, second = make(name), make(name)
        torch.manual_seed(1)
        first.fit(chunks, generator=seeded(5))
        torch.manual_seed(2)  # the global generator must not matter
        second.fit(chunks, generator=seeded(5))
        assert first.encode(chunks) == second.encode(chunks)

    def test_stored_inside_a_checkpoint(self, name, tmp_path):
        tokenizer, chunks = fresh(name), motion(30, seed=10)
        whole = Checkpoint(config={}, statistics={}, tensors={}, assets={"tokenizer.json": asset(name)})
        save_checkpoint(tmp_path / "policy", whole)
        restored = from_asset(load_checkpoint(tmp_path / "policy").assets["tokenizer.json"])
        tokens = tokenizer.encode(chunks)
        assert restored.encode(chunks) == tokens
        assert torch.equal(restored.decode(tokens), tokenizer.decode(tokens))
        assert restored.state() == tokenizer.state()


def test_ids_are_the_same_in_another_process(tmp_path):
    """All tokenizers in one process, since starting it is what costs."""
    chunks = motion(50, seed=11)
    np.save(tmp_path / "chunks.npy", chunks.numpy())
    for name in TABLE:
        (tmp_path / f"{name}.json").write_bytes(asset(name))
    script = """
import json, pathlib, sys, numpy, torch
from volar.tokenizers import TABLE, from_asset
torch.set_num_threads(1)
folder = pathlib.Path(sys.argv[1])
chunks = torch.from_numpy(numpy.load(folder / "chunks.npy"))
print(json.dumps({name: from_asset((folder / f"{name}.json").read_bytes()).encode(chunks) for name in TABLE}))
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {name: fresh(name).encode(chunks) for name in TABLE}


class TestBins:
    @pytest.mark.parametrize("bins", [2, 255, 256])
    def test_error_is_half_a_bin(self, bins):
        chunks = motion(200, seed=0)
        tokenizer = make("bins", bins=bins, quantile=0.0)
        tokenizer.fit(chunks)
        error = (tokenizer.decode(tokenizer.encode(chunks)) - chunks).abs().amax(dim=(0, 1))
        span = chunks.amax(dim=(0, 1)) - chunks.amin(dim=(0, 1))
        assert (error <= span / bins / 2 * 1.001 + 1e-6).all()

    def test_all_256_bins_are_used(self):
        """OpenVLA's 256 edges leave 255 centres."""
        tokenizer = make("bins", horizon=1, action_dim=1, quantile=0.0)
        chunks = torch.linspace(-1, 1, 4096).reshape(-1, 1, 1)
        tokenizer.fit(chunks)
        tokens = tokenizer.encode(chunks)
        assert {token for (token,) in tokens} == set(range(256))
        assert len(tokenizer.decode(tokens).unique()) == 256

    def test_gripper_is_exact(self):
        chunks = motion(20, seed=1)
        decoded = fresh("bins").decode(fresh("bins").encode(chunks))
        assert torch.equal(decoded[..., GRIPPER], chunks[..., GRIPPER])

    def test_rare_gripper_is_not_lost_in_the_quantiles(self):
        """A gripper that closes in 0.5 % of the steps has equal 1 % and 99 % quantiles."""
        chunks = motion(200, seed=1)
        chunks[..., GRIPPER] = 1.0
        chunks[0, :, GRIPPER] = -1.0
        for name in ("bins", "fast", "text"):
            tokenizer = make(name)
            tokenizer.fit(chunks)
            decoded = tokenizer.decode(tokenizer.encode(chunks[:2]))
            assert (decoded[..., GRIPPER] - chunks[:2, :, GRIPPER]).abs().max() < 0.2

    def test_quantile_bins_are_evenly_used_and_finer_where_data_is(self):
        chunks = torch.randn(2000, 4, 1, generator=seeded()).pow(3)
        errors = []
        for spacing in ("uniform", "quantile"):
            tokenizer = make("bins", horizon=4, action_dim=1, bins=32, spacing=spacing, quantile=0.0)
            tokenizer.fit(chunks)
            tokens = torch.tensor(tokenizer.encode(chunks)).flatten()
            errors.append((tokenizer.decode(tokenizer.encode(chunks)) - chunks).abs().median())
        load = torch.bincount(tokens, minlength=32) / len(tokens)
        assert load.min() > 0.5 / 32 and load.max() < 2 / 32
        assert errors[1] < errors[0] / 2


class TestFast:
    def test_low_frequencies_come_first_in_scipys_transform(self):
        tokenizer, chunks = fresh("fast"), motion(5, seed=1)
        state = tokenizer.state()
        bounds = Bounds.from_state(state["bounds"])
        expected = np.rint(10 * dct(bounds.unit(chunks).values.double().numpy(), axis=1, norm="ortho")).reshape(5, -1)
        for sequence, symbols in zip(tokenizer.encode(chunks), expected, strict=True):
            told = [symbol for token in sequence for symbol in state["pieces"][token]]
            assert (np.array(told) + state["lowest"] == symbols).mean() > 0.99  # ties of rounding in float32

    def test_error_bound_of_rounding(self):
        """Orthonormal, so each dimension's root-mean-square error is at most 0.5 / scale of half its range."""
        chunks = motion(300, seed=0)
        for scale in (5.0, 10.0, 40.0):
            tokenizer = make("fast", scale=scale)
            tokenizer.fit(chunks)
            decoded = tokenizer.decode(tokenizer.encode(chunks))
            assert tokenizer.saturated == 0
            half = torch.tensor(tokenizer.state()["bounds"]["half"])
            error = (decoded - chunks).square().mean(dim=1).sqrt() / half
            assert error.max() <= 0.5 / scale + 1e-4

    def test_tokens_hardly_grow_with_the_rate(self):
        """The same motion sampled ever faster: binning grows linearly, FAST stays far below (arXiv 2501.09747)."""
        lengths = {}
        for horizon in (25, 50, 100, 200, 400):
            tokenizer = make("fast", horizon=horizon, action_dim=1)
            tokenizer.fit(motion(400, seed=0, horizon=horizon)[..., :1])
            tokens = tokenizer.encode(motion(200, seed=1, horizon=horizon)[..., :1])
            lengths[horizon] = np.mean([len(sequence) for sequence in tokens])
        assert lengths[400] < 4 * lengths[25]
        assert lengths[400] < 400 / 15 and lengths[25] < 25 / 2

    def test_freak_chunks_do_not_eat_the_vocabulary(self):
        chunks = motion(300, seed=0)
        chunks[0, :, 0] *= 1e4
        tokenizer = make("fast")
        tokenizer.fit(chunks)
        assert tokenizer.state()["num_symbols"] <= 512
        decoded = tokenizer.decode(tokenizer.encode(chunks[1:]))
        assert (decoded - chunks[1:]).square().mean().sqrt() < 0.05

    def test_cut_sequence_keeps_the_slow_part(self):
        """Losing the end loses only high frequencies, not the motion."""
        tokenizer, chunks = fresh("fast"), motion(30, seed=2)
        tokens = tokenizer.encode(chunks)
        cut = tokenizer.decode([sequence[: len(sequence) * 3 // 4] for sequence in tokens])
        assert tokenizer.invalid_decodes == 30
        assert (cut - chunks).square().mean() < 0.1 * chunks.square().mean()


class TestPieces:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 4), st.sampled_from([6, 20, 60]), st.integers(0, 10**6))
    def test_table_and_trie_agree_and_decode(self, num_symbols, vocabulary, seed):
        random = np.random.default_rng(seed)
        data = [random.integers(num_symbols, size=random.integers(1, 40)).tolist() for _ in range(60)]
        coder = PieceCoder.train(data, num_symbols=num_symbols, vocabulary=vocabulary)
        assert len(coder.pieces) <= vocabulary and len(set(coder.pieces)) == len(coder.pieces)
        symbols = random.integers(num_symbols, size=(20, random.integers(1, 60)))
        tokens = coder.encode(symbols)
        assert tokens == [coder.encode_one(row) for row in symbols.tolist()]
        assert tokens == [coder.encode(row[None])[0] for row in symbols]
        for sequence, row in zip(tokens, symbols, strict=True):
            assert np.array_equal(np.frombuffer(coder.spell(sequence), dtype=SYMBOL), row)

    def test_no_longer_than_merging_in_rank_order(self):
        """Against the `tokenizers` library's own encoding with the same vocabulary."""
        rounded = (10 * torch.einsum("kh,nha->nka", dct_matrix(HORIZON), motion(600, seed=0))).round().flatten(1)
        symbols = (rounded - rounded.min()).long().numpy()
        coder = PieceCoder.train(symbols[:400].tolist(), num_symbols=int(symbols.max()) + 1, vocabulary=512)
        words = ["".join(chr(FIRST_CHARACTER + symbol) for symbol in piece) for piece in coder.pieces]
        ids = {word: identity for identity, word in enumerate(words)}
        merges = [
            next(
                (word[:i], word[i:])
                for i in range(1, len(word))
                if max(ids.get(word[:i], 999), ids.get(word[i:], 999)) < n
            )
            for n, word in enumerate(words)
            if len(word) > 1
        ]
        library = LibraryTokenizer(models.BPE(vocab=ids, merges=merges))
        texts = ["".join(chr(FIRST_CHARACTER + symbol) for symbol in row) for row in symbols[400:]]
        theirs = sum(len(library.encode(text).ids) for text in texts)
        assert sum(map(len, coder.encode(symbols[400:]))) <= theirs


class TestBeast:
    def test_seam_jump_is_exactly_zero(self):
        """Whatever the tokens are, also when the robot stands outside of what the fit saw."""
        tokenizer = make("beast", fixed_start=True)
        tokenizer.fit(motion(300, seed=0))
        random = np.random.default_rng(0)
        tokens = [random.integers(256, size=tokenizer.length).tolist() for _ in range(50)]
        start = 3 * torch.randn(50, DIM, generator=seeded())
        joints = [0, 1, 3]
        assert torch.equal(tokenizer.decode(tokens, start)[:, 0, joints], start[:, joints])
        jump = (tokenizer.decode(tokens)[:, 0, joints] - start[:, joints]).abs()
        assert jump.max() > 0.1

    def test_fixed_start_refits_the_rest(self):
        """Overwriting the first point after a free fit bends the curve more than fitting the others to what is left."""
        chunks = motion(100, seed=1)
        chunks[..., :2] += 0.05 * torch.randn(100, HORIZON, 2, generator=seeded())
        errors = []
        for fixed in (False, True):
            tokenizer = make("beast", fixed_start=fixed, num_basis=6, gripper=())
            curve = tokenizer.curve(tokenizer.control_points(chunks), chunks[:, 0])
            assert torch.equal(curve[:, 0], chunks[:, 0])
            errors.append((curve - chunks)[..., :2].square().mean())
        assert errors[1] < errors[0]

    def test_gripper_does_not_overshoot(self):
        chunks = motion(200, seed=2, horizon=50)
        outside = {}
        for gripper in ((), (GRIPPER,)):
            tokenizer = make("beast", horizon=50, gripper=gripper)
            curve = tokenizer.curve(tokenizer.control_points(chunks))[..., GRIPPER]
            outside[gripper] = (curve.abs() - 1).max().item()
        assert outside[()] > 0.1 and outside[(GRIPPER,)] <= 1e-6

    def test_gripper_step_on_a_knot_is_exact(self):
        chunks = motion(10, seed=2, horizon=50)
        chunks[..., GRIPPER] = torch.where(torch.arange(50) < 25, -1.0, 1.0)
        tokenizer = make("beast", horizon=50)
        curve = tokenizer.curve(tokenizer.control_points(chunks))[..., GRIPPER]
        assert (curve - chunks[..., GRIPPER]).abs().max() < 1e-6

    def test_levels_add_little_to_the_spline(self):
        chunks = motion(500, seed=0, horizon=50)
        tokenizer = make("beast", horizon=50)
        tokenizer.fit(chunks)
        continuous = tokenizer.curve(tokenizer.control_points(chunks))
        span = chunks.amax(dim=(0, 1)) - chunks.amin(dim=(0, 1))
        added = (tokenizer.decode(tokenizer.encode(chunks)) - continuous).abs().amax(dim=(0, 1))
        assert (added <= 2 * span / 255 + 1e-5).all()

    def test_more_points_less_error(self):
        phase = 6 * torch.rand(100, 1, 1, generator=seeded())
        chunks = torch.sin(torch.linspace(0, 12, 50)[:, None] + phase)
        errors = []
        for num_basis in (5, 8, 12, 20):
            tokenizer = make("beast", horizon=50, action_dim=1, num_basis=num_basis, gripper=())
            errors.append((tokenizer.curve(tokenizer.control_points(chunks)) - chunks).square().mean().item())
        assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 100


class TestSplines:
    @pytest.mark.parametrize(("steps", "num_basis", "degree"), [(50, 10, 4), (7, 3, 2), (10, 10, 3), (33, 6, 1)])
    def test_basis_is_scipys(self, steps, num_basis, degree):
        knots = np.r_[[0.0] * degree, np.linspace(0, 1, num_basis - degree + 1), [1.0] * degree]
        times = np.linspace(0, 1, steps).clip(0, 1 - 1e-12)
        expected = BSpline.design_matrix(times, knots, degree).toarray()
        np.testing.assert_allclose(basis_matrix(steps, num_basis, degree).numpy(), expected, atol=1e-6)

    def test_every_piece_of_degree_0_holds_a_step(self):
        for steps in range(1, 60):
            for num_basis in range(1, steps + 1):
                assert (basis_matrix(steps, num_basis, 0).sum(dim=0) > 0).all()

    def test_fit_inverts_the_basis(self):
        basis, points = basis_matrix(50, 10, 4), torch.randn(10, 3, generator=seeded())
        for solve in (fit_matrix(50, 10, 4, 1e-9), fixed_start_matrix(50, 10, 4, 1e-9)):
            torch.testing.assert_close(solve @ (basis @ points), points, rtol=0, atol=1e-4)


class TestText:
    def test_renders_and_parses(self):
        tokenizer, chunks = fresh("text"), motion(3, seed=1)
        for sequence in tokenizer.encode(chunks):
            text = tokenizer.render(sequence)
            numbers = [int(word) for word in text.split(" ")]
            assert len(numbers) == HORIZON * DIM and max(numbers) <= 1000
            assert tokenizer.parse(f"Actions: {', '.join(map(str, numbers))}.") == sequence

    def test_error_is_half_a_step(self):
        chunks = motion(100, seed=0)
        tokenizer = make("text", resolution=500)
        tokenizer.fit(chunks)
        error = (tokenizer.decode(tokenizer.encode(chunks)) - chunks).abs().amax(dim=(0, 1))
        assert (error <= (chunks.amax(dim=(0, 1)) - chunks.amin(dim=(0, 1))) / 500 / 2 * 1.01 + 1e-6).all()

    @pytest.mark.parametrize("text", ["", "no idea", "99999999999999999999 5", "1 " * 500, "-3 -4"])
    def test_any_text_gives_a_chunk(self, text):
        tokenizer = fresh("text")
        decoded = tokenizer.decode([tokenizer.parse(text)])
        assert torch.isfinite(decoded).all() and tokenizer.invalid_decodes == 1


class TestLearned:
    @pytest.mark.parametrize("name", LEARNED)
    def test_restores_without_training(self, name):
        """Weights travel as float32: no bit is lost."""
        state = fresh(name).state()
        assert json.loads(json.dumps(state)) == from_asset(asset(name)).state()

    def test_codebooks_do_not_die(self):
        """Half of the codes start far away from every vector; moving averages alone would leave them there."""
        vectors = torch.randn(4000, 6, generator=seeded())
        books, generator = Codebooks(books=2, codes=64, width=6), seeded(1)
        books.learn(vectors[:256], generator)
        books.codes[:, 32:] = 100.0
        assert (books.quantise(vectors).ids < 32).all()
        for step in range(200):
            books.learn(vectors[torch.randint(4000, (256,), generator=seeded(step))], generator)
        ids = books.quantise(vectors).ids
        for book in range(2):
            load = torch.bincount(ids[:, book], minlength=64) / len(ids)
            assert (load > 0).all()
            entropy = -(load * load.log()).sum() / math.log(64)
            assert entropy > 0.85

    def test_each_book_refines(self):
        vectors, generator = torch.randn(4000, 6, generator=seeded()), seeded(1)
        books = Codebooks(books=3, codes=64, width=6)
        for step in range(150):
            books.learn(vectors[torch.randint(4000, (256,), generator=seeded(step))], generator)
        ids = books.quantise(vectors).ids
        errors = [
            (books.values(ids, torch.arange(3).expand(len(ids), 3) < keep) - vectors).square().mean().item()
            for keep in range(4)
        ]
        assert errors[3] < errors[2] < errors[1] < errors[0]

    @pytest.mark.parametrize("name", ["rvq", "spline_rvq"])
    def test_book_by_book_prefix_only_refines(self, name):
        """Whole books are better than fewer books, from the first on."""
        tokenizer = make(name, steps=300, codes=32)
        tokenizer.fit(motion(300, seed=0), generator=seeded())
        chunks = motion(100, seed=1)
        tokens = tokenizer.encode(chunks)
        size = tokenizer.length // 3
        errors = [
            (tokenizer.decode_prefix(tokens, keep) - chunks).square().mean().item()
            for keep in (0, size, 2 * size, 3 * size)
        ]
        assert errors == sorted(errors, reverse=True)

    def test_token_of_another_book_counts_as_missing(self):
        tokenizer = fresh("vq")
        tokens = tokenizer.encode(motion(1, seed=1))[0]
        swapped = tokenizer.decode([[tokens[0], tokens[0]]])
        assert tokenizer.invalid_decodes == 1
        assert torch.equal(swapped, tokenizer.decode_prefix([tokens], 1))

    def test_groups_keep_their_dimensions(self):
        """Patches over groups in another order than the action's must come back in the action's order."""
        tokenizer = make("rvq", groups=((2,), (3, 0, 1)), steps=400, codes=64)
        chunks = motion(300, seed=0)
        tokenizer.fit(chunks, generator=seeded())
        assert tokenizer.length == 3 * 2 * 2
        error = (tokenizer.decode(tokenizer.encode(chunks)) - chunks).square().mean(dim=(0, 1))
        assert (error[:3] < 0.5 * chunks.var(dim=(0, 1))[:3]).all()
        with pytest.raises(ConfigError, match="each of the 4 dimensions once"):
            make("rvq", groups=((0, 1), (1, 2, 3)))

    def test_frequency_loss_cuts_high_frequencies(self):
        """FASTer's claim: with the loss in frequency the fast part of the motion survives better."""
        chunks = motion(400, seed=0)
        chunks[..., 0] += 0.3 * torch.sin(2.5 * torch.arange(HORIZON) + 6 * torch.rand(400, 1, generator=seeded()))
        high = dct_matrix(HORIZON)[HORIZON // 2 :]
        errors = []
        for weight in (0.0, 1.0):
            tokenizer = make("rvq", steps=300, codes=64, width=32, dct_weight=weight)
            tokenizer.fit(chunks, generator=seeded())
            error = tokenizer.decode(tokenizer.encode(chunks)) - chunks
            errors.append(torch.einsum("kh,nha->nka", high, error).abs().mean().item())
        assert errors[1] < errors[0]

    def test_fsq_prefixes_refine_and_nested_dropout_is_why(self):
        curves = {}
        chunks, others = motion(400, seed=0), motion(100, seed=1)
        for nested in (True, False):
            tokenizer = make("fsq", steps=400, nested_dropout=nested)
            tokenizer.fit(chunks, generator=seeded())
            tokens = tokenizer.encode(others)
            curves[nested] = [
                (tokenizer.decode_prefix(tokens, keep) - others).square().mean().item() for keep in (1, 2, 4, 8)
            ]
        assert curves[True] == sorted(curves[True], reverse=True)
        assert curves[False][0] > 1.5 * curves[True][0]

    @pytest.mark.parametrize("levels", [(8, 5, 5, 5), (2, 3), (7,)])
    def test_finite_scalars_round_trip(self, levels):
        scalars = FiniteScalar(levels)
        ids = torch.arange(math.prod(levels))
        values = scalars.values(ids)
        assert values.abs().max() <= 1 and len(values.unique(dim=0)) == len(ids)
        numbers = 1.5 * torch.randn(20000, len(levels), generator=seeded())
        rounded = scalars(numbers)
        assert rounded.ids.min() >= 0 and rounded.ids.max() < len(ids)
        torch.testing.assert_close(scalars.values(rounded.ids), rounded.values, rtol=0, atol=1e-6)
        assert len(rounded.ids.unique()) > 0.9 * len(ids)

    def test_splines_bring_any_length_to_the_same_tokens(self):
        """The same motion at three rates is the same chunk, so the same ids."""
        tokenizer = make("spline_rvq", gripper=(), num_basis=6, degree=3)
        tokenizer.fit(motion(300, seed=0), generator=seeded())
        points = torch.randn(6, DIM, generator=seeded())
        motions = [basis_matrix(steps, 6, 3) @ points for steps in (12, 40, 200)]
        chunks = torch.stack([tokenizer.resample(piece, HORIZON) for piece in motions])
        torch.testing.assert_close(chunks[1:], chunks[:1].expand(2, -1, -1), rtol=0, atol=1e-3)
        back = tokenizer.resample(chunks[0], 200)
        torch.testing.assert_close(back, motions[2], rtol=0, atol=1e-3)
        with pytest.raises(ConfigError, match="Expected motion"):
            tokenizer.resample(torch.zeros(5, DIM + 1), HORIZON)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bins", {"bins": 1}),
        ("bins", {"quantile": 0.5}),
        ("fast", {"scale": 0.0}),
        ("beast", {"num_basis": 4, "degree": 4}),
        ("beast", {"gripper": (DIM,)}),
        ("text", {"resolution": 0}),
        ("vq", {"books": 0}),
        ("rvq", {"patch": 0}),
        ("spline_rvq", {"parts": ((0,),)}),
        ("fsq", {"levels": ()}),
        ("fsq", {"steps": 0}),
    ],
)
def test_impossible_choices_are_refused_before_the_fit(name, options):
    with pytest.raises(ConfigError):
        make(name, **options)


def test_bounds_state_is_exact():
    bounds = Bounds.of(motion(50, seed=0) / 3, quantile=0.01)
    again = Bounds.from_state(json.loads(json.dumps(bounds.state())))
    assert all(np.array_equal(a, b) for a, b in zip(vars(bounds).values(), vars(again).values(), strict=True))


class TestComparison:
    """`volar tokenizers compare`: measurements with known answers, then the command on a data set on disk."""

    def motions(self, *, episodes: int = 6) -> Motions:
        pieces = motion(episodes, seed=0, horizon=80).numpy()
        names = ("x (m)", "y (m)", "gripper", "unused")
        return Motions(name="made", trajectories=tuple(pieces), rate_hz=10.0, dimensions=names, grippers=(GRIPPER,))

    def test_bins_measure_as_computed_by_hand(self):
        comparison = compare(self.motions(), ["bins"], horizon=HORIZON, splits=2, options={"bins": {"bins": 4}})
        (row,) = comparison.rows
        metrics = {name: estimate.mean for name, estimate in row.metrics.items()}
        assert set(metrics) == set(METRICS) and all(map(math.isfinite, metrics.values()))
        assert metrics["tokens"] == HORIZON * DIM and metrics["bits"] == HORIZON * DIM * 2
        assert metrics["compression"] == 1 and metrics["valid_flipped"] == metrics["valid_random"] == 100
        # Four uniform bins over -1..1: an error evenly within half a bin, 0.25; the gripper and the constant are exact.
        smooth = np.mean([row.dimensions[0].mean, row.dimensions[1].mean])
        assert 0.5 < smooth / (0.5 * 0.25 / math.sqrt(3) * 2) < 2
        assert row.dimensions[GRIPPER].mean == row.dimensions[CONSTANT].mean == 0
        assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean([d.mean**2 for d in row.dimensions])), rel=0.05)

    def test_same_seed_same_measurements(self):
        """Times aside, which the clock argument makes a counter."""

        def run() -> Comparison:
            clock = iter(range(10**6))
            return compare(self.motions(), ["fast", "beast"], horizon=8, splits=2, clock=lambda: next(clock))

        first, second = run(), run()
        assert [row.metrics for row in first.rows] == [row.metrics for row in second.rows]

    def test_an_episode_is_never_on_both_sides(self):
        """A constant per episode: were an episode split, held-out values would lie among the fitted bins' centres."""
        pieces = tuple(np.full((40, 1), float(level), dtype=np.float32) for level in range(5))
        motions = Motions(name="levels", trajectories=pieces, rate_hz=10.0, dimensions=("x",))
        comparison = compare(motions, ["bins"], horizon=8, splits=5)
        assert comparison.held_out_chunks == 5 and comparison.rows[0].metrics["worst"].mean > 0.1

    def test_perfect_tokens_have_no_seam_and_full_overlap(self):
        here = [[1, 2, 3], [4, 4, 5]]
        assert token_metrics.overlap(here, here) == 100
        assert token_metrics.overlap(here, [[2, 3, 1], [4, 6, 7]]) == pytest.approx(100 * (1 + 1 / 3) / 2)
        error = np.zeros((3, 4, 2))
        error[1, 0] = 0.5
        assert token_metrics.seam(error, [range(0, 3)]) == pytest.approx(math.sqrt(0.25 / 2))
        assert token_metrics.seam(error, [range(0, 1), range(1, 3)]) == 0
        ramp = np.arange(10.0)[None, :, None] ** 3
        assert token_metrics.jerk_ratio(ramp, 2 * ramp) == pytest.approx(2)

    def test_surprise_is_the_entropy_of_a_known_source(self):
        random = np.random.default_rng(0)
        fair = random.integers(4, size=(2000, 20)).tolist()
        assert token_metrics.surprise(fair[:1000], fair[1000:], 4) == pytest.approx(20 * 2, rel=0.02)
        steady = [[int(start)] * 20 for start in random.integers(4, size=2000)]
        assert token_metrics.surprise(steady[:1000], steady[1000:], 4) == pytest.approx(2, rel=0.1)

    def test_impossible_requests_are_refused_before_any_fit(self):
        with pytest.raises(ConfigError, match="2 episodes"):
            compare(self.motions(episodes=1), ["bins"], horizon=8)
        with pytest.raises(ConfigError, match=r"No tokenizer named 'bin'\. Did you mean 'bins'"):
            compare(self.motions(), ["bin"], horizon=8)
        with pytest.raises(ConfigError, match="bims"):
            compare(self.motions(), ["bins"], horizon=8, options={"bins": {"bims": 3}})

    def test_command_prints_a_table_and_writes_a_page(self, tmp_path, capsys):
        spec = ActionSpec(
            names=("x", "y", "gripper", "unused"), units=("m", "m", "normalised", "m"),
            low=(-2.0,) * 4, high=(2.0,) * 4, control="delta_position", rotation="none",
            gripper="positive_closes", frame="world", rate_hz=10.0,
        )  # fmt: skip
        robot = RobotSpec(action=spec, cameras=(), proprioception=("nothing",))
        facts = {"fps": 10.0, "camera_storage": {}, "robot_type": "made", "extra": {}}
        with DatasetWriter(tmp_path / "data", spec=robot, **facts) as writer:
            for index, actions in enumerate(self.motions().trajectories):
                writer.add(still(actions), "move", source={"task": "made", "seed": index, "success": True})
        page = tmp_path / "page.html"
        words = ["tokenizers", "compare", str(tmp_path / "data"), "--names", "bins", "beast", "--horizon", "8"]
        assert main([*words, "--out", str(page)]) == 0
        printed = capsys.readouterr().out
        assert "beast" in printed and "rmse" in printed
        html = page.read_text()
        assert html.count("<svg") == 3 and "root-mean-square error of x (m)" in html and "gripper = (2,)" in html
        assert "http-equiv" in html and "<script" not in html
        for drawing in re.findall(r"<svg.*?</svg>", html, flags=re.S):
            ElementTree.fromstring(drawing)
        assert main([*words, "--json", "--out", str(page)]) == 0
        data = json.loads(capsys.readouterr().out)
        assert [row["name"] for row in data["rows"]] == ["bins", "beast"]


def test_the_guide_s_example_runs():
    guide = (Path(__file__).parent.parent / "docs" / "tokenizers.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, flags=re.S)
    exec(compile(code, "tokenizers.md", "exec"), {})
    assert all(f"`{name}`" in guide for name in TABLE)


def still(actions: np.ndarray) -> Trajectory:
    """A recording without pictures or proprioception."""
    nothing = np.zeros((len(actions), 1), dtype=np.float32)
    zeros = np.zeros(len(actions), dtype=np.float32)
    return Trajectory(images={}, proprioception=nothing, actions=actions, executed=actions, rewards=zeros)
