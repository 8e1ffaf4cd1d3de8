"""Conformance of every decoder in the table, then the properties of single members."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from surroundings import DIM, HORIZON, TOKENS, make, seeded

from volar.core.errors import ConfigError
from volar.core.model import AnytimeDecoder, Budget, Context, Decoder, Extended, LayeredDecoder
from volar.core.registry import build_config
from volar.decoders import TABLE
from volar.nn.flow import integrate, sample_time
from volar.nn.transformer import full_mask
from volar.tokenizers import TABLE as TOKENIZERS

ANYTIME = [name for name in TABLE if issubclass(TABLE.load(name), AnytimeDecoder)]


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = seeded(1)
    inputs = torch.randn(8, TOKENS, 5, generator=generator)
    actions = torch.tanh(torch.randn(8, HORIZON, DIM, generator=generator))
    return inputs, actions, torch.ones(8, HORIZON, dtype=torch.bool)


@pytest.mark.parametrize("name", TABLE)
class TestEveryDecoder:
    def test_shapes_and_finite(self, name, batch):
        around, decoder = make(name)
        inputs, actions, valid = batch
        loss = decoder.loss(around.context(inputs), actions, valid, generator=seeded())
        assert loss.shape == (8,) and torch.isfinite(loss).all() and (loss >= 0).all()
        sample = decoder.sample(around.context(inputs), generator=seeded())
        assert sample.actions.shape == (8, HORIZON, DIM) and torch.isfinite(sample.actions).all()
        assert sample.evaluations.shape == (8,) and (sample.evaluations >= 1).all()

    def test_same_seed_same_chunk(self, name, batch):
        around, decoder = make(name)
        context = around.context(batch[0])
        first, second = (decoder.sample(context, generator=seeded(3)).actions for _ in range(2))
        assert torch.equal(first, second)

    def test_padded_context_tokens_change_nothing(self, name, batch):
        around, decoder = make(name)
        inputs = batch[0]
        longer = torch.cat([inputs, torch.full((8, 2, 5), 1e3)], dim=1)
        mask = torch.arange(TOKENS + 2).expand(8, -1) < TOKENS
        expected = decoder.sample(around.context(inputs), generator=seeded()).actions
        padded = decoder.sample(around.context(longer, mask), generator=seeded()).actions
        torch.testing.assert_close(padded, expected, rtol=1e-4, atol=1e-5)

    def test_padded_steps_carry_no_loss(self, name, batch):
        """A row without a valid step has no loss, and the other rows do not notice it."""
        around, decoder = make(name)
        inputs, actions, valid = batch
        padded = valid.clone()
        padded[0] = False
        everything = decoder.loss(around.context(inputs), actions, valid, generator=seeded())
        without = decoder.loss(around.context(inputs), actions, padded, generator=seeded())
        assert everything[0] > 0 and without[0] == 0
        torch.testing.assert_close(without[1:], everything[1:])

    def test_gradient_reaches_the_backbone_and_every_parameter(self, name, batch):
        around, decoder = make(name)
        decoder.loss(around.context(batch[0]), batch[1], batch[2], generator=seeded()).mean().backward()
        # An expert reads the trunk's keys and values; the trunk's own layers never run.
        read = around.embed if isinstance(decoder, LayeredDecoder) else around
        for parameter in [*read.parameters(), *decoder.parameters()]:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all()
        assert around.embed.weight.grad.abs().sum() > 0

    def test_rows_do_not_mix(self, name, batch):
        around, decoder = make(name)
        inputs, actions, valid = batch
        other = inputs.clone()
        other[1:] += 1
        losses = [decoder.loss(around.context(x), actions, valid, generator=seeded()) for x in (inputs, other)]
        torch.testing.assert_close(losses[0][0], losses[1][0], rtol=1e-4, atol=1e-5)

    def test_learns_one_batch(self, name, batch):
        around, decoder = make(name)
        inputs, actions, valid = batch
        optimizer = torch.optim.Adam([*around.parameters(), *decoder.parameters()], lr=3e-3)
        before = (decoder.sample(around.context(inputs), generator=seeded()).actions - actions).abs().mean().item()
        for step in range(300):
            optimizer.zero_grad()
            decoder.loss(around.context(inputs), actions, valid, generator=seeded(step)).mean().backward()
            optimizer.step()
        after = (decoder.sample(around.context(inputs), generator=seeded()).actions - actions).abs().mean().item()
        assert after < 0.35 * before

    def test_wrong_shape_names_the_argument(self, name, batch):
        around, decoder = make(name)
        with pytest.raises(Exception, match="valid"):
            decoder.loss(around.context(batch[0]), batch[1], torch.ones(8, HORIZON + 1, dtype=torch.bool))

    def test_unknown_option_names_the_closest(self, name):
        with pytest.raises(ConfigError, match="No option of"):
            build_config(TABLE.load(name), {"stepps": 3})


def test_flow_keeps_two_modes_where_regression_averages():
    """Half of the demonstrations go left, half right: L1 regression cannot commit to one, flow matching does."""
    inputs, valid = torch.zeros(64, TOKENS, 5), torch.ones(64, HORIZON, dtype=torch.bool)
    side = torch.where(torch.arange(64) % 2 == 0, 1.0, -1.0)[:, None, None]
    actions = side.expand(64, HORIZON, DIM)
    sampled = {}
    for name in ("flow", "regression"):
        around, decoder = make(name)
        optimizer = torch.optim.Adam([*around.parameters(), *decoder.parameters()], lr=2e-3)
        for step in range(400):
            optimizer.zero_grad()
            decoder.loss(around.context(inputs), actions, valid, generator=seeded(step)).mean().backward()
            optimizer.step()
        with torch.no_grad():
            sampled[name] = decoder.sample(around.context(inputs), generator=seeded(9)).actions.mean((1, 2))
    assert (sampled["flow"].abs() > 0.7).float().mean() > 0.9
    assert 0.2 < (sampled["flow"] > 0).float().mean() < 0.8
    assert sampled["regression"].std() < 1e-3


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_autoregression_speaks_every_tokenizer(tokenizer, batch):
    """It learns a batch over any tokenizer, and what it says decodes to what the tokens can say at best."""
    around, decoder = make("autoregressive", tokenizer=tokenizer)
    inputs, actions, valid = batch
    best = decoder.tokenizer.decode(decoder.tokenizer.encode(actions))
    optimizer = torch.optim.Adam([*around.parameters(), *decoder.parameters()], lr=3e-3)
    for step in range(120):
        optimizer.zero_grad()
        decoder.loss(around.context(inputs), actions, valid, generator=seeded(step)).mean().backward()
        optimizer.step()
    decoder.eval()
    with torch.no_grad():
        sample = decoder.sample(around.context(inputs), generator=seeded())
    assert decoder.tokenizer.invalid_decodes == 0
    assert (sample.actions - best).abs().mean() < 0.1 * (actions - actions.mean(0)).abs().mean()
    assert sample.evaluations.max() <= int(decoder.longest) + 1


def test_autoregressive_likelihood_is_that_of_its_own_steps(batch):
    """Teacher forcing in one pass gives the same log-probabilities as saying the tokens one by one."""
    around, decoder = make("autoregressive")
    inputs, actions, valid = batch
    ids = torch.tensor(decoder.tokenizer.encode(actions))
    total = torch.zeros(len(ids))
    said = torch.full((len(ids), 1), decoder.end)
    with torch.no_grad():
        for place in range(ids.shape[1]):
            logits = decoder.predictor(around.context(inputs))(said).logits[:, -1]
            total -= logits.log_softmax(-1).gather(1, ids[:, place : place + 1])[:, 0]
            said = torch.cat([said, ids[:, place : place + 1]], dim=1)
        whole = decoder.loss(around.context(inputs), actions, valid)
    torch.testing.assert_close(whole, total / ids.shape[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver, order", [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_solver_has_its_order(solver, order):
    """dx/dt = x from t = 1 down to 0 multiplies by exp(-1); halving the step divides the error by 2^order."""
    start = torch.ones(1, 1, 1, dtype=torch.float64)
    errors = []
    for steps in (8, 16, 32):
        end = integrate(lambda x, t: x, start, steps=steps, solver=solver).actions
        errors.append(abs(end.item() - math.exp(-1)))
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("name", ANYTIME)
class TestEveryAnytimeDecoder:
    @pytest.mark.parametrize("evaluations", [1, 2, 5])
    def test_evaluations_are_counted_truly_and_kept_to(self, name, evaluations, batch):
        """A row's count never exceeds the budget, and the longest row's is the number of times the network ran."""
        around, decoder = make(name)
        calls = []
        context = watched(decoder, around.context(batch[0]), calls)
        with torch.no_grad():
            sample = decoder.sample(context, generator=seeded(), budget=Budget(evaluations=evaluations))
        assert 1 <= sample.evaluations.max() <= evaluations
        assert len(calls) == sample.evaluations.max()
        assert torch.isfinite(sample.actions).all()

    def test_seconds_are_kept_to(self, name, batch):
        """Each evaluation takes a second on the test's clock; three and a half seconds allow three or four."""
        around, decoder = make(name)
        calls = []
        context = watched(decoder, around.context(batch[0]), calls)
        budget = Budget(seconds=3.5, clock=lambda: float(len(calls)))
        with torch.no_grad():
            sample = decoder.sample(context, generator=seeded(), budget=budget)
        assert 1 <= len(calls) <= 4 and torch.isfinite(sample.actions).all()


def watched(decoder: Decoder, context: Context, calls: list[int]) -> Context:
    """A context with which `decoder` notes every evaluation of its network in `calls`."""
    if isinstance(decoder, LayeredDecoder):
        decoder.expert.register_forward_pre_hook(lambda *_: calls.append(1))
        return context
    return counted(context, calls)


def counted(context: Context, calls: list[int]) -> Context:
    """The same context; every call of its `extend`, and of those that follow from it, is noted."""

    def extend(new, sees):
        calls.append(1)
        longer = context.extend(new, sees)
        return Extended(hidden=longer.hidden, context=counted(longer.context, calls))

    return replace(context, extend=extend)


def test_times_follow_the_beta_distribution():
    times = sample_time(200_000, alpha=1.5, beta=1.0, generator=seeded(), device="cpu")
    assert times.min() > 0.001 - 1e-6 and times.max() <= 1.0
    unscaled = (times - 0.001) / 0.999
    assert unscaled.mean().item() == pytest.approx(1.5 / 2.5, abs=2e-3)
    assert unscaled.var().item() == pytest.approx(1.5 / (2.5**2 * 3.5), abs=2e-3)


def test_flow_field_of_one_point_is_the_straight_path():
    """For a single target the optimal velocity is noise - data, so one Euler step from noise lands on the data."""
    data, noise = torch.randn(1, HORIZON, DIM), torch.randn(1, HORIZON, DIM)
    end = integrate(lambda x, t: noise - data, noise, steps=1, solver="euler")
    torch.testing.assert_close(end.actions, data)


def test_full_mask_lets_everybody_see():
    assert full_mask(3).all()
