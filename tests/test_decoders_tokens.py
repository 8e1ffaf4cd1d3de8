"""Exact properties of the decoders that speak tokens: caches, Jacobi decoding, blocks, masked diffusion, mixing."""

import itertools
import math
from collections.abc import Callable, Iterable

import pytest
import torch
from surroundings import DIM, HORIZON, TOKENS, Surroundings, make, seeded
from test_decoders import counted
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import Budget, Context, Decoder, LogitDecoder, Predicted, Predictor, Tokenizer
from volar.decoders import TABLE
from volar.decoders.discrete_diffusion import DiscreteDiffusion
from volar.nn.masking import block_mask, draw_masking, hidden_cumulative, masked_share, most_confident
from volar.nn.speech import mixed
from volar.nn.transformer import causal_mask, full_mask
from volar.nn.unmasking import Unmasking, unmask

INPUTS = torch.randn(8, TOKENS, 5, generator=seeded(1))
ACTIONS = torch.tanh(torch.randn(8, HORIZON, DIM, generator=seeded(5)))
VALID = torch.ones(8, HORIZON, dtype=torch.bool)
TRAINED: dict[tuple, tuple] = {}


def trained(name: str, tokenizer: str, steps: int = 60, **options) -> tuple[Context, LogitDecoder]:
    """A decoder that has learned a batch halfway, so that its rows differ and those of FAST end at different places;
    `options` may change afterwards what the training does not depend on."""
    if (key := (name, tokenizer, steps)) not in TRAINED:
        TRAINED[key] = learn(*make(name, tokenizer=tokenizer), steps)
    around, decoder = TRAINED[key]
    other = type(decoder)(
        type(decoder).Config(**options), width=decoder.width, horizon=HORIZON, action_dim=DIM,
        tokenizer=decoder.tokenizer,
    )  # fmt: skip
    other.load_state_dict(decoder.state_dict())
    with torch.no_grad():
        return around.context(INPUTS), other.eval()


@torch.enable_grad()
def learn(
    around: Surroundings, decoder: Decoder, steps: int, batch: tuple[Tensor, Tensor, Tensor] = (INPUTS, ACTIONS, VALID)
) -> tuple[Surroundings, Decoder]:
    inputs, actions, valid = batch
    optimizer = torch.optim.Adam([*around.parameters(), *decoder.parameters()], lr=3e-3)
    for step in range(steps):
        optimizer.zero_grad()
        decoder.loss(around.context(inputs), actions, valid, generator=seeded(step)).mean().backward()
        optimizer.step()
    return around.eval(), decoder.eval()


def uncached(decoder: LogitDecoder, context: Context, mask: Callable[[int], Tensor], before: Tensor) -> Predictor:
    """What `decoder.predictor(context)` should be, with everything said so far computed again in every call."""

    def predict(ids):
        everything = torch.cat([before, ids], dim=1)

        def extend(new, sees):
            return context.extend(new, mask(new.shape[1]))

        again = Context(tokens=context.tokens, mask=context.mask, extend=extend)
        logits = decoder.predictor(again)(everything).logits[:, before.shape[1] :]
        return Predicted(logits=logits, then=uncached(decoder, context, mask, everything))

    return predict


CASES = [
    ("autoregressive", "bins", {}, causal_mask),
    ("autoregressive", "fast", {}, causal_mask),
    ("autoregressive", "fast", {"window": 4}, causal_mask),
    ("blockwise", "bins", {"block": 5}, lambda size: block_mask(size, 5)),
    ("blockwise", "fast", {"block": 3}, lambda size: block_mask(size, 3)),
    ("discrete_diffusion", "bins", {"block": 4}, lambda size: block_mask(size, 4)),
    ("discrete_diffusion", "fast", {"block": 3}, lambda size: block_mask(size, 3)),
]


@pytest.mark.parametrize("name, tokenizer, options, mask", CASES)
@torch.no_grad()
def test_the_cache_says_what_computing_everything_again_says(name, tokenizer, options, mask):
    context, decoder = trained(name, tokenizer, **options)
    cached = decoder.sample(context, generator=seeded())
    plain = decoder.speak(
        uncached(decoder, context, mask, torch.empty((8, 0), dtype=torch.long)), rows=8, device=INPUTS.device,
        generator=seeded(),
    )  # fmt: skip
    assert torch.equal(cached.actions, plain.actions)
    assert torch.equal(cached.evaluations, plain.evaluations)


@torch.no_grad()
def test_prefix_that_sees_what_follows_cannot_be_cached():
    """A block read once gives the logits of reading it again beside what follows (prefix mask, dVLA arXiv 2509.25681);
    were it to see what follows, as under a full mask, it would not: the negative control."""
    context, decoder = trained("discrete_diffusion", "bins", block=4)
    said, hidden = torch.tensor([[3, 1, 4, 1]] * 8), torch.full((8, 4), decoder.mask)
    cached = decoder.predictor(context)(said).then(hidden).logits
    for mask, exact in ((lambda size: block_mask(size, 4), True), (full_mask, False)):
        again = uncached(decoder, context, mask, said)(hidden).logits
        assert torch.allclose(cached, again, rtol=1e-4, atol=1e-5) == exact


class TestAutoregressive:
    @pytest.mark.parametrize("tokenizer", ["bins", "fast"])
    @torch.no_grad()
    def test_greedy_is_what_reading_all_tokens_again_for_every_next_one_gives(self, tokenizer):
        """The plainest loop, without a cache and without the decoder's own one."""
        context, decoder = trained("autoregressive", tokenizer)
        said = torch.full((8, 1), decoder.end)
        for _ in range(int(decoder.longest)):
            logits = decoder.predictor(context)(said).logits[:, -1]
            said = torch.cat([said, logits.argmax(-1, keepdim=True)], dim=1)
        rows = [list(itertools.takewhile(lambda token: token != decoder.end, row)) for row in said[:, 1:].tolist()]
        sample = decoder.sample(context)
        assert torch.equal(sample.actions, decoder.tokenizer.decode(rows))
        expected = [min(len(row) + 1, int(decoder.longest)) for row in rows]
        assert sample.evaluations.tolist() == expected
        if tokenizer == "fast":
            assert len(set(expected)) > 1

    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    @pytest.mark.parametrize("tokenizer, steps", [("bins", 60), ("fast", 60), ("bins", 0)])
    @pytest.mark.parametrize("window", [2, 5, 100])
    @torch.no_grad()
    def test_jacobi_says_what_one_after_the_other_says(self, tokenizer, steps, window, temperature):
        context, decoder = trained("autoregressive", tokenizer, steps, temperature=temperature)
        _, parallel = trained("autoregressive", tokenizer, steps, temperature=temperature, window=window)
        one, all_at_once = decoder.sample(context, generator=seeded()), parallel.sample(context, generator=seeded())
        assert torch.equal(one.actions, all_at_once.actions)
        assert (all_at_once.evaluations <= one.evaluations).all()

    @torch.no_grad()
    def test_jacobi_saves_evaluations_where_tokens_do_not_wait_for_one_another(self):
        context, parallel = trained("autoregressive", "bins", 250, window=100)
        calls = []
        sample = parallel.sample(counted(context, calls))
        assert len(calls) == sample.evaluations.max() < 0.75 * HORIZON * DIM

    @torch.no_grad()
    def test_rows_are_counted_as_if_they_were_alone(self):
        context, decoder = trained("autoregressive", "fast", window=3)
        together = decoder.sample(context).evaluations.tolist()
        around, _ = TRAINED["autoregressive", "fast", 60]
        alone = [int(decoder.sample(around.context(INPUTS[row : row + 1])).evaluations) for row in range(8)]
        assert together == alone

    def test_refuses_a_window_of_nothing(self):
        with pytest.raises(ConfigError, match="window"):
            make("autoregressive", window=0)


class TestBlockwise:
    def test_blocks_of_one_token_are_autoregression(self):
        context, one = trained("autoregressive", "fast")
        block = TABLE.load("blockwise")
        blockwise = block(
            block.Config(block=1), width=one.width, horizon=HORIZON, action_dim=DIM, tokenizer=one.tokenizer
        )
        blockwise.load_state_dict(one.state_dict())
        with torch.no_grad():
            assert torch.equal(one.loss(context, ACTIONS, VALID), blockwise.loss(context, ACTIONS, VALID))
            assert torch.equal(one.sample(context).actions, blockwise.sample(context).actions)

    def test_a_token_moves_its_own_block_and_later_ones_only(self):
        context, decoder = trained("blockwise", "bins", block=4)
        ids = torch.randint(decoder.end, (8, 12), generator=seeded())
        with torch.no_grad():
            before = decoder.predictor(context)(ids).logits
            for place in range(12):
                changed = ids.clone()
                changed[:, place] = (ids[:, place] + 7) % decoder.end
                moved = (decoder.predictor(context)(changed).logits - before).abs().amax(dim=(0, 2)) > 0
                assert moved.tolist() == [other // 4 >= place // 4 for other in range(12)]

    @pytest.mark.parametrize("tokenizer, block", [("bins", 5), ("fast", 3), ("beast", 1)])
    @torch.no_grad()
    def test_likelihood_is_that_of_its_own_blocks(self, tokenizer, block):
        """Teacher forcing in one pass gives the log-probabilities of saying block after block."""
        context, decoder = trained("blockwise", tokenizer, block=block)
        whole = decoder.loss(context, ACTIONS, VALID)
        for row, ids in enumerate(decoder.tokenizer.encode(ACTIONS)):
            wanted = ids if decoder.tokenizer.length else [*ids, decoder.end]
            predictor, before, total = decoder.predictor(context), [decoder.end] * block, 0.0
            for start in range(0, len(wanted), block):
                predicted = predictor(torch.tensor([before] * 8))
                before = wanted[start : start + block]
                chances = predicted.logits[row].log_softmax(-1)
                total -= sum(chances[place, token].item() for place, token in enumerate(before))
                predictor = predicted.then
            assert whole[row].item() == pytest.approx(total / len(wanted), rel=1e-4)

    @pytest.mark.parametrize("block", [1, 5, 12, 40])
    @torch.no_grad()
    def test_costs_an_evaluation_per_block(self, block):
        context, decoder = trained("blockwise", "bins", block=block)
        calls = []
        sample = decoder.sample(counted(context, calls))
        assert sample.evaluations.tolist() == [math.ceil(12 / block)] * 8 and len(calls) == math.ceil(12 / block)

    @pytest.mark.parametrize("option", [{"block": 0}, {"temperature": -1.0}])
    def test_refuses(self, option):
        with pytest.raises(ConfigError, match=next(iter(option))):
            make("blockwise", **option)


class Table4(Tokenizer):
    """Stands for a tokenizer: chunks of 4 numbers are their own ids, 0..2."""

    config = None
    vocabulary, length = 3, 4

    def fit(self, chunks, *, generator=None): ...

    def encode(self, chunks):
        return chunks[..., 0].long().tolist()

    def decode(self, tokens):
        return torch.tensor(tokens, dtype=torch.float32)[..., None]

    def state(self):
        return {}

    def restore(self, state): ...


def exact_predictor(joint: Tensor, mask: int, before: tuple[int, ...] = ()) -> Predictor:
    """The true chance of every masked token given the visible ones of its block and the blocks before."""

    def predict(ids):
        rows = [exact_row(joint, (*before, *row.tolist()), mask)[len(before) :] for row in ids]
        return Predicted(logits=torch.stack(rows).log(), then=exact_predictor(joint, mask, (*before, *ids[0].tolist())))

    return predict


def exact_row(joint: Tensor, ids: tuple[int, ...], mask: int) -> Tensor:
    """[s k]; visible tokens are certain. Tokens beyond `ids` are unknown and summed out."""
    table = summed(joint, range(len(ids), joint.ndim))
    given = table[tuple(slice(None) if token == mask else slice(token, token + 1) for token in ids)]
    chances = torch.zeros(len(ids), joint.shape[0])
    for place, token in enumerate(ids):
        others = [other for other in range(len(ids)) if other != place]
        chances[place, slice(None) if token == mask else token] = summed(given, others) / given.sum()
    return chances


def summed(table: Tensor, dims: Iterable[int]) -> Tensor:
    dims = tuple(dims)
    return table.sum(dim=dims) if dims else table  # torch takes no dimension for all of them


class TestLikelihoodBound:
    """With a network that knows the exact conditionals of a joint table, the bound is the likelihood itself."""

    ids = (0, 2, 1, 1)

    @pytest.fixture(autouse=True)
    def _table(self):
        torch.manual_seed(3)
        self.joint = torch.distributions.Dirichlet(torch.full((81,), 0.5)).sample().reshape(3, 3, 3, 3).clamp(min=1e-6)
        self.joint = self.joint / self.joint.sum()
        self.truth = -self.joint[self.ids].log().item() / 4

    @pytest.mark.parametrize("schedule", ["linear", "cosine"])
    def test_enumerated(self, schedule):
        """Every number of masked tokens and every choice of them, by its chance."""
        chance = hidden_cumulative(4, schedule).diff()
        assert chance.sum().item() == pytest.approx(1)
        bound = unweighted = 0.0
        for number in range(1, 5):
            places = list(itertools.combinations(range(4), number))
            for hidden in places:
                row = tuple(3 if place in hidden else token for place, token in enumerate(self.ids))
                table = exact_row(self.joint, row, 3)
                loss = -sum(table[place, self.ids[place]].log().item() for place in hidden) / number
                share = chance[number - 1].item() / len(places)
                bound += share * loss / (4 * chance[number - 1].item())
                unweighted += share * loss
        assert bound == pytest.approx(self.truth, rel=1e-5)
        if schedule == "cosine":  # with a uniform number the weights are 1
            assert abs(unweighted - self.truth) > 0.02 * self.truth

    @pytest.mark.parametrize("block", [0, 2, 3])
    @pytest.mark.parametrize("schedule", ["linear", "cosine"])
    def test_sampled_by_the_decoder(self, schedule, block):
        decoder = DiscreteDiffusion(
            DiscreteDiffusion.Config(schedule=schedule, block=block), width=8, horizon=4, action_dim=1,
            tokenizer=Table4(horizon=4, action_dim=1),
        )  # fmt: skip
        assert decoder.mask == 4
        decoder.predictor = lambda context: exact_predictor(self.joint, decoder.mask)
        rows = 2000
        context = Context(
            tokens=torch.zeros(rows, 1, 8), mask=torch.ones(rows, 1, dtype=torch.bool), extend=lambda new, sees: None
        )
        actions = torch.tensor(self.ids, dtype=torch.float32)[None, :, None].expand(rows, 4, 1)
        losses = decoder.loss(context, actions, torch.ones(rows, 4, dtype=torch.bool), generator=seeded())
        error = losses.std().item() / math.sqrt(rows)
        assert error < 0.02 * self.truth
        assert losses.mean().item() == pytest.approx(self.truth, abs=3 * error)

    def test_numbers_of_masked_tokens_follow_the_schedule(self):
        for schedule in ("linear", "cosine"):
            masking = draw_masking(5000, 7, schedule, generator=seeded(), device=torch.device("cpu"))
            counts = torch.bincount(masking.masked.sum(-1), minlength=8)[1:] / 5000
            torch.testing.assert_close(counts, hidden_cumulative(7, schedule).diff(), atol=1e-3, rtol=0)
            assert masking.masked.float().mean(0).std() < 0.02


MODES = torch.randint(8, (2, 56), generator=seeded(11))
MODES[1] = torch.where(MODES[1] == MODES[0], (MODES[0] + 3) % 8, MODES[1])  # no token in common
NOISE = 0.02  # of tokens that are neither mode's


def denoise(tokens: Tensor) -> Tensor:
    """The exact logits [b 56 8] of two equally likely modes with noise, each token judged by the others only."""
    evidence = torch.zeros(len(tokens), 2, 56)
    for mode in range(2):
        right = torch.tensor([NOISE / 7, 1 - NOISE]).log()[(tokens == MODES[mode]).long()]
        evidence[:, mode] = right.masked_fill(tokens == 8, 0.0)
    others = (evidence.sum(-1, keepdim=True) - evidence).softmax(dim=1)  # [b mode 56]
    chances = torch.full((2, 56, 8), NOISE / 7)
    for mode in range(2):
        chances[mode, torch.arange(56), MODES[mode]] = 1 - NOISE
    return torch.einsum("bms,msk->bsk", others, chances).log()


def fill(tokens: Tensor, rounds: int, **options) -> Tensor:
    left = iter(range(rounds - 1, -1, -1))
    return unmask(denoise, tokens, Unmasking(mask=8, **options), more=lambda: next(left), generator=seeded(4)).tokens


def strays(tokens: Tensor) -> Tensor:
    """Per row, tokens of the mode that the row has fewer of."""
    return torch.stack([(tokens == mode).sum(-1) for mode in MODES]).amin(0)


class TestUnmasking:
    masked = torch.full((150, 56), 8)
    sampling = {"temperature": 1.0, "order_temperature": 1.0}  # noqa: RUF012

    def test_one_round_mixes_modes_and_twelve_do_not(self):
        """Everything at once takes about half of the tokens from each mode, however exact the network is."""
        once, linear, cosine = (
            strays(fill(self.masked, rounds, schedule=schedule, **self.sampling))
            for rounds, schedule in ((1, "cosine"), (12, "linear"), (12, "cosine"))
        )
        assert (once > 10).all() and once.float().mean() > 20
        assert 0.005 < linear.float().mean() / 56 < 0.06
        assert cosine.float().mean() / 56 < 0.005
        assert strays(fill(self.masked, 12, schedule="linear", remask=0.5, **self.sampling)).float().mean() / 56 < 0.002

    def test_both_modes_are_found(self):
        first = (fill(self.masked, 12, **self.sampling) == MODES[0]).sum(-1) > 28
        assert 0.3 < first.float().mean() < 0.7

    @pytest.mark.parametrize("remask, wrong", [(0.0, 4), (0.5, 0)])
    def test_only_remasking_repairs_what_was_kept_wrongly(self, remask, wrong):
        tokens = self.masked.clone()
        tokens[:, :28] = MODES[0, :28]
        tokens[:, 10:14] = MODES[1, 10:14]
        done = fill(tokens, 12, remask=remask)
        assert ((done == MODES[1]).sum(-1) == wrong).all()

    def test_tokens_kept_per_round(self):
        """Cosine: the first rounds, which choose the mode, keep one token each. Figures: MaskGIT's schedule."""
        seen = []

        def read(tokens):
            seen.append(int((tokens[0] != 8).sum()))
            return denoise(tokens)

        left = iter(range(11, -1, -1))
        unmask(read, self.masked[:1], Unmasking(mask=8), more=lambda: next(left))
        kept = [b - a for a, b in itertools.pairwise([*seen, 56])]
        assert kept == [1, 1, 3, 3, 4, 5, 5, 6, 7, 7, 7, 7]
        assert masked_share("linear", 0.25) == 0.75

    def test_a_finished_row_is_neither_counted_nor_changed(self):
        """The second row begins with a single masked token and is finished after the first round."""
        tokens = self.masked[:2].clone()
        tokens[1] = MODES[1]
        tokens[1, 5] = 8
        left = iter(range(11, -1, -1))
        done = unmask(denoise, tokens, Unmasking(mask=8), more=lambda: next(left))
        assert done.evaluations.tolist() == [12, 1] and torch.equal(done.tokens[1], MODES[1])

    def test_rows_that_repair_end_when_nothing_changes(self):
        """Twenty rounds more than needed: a repairing row ends one round after its last change."""
        tokens = MODES[0].repeat(2, 1)
        tokens[1, 3:5] = MODES[1, 3:5]
        left = iter(range(99, -1, -1))
        done = unmask(denoise, tokens, Unmasking(mask=8, remask=1.0), more=lambda: next(left))
        assert torch.equal(done.tokens, MODES[:1].repeat(2, 1))
        assert done.evaluations[0] == 1 < done.evaluations[1] < 99

    def test_settled_guesses_end_a_row_early(self):
        tokens = self.masked[:1].clone()
        tokens[0, :8] = MODES[0, :8]  # the mode is clear: the first guess is the last
        left = iter(range(11, -1, -1))
        done = unmask(denoise, tokens, Unmasking(mask=8, settle=2), more=lambda: next(left))
        assert done.evaluations.tolist() == [3] and torch.equal(done.tokens[0], MODES[0])


class TestOrders:
    """Against the definition, computed token by token."""

    group = torch.arange(12) // 3

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("order", ["token", "group", "hierarchical"])
    def test_most_confident(self, order, seed):
        generator = seeded(seed)
        confidence = torch.rand(20, 12, generator=generator).log()
        hidden = torch.rand(20, 12, generator=generator) < 0.7
        count = torch.randint(1, 9, (20,), generator=generator)
        kept = most_confident(confidence, hidden, count, order=order, group=self.group)
        for row in range(20):
            assert kept[row].nonzero()[:, 0].tolist() == sorted(self._expected(order, confidence, hidden, count, row))

    def _expected(self, order, confidence, hidden, count, row):
        places = hidden[row].nonzero()[:, 0].tolist()
        sure = confidence[row].tolist()
        if order == "token":
            return sorted(places, key=lambda place: -sure[place])[: count[row]]
        members = {g: [place for place in places if place // 3 == g] for g in {place // 3 for place in places}}
        ranked = sorted(members.values(), key=lambda group: -sum(sure[place] for place in group))
        if order == "hierarchical":
            ordered = [place for group in ranked for place in sorted(group, key=lambda place: -sure[place])]
            return ordered[: count[row]]
        whole = []
        for group in ranked:
            if len(whole) < count[row]:
                whole += group
        return whole

    @pytest.mark.parametrize("commit, axis", [("step", 2), ("dimension", 1)])
    @torch.no_grad()
    def test_steps_and_dimensions_are_kept_as_a_whole(self, commit, axis):
        context, decoder = trained("discrete_diffusion", "bins", commit=commit, rounds=5)
        seen = []
        plain = decoder.predictor(context)

        def predictor(ids):
            seen.append((ids != decoder.mask).reshape(8, HORIZON, DIM))
            return plain(ids)

        decoder.speak(predictor, rows=8, device=INPUTS.device)
        assert any(visible.any() for visible in seen)
        for visible in seen:
            assert torch.equal(visible.any(axis), visible.all(axis))


class TestDiscreteDiffusion:
    @pytest.mark.parametrize("evaluations", [1, 2, 3, 4, 5, 8, 12, 30])
    @pytest.mark.parametrize("tokenizer, block", [("bins", 4), ("fast", 3), ("bins", 0)])
    @torch.no_grad()
    def test_budget_is_kept_to_with_blocks(self, tokenizer, block, evaluations):
        context, decoder = trained("discrete_diffusion", tokenizer, block=block)
        calls = []
        sample = decoder.sample(counted(context, calls), budget=Budget(evaluations=evaluations))
        assert len(calls) <= evaluations and sample.evaluations.max() <= len(calls)
        if tokenizer == "bins":
            assert sample.evaluations.tolist() == [len(calls)] * 8
            assert len(calls) == min(evaluations, 12 + (2 if block else 0))  # no more rounds than tokens

    @torch.no_grad()
    def test_seconds_are_kept_to_with_blocks(self):
        context, decoder = trained("discrete_diffusion", "bins", block=3)
        for seconds in (0.5, 2.5, 6.5, 9.5, 100.5):
            calls = []
            budget = Budget(seconds=seconds, clock=lambda calls=calls: float(len(calls)))
            decoder.sample(counted(context, calls), budget=budget)
            assert len(calls) <= math.ceil(seconds) + 2
        assert len(calls) == 15

    def test_rounds_are_shared_among_blocks(self):
        context, decoder = trained("discrete_diffusion", "bins", block=4, rounds=6)
        with torch.no_grad():
            assert decoder.sample(context).evaluations.tolist() == [3 * 2 + 2] * 8

    @pytest.mark.parametrize(
        "tokenizer, option",
        [("fast", {}), ("fast", {"corruption": 0.1, "remask": 0.4}), ("fast", {"block": 8, "schedule": "linear"})],
    )
    def test_learns_a_batch(self, tokenizer, option):
        """What it says decodes to what the tokens can say at best."""
        around, decoder = learn(*make("discrete_diffusion", tokenizer=tokenizer, **option), 200)
        best = decoder.tokenizer.decode(decoder.tokenizer.encode(ACTIONS))
        with torch.no_grad():
            sample = decoder.sample(around.context(INPUTS), generator=seeded())
        assert (sample.actions - best).abs().mean() < 0.15 * (ACTIONS - ACTIONS.mean(0)).abs().mean()

    @pytest.mark.parametrize(
        "tokenizer, option, match",
        [
            ("bins", {"remask": 1.5}, "shares"),
            ("bins", {"rounds": 0}, "rounds"),
            ("bins", {"corruption": 1.0}, "shares"),
            ("bins", {"block": -1}, "block"),
            ("fast", {"commit": "step"}, "varying"),
        ],
    )
    def test_refuses(self, tokenizer, option, match):
        with pytest.raises(ConfigError, match=match):
            make("discrete_diffusion", tokenizer=tokenizer, **option)


SIDE = torch.where(torch.arange(16) % 2 == 0, 1.0, -1.0)[:, None, None]
ASIDE = SIDE * (0.2 + 0.6 * torch.rand(1, HORIZON, DIM, generator=seeded(7)))


@pytest.fixture(scope="module")
def undecided() -> tuple[Surroundings, DiscreteDiffusion]:
    """Trained where nothing tells whether to go left or right: through every dimension and step of a chunk."""
    around, decoder = make("discrete_diffusion", corruption=0.05, temperature=1.0, order_temperature=1.0)
    decoder.tokenizer.fit(ASIDE)
    return learn(around, decoder, 200, (torch.zeros(16, TOKENS, 5), ASIDE, torch.ones(16, HORIZON, dtype=torch.bool)))


class TestTrainedOnTwoModes:
    @torch.no_grad()
    def test_rounds_keep_them_apart(self, undecided):
        around, decoder = undecided
        context = around.context(torch.zeros(128, TOKENS, 5))
        rights = {
            rounds: (decoder.sample(context, generator=seeded(9), budget=Budget(evaluations=rounds)).actions > 0)
            .flatten(1).sum(-1)
            for rounds in (1, 12)
        }  # fmt: skip
        mixed = {rounds: ((right > 0) & (right < HORIZON * DIM)).float().mean() for rounds, right in rights.items()}
        assert mixed[1] > 0.9 and mixed[12] < 0.02
        assert 0.3 < (rights[12] == HORIZON * DIM).float().mean() < 0.7

    @pytest.mark.parametrize("remask, wrong", [(0.0, 2), (0.5, 0)])
    @torch.no_grad()
    def test_remasking_repairs(self, undecided, remask, wrong):
        around, decoder = undecided
        right, left = torch.tensor(decoder.tokenizer.encode(ASIDE[:2]))
        tokens = torch.full((1, HORIZON * DIM), decoder.mask)
        tokens[:, :8] = right[:8]
        tokens[:, 3:5] = left[3:5]
        predictor, rounds = decoder.predictor(around.context(torch.zeros(1, TOKENS, 5))), iter(range(11, -1, -1))
        how = Unmasking(mask=decoder.mask, remask=remask)
        filled = unmask(lambda ids: predictor(ids).logits, tokens, how, more=lambda: next(rounds))
        assert (filled.tokens != right).sum() == wrong


SPEAKERS = [name for name in TABLE if issubclass(TABLE.load(name), LogitDecoder)]


@pytest.mark.parametrize("tokenizer", ["bins", "fast"])
@pytest.mark.parametrize("name", SPEAKERS)
@torch.no_grad()
def test_mixed_logits_at_the_ends_are_each_policy_alone(name, tokenizer):
    contexts, decoders = zip(*(trained(name, tokenizer, steps) for steps in (60, 30)), strict=True)
    predictors = [decoder.predictor(context) for decoder, context in zip(decoders, contexts, strict=True)]
    alone: list[Decoder] = [
        decoder.sample(context).actions for decoder, context in zip(decoders, contexts, strict=True)
    ]
    assert not torch.equal(*alone)
    for weights, expected in (((1.0, 0.0), alone[0]), ((0.0, 1.0), alone[1])):
        sample = decoders[0].speak(mixed(predictors, weights), rows=8, device=INPUTS.device)
        assert torch.equal(sample.actions, expected)
    both = decoders[0].speak(mixed([predictors[0]] * 2, (0.5, 0.5)), rows=8, device=INPUTS.device)
    torch.testing.assert_close(both.actions, alone[0])
