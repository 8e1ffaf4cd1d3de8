"""What equilibrium matching promises, held against its closed form; the learned field against the exact one; what an
actor hands on from chunk to chunk."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from surroundings import DIM, HORIZON, TOKENS, Surroundings, make, seeded
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import Batch, Budget, Context, WarmStart
from volar.core.robot import Job, Observation
from volar.data.normalize import exact_statistics
from volar.decoders.equilibrium import Equilibrium
from volar.envs import make_env
from volar.envs.rollout import run_episode
from volar.nn.equilibrium import Decay, descend, exact_field
from volar.policies.actor import PolicyActor
from volar.policies.config import PolicyConfig
from volar.policies.exact import exact_control
from volar.policies.vla import ACTION, PROPRIOCEPTION, Policy

DECAY = Decay()
DECAYS = [DECAY, Decay(turn=0.0), Decay(start=1.5)]


def atoms(number: int, *, horizon: int = 8, dim: int = 2) -> Tensor:
    return torch.randn(number, horizon, dim, generator=seeded(4))


def exact(bank: Tensor, weights: Tensor | None = None, **options) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact field of equally likely atoms, or of `weights` [b n]."""

    def field(chunks: Tensor, time: Tensor) -> Tensor:
        chances = torch.ones(len(chunks), len(bank)) if weights is None else weights
        return exact_field(chunks, shared(bank, len(chunks)), chances, decay=DECAY, **options)

    return field


def shared(bank: Tensor, rows: int) -> Tensor:
    return bank.expand(rows, -1, -1, -1)


def distance(chunks: Tensor, bank: Tensor) -> Tensor:
    """Of each chunk to the nearest of the bank."""
    return torch.cdist(chunks.flatten(1), bank.flatten(1)).min(-1).values


class TestDecay:
    def test_families_are_those_of_the_authors_code(self):
        """Their `get_ct`: the lower of two lines, times 4 (raywang4/EqM)."""
        gamma = torch.linspace(0, 1, 101)
        for start in (1.0, 1.5, 3.0):
            theirs = 4 * torch.minimum(start - (start - 1) / 0.8 * gamma, (1 - gamma) / (1 - 0.8))
            torch.testing.assert_close(Decay(start=start)(gamma), theirs, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(Decay(turn=0.0)(gamma), 4 * (1 - gamma))

    @pytest.mark.parametrize("decay", DECAYS)
    def test_vanishes_at_the_data_with_the_slope_it_names(self, decay):
        assert decay(torch.ones(1)) == 0
        assert decay(torch.tensor([0.99], dtype=torch.float64)).item() / 0.01 == pytest.approx(decay.stiffness)

    @pytest.mark.parametrize("wrong", [{"turn": 1.0}, {"turn": -0.1}, {"strength": 0.0}, {"start": 0.0}])
    def test_impossible_ones_are_refused(self, wrong):
        with pytest.raises(ConfigError, match="0 <= turn < 1"):
            Decay(**wrong)


class TestExactField:
    def test_points_uphill(self):
        """The sign trap: subtracting the field must bring every point closer to its data."""
        bank = atoms(2)
        away = bank.repeat(50, 1, 1) + 0.3 * torch.randn(100, 8, 2, generator=seeded(1))
        after = away - 0.01 * exact(bank)(away, torch.zeros(100))
        assert (distance(after, bank) < distance(away, bank)).all()

    @pytest.mark.parametrize("decay", DECAYS)
    def test_minimises_the_objective(self, decay):
        """What is left of the target after the best prediction is orthogonal to every function of the point: checked
        on draws of the objective, with a few functions; a field a tenth too long is told apart."""
        number, bank = 60_000, torch.tensor([[[-1.0, 0.5]], [[1.0, 0.0]], [[0.0, -2.0]]])
        weights, generator = torch.tensor([0.2, 0.5, 0.3]), seeded()
        data = bank[torch.multinomial(weights, number, replacement=True, generator=generator)]
        noise, gamma = torch.randn(data.shape, generator=generator), torch.rand(number, 1, 1, generator=generator)
        points = gamma * data + (1 - gamma) * noise
        targets = decay(gamma) * (noise - data)
        predicted = exact_field(points, shared(bank, number), weights.expand(number, -1), decay=decay)
        x, y = points[:, 0].T
        functions = torch.stack([torch.ones_like(x), x, y, torch.tanh(3 * x * y), torch.exp(-4 * (x**2 + y**2))])

        def z(field: Tensor) -> float:
            left = (targets - field)[:, 0]
            return ((functions @ left).abs() / (functions.square() @ left.square()).sqrt()).max().item()

        assert z(predicted) < 4 and z(1.1 * predicted) > 6

    def test_equals_the_slow_sum(self):
        bank, points = atoms(5), atoms(4) * 0.7
        weights = torch.rand(4, 5, generator=seeded())
        quick = exact_field(points, shared(bank, 4), weights, decay=DECAY, nodes=9)
        slow = torch.zeros(4, 16, dtype=torch.float64)
        for row in range(4):
            total = 0.0
            for node in range(9):
                gamma = torch.tensor((node + 0.5) / 9, dtype=torch.float64)
                for index in range(5):
                    offset = (points[row] - gamma * bank[index]).flatten()
                    chance = weights[row, index] * torch.exp(-((offset / (1 - gamma)) ** 2).sum() / 2)
                    chance = chance / (1 - gamma) ** 16
                    slow[row] += chance * DECAY(gamma) / (1 - gamma) * (points[row] - bank[index]).flatten()
                    total += chance
            slow[row] /= total
        torch.testing.assert_close(quick.flatten(1), slow.float())

    def test_rests_at_the_data_only_in_many_dimensions(self):
        """From a point of few numbers one cannot tell how noisy it is, so a field without time is blurred there."""
        residuals = []
        for dim in (1, 2, 16):
            bank = atoms(8, horizon=1, dim=dim)
            residuals.append(exact(bank, nodes=400)(bank, torch.zeros(8)).square().mean().sqrt().item())
        assert residuals[0] > 0.5 > 0.1 > residuals[1] > 1e-3 > 1e-6 > residuals[2]

    def test_between_two_modes_is_a_resting_place_too(self):
        """Known criticism: no residual does not mean a likely chunk. The least push makes it fall to one side."""
        bank = torch.stack([torch.ones(4, 3), -torch.ones(4, 3)])
        middle = torch.zeros(1, 4, 3)
        assert exact(bank)(middle, torch.zeros(1)).abs().max() < 1e-6
        end = descend(exact(bank), middle + 1e-3, step=0.05, budget=Budget(evaluations=60))
        torch.testing.assert_close(end.state, torch.ones(1, 4, 3), atol=1e-2, rtol=0)


class TestDescent:
    @pytest.mark.parametrize("look_ahead", [0.0, 0.3])
    @pytest.mark.parametrize("decay", DECAYS)
    def test_settles_below_the_largest_step_and_not_above(self, decay, look_ahead):
        bank = atoms(8, dim=4)
        near = bank + 1e-3 * torch.randn(bank.shape, generator=seeded(1))
        bound = decay.largest_step(look_ahead)
        if not look_ahead:
            assert bound == pytest.approx(2 * (1 - decay.turn) / decay.strength)
        ends = []
        for share in (0.9, 1.1):

            def field(x: Tensor, time: Tensor) -> Tensor:
                return exact_field(x, shared(bank, 8), torch.ones(8, 8), decay=decay, nodes=200)

            end = descend(field, near, step=share * bound, look_ahead=look_ahead, budget=Budget(evaluations=150))
            ends.append(distance(end.state, bank).max().item())
        assert ends[0] < 1e-4 and ends[1] > 0.1

    def test_time_to_arrive_is_that_of_the_notes(self):
        """Plateau: constant speed, turn / (step * strength) steps; tail: one step of 1 / stiffness ends it."""
        bank, noise = atoms(1, dim=16), torch.randn(16, 8, 16, generator=seeded(2))
        end = descend(exact(bank, nodes=400), noise, step=1 / DECAY.stiffness, stop=0.5, budget=Budget(evaluations=99))
        assert distance(end.state, bank).max() < 0.05
        assert end.evaluations.float().mean().item() == pytest.approx(0.8 / 0.2 + 2, abs=1.01)

    def test_rows_at_rest_stay_bit_for_bit_and_are_counted_truly(self):
        bank, start = atoms(6), torch.randn(12, 8, 2, generator=seeded(3))
        run = partial(descend, exact(bank), start, step=0.03, look_ahead=0.3, stop=0.3)
        end = run(budget=Budget(evaluations=200))
        counts = end.evaluations.tolist()
        assert len(set(counts)) > 2 and max(counts) < 200
        for row, count in enumerate(counts):
            for budget in {count, count + 1, max(counts)}:
                early = run(budget=Budget(evaluations=budget))
                assert torch.equal(early.state[row], end.state[row])
                assert early.residual[row] == end.residual[row] <= 0.3
                assert early.evaluations[row] == count
            before = run(budget=Budget(evaluations=count - 1))
            assert before.residual[row] > 0.3 and not torch.equal(before.state[row], end.state[row])

    def test_a_batch_asks_as_often_as_its_slowest_row(self):
        bank, start = atoms(6), torch.randn(12, 8, 2, generator=seeded(3))
        asked = []

        def field(x: Tensor, time: Tensor) -> Tensor:
            asked.append(len(x))
            return exact(bank)(x, time)

        end = descend(field, start, step=0.05, stop=0.3, budget=Budget(evaluations=200))
        assert len(asked) == end.evaluations.max() > end.evaluations.min()

    def test_no_stop_spends_the_whole_budget(self):
        end = descend(lambda x, time: 0 * x, torch.ones(2, 1, 1), step=0.05, budget=Budget(evaluations=7))
        assert end.evaluations.tolist() == [7, 7] and end.residual.tolist() == [0.0, 0.0]

    def test_sums_of_fields_settle_between_what_they_want(self):
        """Composition adds energies: two lone atoms that disagree are both missed, halfway. (Farther apart than the
        decay's last part reaches, the pulls are constant, and anywhere between them will do.)"""
        first = atoms(1)
        second = first + 0.2 * torch.randn(first.shape, generator=seeded(6))
        start = torch.randn(3, 8, 2, generator=seeded(5))
        both = lambda x, time: 0.5 * exact(first)(x, time) + 0.5 * exact(second)(x, time)  # noqa: E731
        end = descend(both, start, step=0.05, budget=Budget(evaluations=100))
        torch.testing.assert_close(end.state, ((first + second) / 2).expand(3, -1, -1), atol=1e-3, rtol=0)


def trained(
    inputs: Tensor, actions: Tensor, *, steps: int, rate: float = 3e-3, **options
) -> tuple[Surroundings, Equilibrium]:
    around, decoder = make("equilibrium", **options)
    assert isinstance(decoder, Equilibrium)
    optimizer = torch.optim.Adam([*around.parameters(), *decoder.parameters()], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    valid = torch.ones(actions.shape[:2], dtype=torch.bool)
    for step in range(steps):
        optimizer.zero_grad()
        decoder.loss(around.context(inputs), actions, valid, generator=seeded(step)).mean().backward()
        optimizer.step()
        schedule.step()
    return around.eval(), decoder.eval()


@pytest.fixture(scope="module")
def learned() -> tuple[Surroundings, Equilibrium, Tensor, Tensor]:
    """Two contexts, in each of which half of the demonstrations take one chunk and half another."""
    bank = atoms(4, horizon=HORIZON, dim=DIM).view(2, 2, HORIZON, DIM)
    which = torch.arange(64) % 2
    inputs = torch.stack([torch.ones(TOKENS, 5), -torch.ones(TOKENS, 5)])[which]
    actions = bank[which, torch.arange(64) // 2 % 2]
    around, decoder = trained(inputs, actions, steps=600, rate=5e-3)
    return around, decoder, bank, torch.stack([torch.ones(TOKENS, 5), -torch.ones(TOKENS, 5)])


class TestLearned:
    def test_field_is_the_exact_one(self, learned):
        """Along the noisy paths of a context: within a fifth of the field's size, which the other context's exact field
        is not by far. (Four times the draws bring it from 0.16 to 0.11.)"""
        around, decoder, bank, inputs = learned
        generator = seeded(7)
        for which in range(2):
            data = bank[which, torch.randint(2, (400,), generator=generator)]
            gamma = torch.rand(400, 1, 1, generator=generator)
            points = gamma * data + (1 - gamma) * torch.randn(data.shape, generator=generator)
            with torch.no_grad():
                context = around.context(inputs[which].expand(400, -1, -1))
                guess = decoder.field(context, points, torch.zeros(400))
            truth, other = (
                exact_field(points, shared(each, 400), torch.ones(400, 2), decay=decoder.config.decay, nodes=400)
                for each in (bank[which], bank[1 - which])
            )
            missed, far = ((guess - each).square().mean() / truth.square().mean() for each in (truth, other))
            assert missed**0.5 < 0.2 and far**0.5 > 0.5

    def test_keeps_the_modes_of_each_context_apart(self, learned):
        around, decoder, bank, inputs = learned
        for which in range(2):
            with torch.inference_mode():
                sample = decoder.sample(around.context(inputs[which].expand(64, -1, -1)), generator=seeded(8))
            assert distance(sample.actions, bank[which]).max() < 0.25
            first = distance(sample.actions, bank[which, :1]) < 0.25
            assert 0.2 < first.float().mean() < 0.8
            assert (sample.evaluations < decoder.config.evaluations).all()

    def test_residual_tells_contexts_that_were_never_shown(self):
        """After the same number of evaluations, without a stop. Only the way there tells: a continuous field that
        points outward far away rests somewhere in every context, so in the end no residual is left anywhere."""
        generator = seeded(3)
        mix, shown = torch.randn(5, HORIZON * DIM, generator=generator), torch.randn(128, 5, generator=generator)
        actions = torch.tanh(shown @ mix).view(-1, HORIZON, DIM)
        around, decoder = trained(shown[:, None].expand(-1, TOKENS, -1), actions, steps=300)
        decoder.config = replace(decoder.config, stop=0.0)
        residuals = []
        for shift in (0, 2):
            inputs = (torch.randn(200, 5, generator=generator) + shift)[:, None].expand(-1, TOKENS, -1)
            with torch.no_grad():
                sample = decoder.sample(around.context(inputs), generator=seeded(5), budget=Budget(evaluations=20))
            residuals.append(sample.strangeness)
        assert (residuals[1][:, None] > residuals[0][None]).float().mean() > 0.7

    def test_policies_compose(self, learned):
        """The same policy in two contexts: the sum is solved like one field, and equal parts of one are that one."""
        around, decoder, _, inputs = learned
        with torch.no_grad():
            contexts = [around.context(each.expand(3, -1, -1)) for each in inputs]
            fields = [partial(decoder.field, each) for each in contexts]
            solve = partial(decoder.solve, rows=3, device=inputs.device)
            alone = solve(fields[0], generator=seeded(1))
            halves = solve(lambda x, t: 0.5 * fields[0](x, t) + 0.5 * fields[0](x, t), generator=seeded(1))
            torch.testing.assert_close(halves.actions, alone.actions)
            both = solve(lambda x, t: 0.5 * fields[0](x, t) + 0.5 * fields[1](x, t), generator=seeded(1))
        points, time = both.actions, torch.zeros(3)
        with torch.no_grad():
            opposed = fields[0](points, time) + fields[1](points, time)
        assert opposed.abs().max() < fields[0](points, time).abs().max()


@pytest.mark.parametrize("energy", ["dot", "norm"])
class TestEnergy:
    def test_field_is_its_gradient(self, energy):
        """Against central differences, in double precision."""
        around, decoder = make("equilibrium", energy=energy)
        around, decoder = around.double(), decoder.double()
        context = around.context(torch.randn(2, TOKENS, 5, generator=seeded(), dtype=torch.float64))
        chunks = torch.randn(2, HORIZON, DIM, generator=seeded(1), dtype=torch.float64)
        field = decoder.field(context, chunks, torch.zeros(2, dtype=torch.float64))
        small = 1e-5
        with torch.no_grad():
            for place in range(HORIZON):
                for dim in range(DIM):
                    push = torch.zeros_like(chunks)
                    push[:, place, dim] = small
                    up, down = decoder.energy(context, chunks + push), decoder.energy(context, chunks - push)
                    torch.testing.assert_close(field[:, place, dim], (up - down) / (2 * small), rtol=1e-6, atol=1e-8)

    def test_same_chunk_with_and_without_differentiation(self, energy):
        around, decoder = make("equilibrium", energy=energy, evaluations=5)
        ends = []
        for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
            with mode():
                context = around.context(torch.randn(2, TOKENS, 5, generator=seeded()))
                ends.append(decoder.sample(context, generator=seeded(1)).actions)
                assert mode is torch.enable_grad or not ends[-1].requires_grad
        torch.testing.assert_close(ends[1], ends[0].detach())
        assert torch.equal(ends[1], ends[2])

    def test_loss_reaches_every_weight_twice_differentiated(self, energy):
        around, decoder = make("equilibrium", energy=energy)
        inputs, actions = (
            torch.randn(4, TOKENS, 5, generator=seeded()),
            torch.randn(4, HORIZON, DIM, generator=seeded()),
        )
        loss = decoder.loss(
            around.context(inputs), actions, torch.ones(4, HORIZON, dtype=torch.bool), generator=seeded()
        )
        loss.mean().backward()
        for parameter in [*around.parameters(), *decoder.parameters()]:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all()
        with torch.no_grad():
            again = decoder.loss(
                around.context(inputs), actions, torch.ones(4, HORIZON, dtype=torch.bool), generator=seeded()
            )
        torch.testing.assert_close(again, loss.detach())

    def test_learns_two_modes_as_valleys(self, energy):
        side = torch.where(torch.arange(64) % 2 == 0, 1.0, -1.0)[:, None, None]
        around, decoder = trained(torch.zeros(64, TOKENS, 5), side.expand(64, HORIZON, DIM), steps=150, energy=energy)
        with torch.inference_mode():
            context = around.context(torch.zeros(32, TOKENS, 5))
            chunks = decoder.sample(context, generator=seeded(9)).actions
            assert (chunks.abs() - 1).abs().mean() < 0.1 and 0.2 < (chunks.mean((1, 2)) > 0).float().mean() < 0.8
            ridge = decoder.energy(context, torch.zeros_like(chunks))
            assert (decoder.energy(context, chunks) < ridge).all()


def test_no_energy_without_asking_for_one():
    around, decoder = make("equilibrium")
    with pytest.raises(ConfigError, match="energy='dot'"):
        decoder.energy(around.context(torch.zeros(1, TOKENS, 5)), torch.zeros(1, HORIZON, DIM))


class TestWarmStart:
    def test_saves_evaluations_where_the_world_moves_slowly(self):
        """The exact field of a chunk that turns a little from look to look; from the second look on it pays."""
        _, decoder = make("equilibrium", reuse=1.0, stop=0.3)
        turn = torch.linspace(0, 1, 8)
        banks = [torch.sin(torch.arange(HORIZON * DIM).view(1, HORIZON, DIM) + angle) for angle in turn]
        spent = {"cold": [], "warm": []}
        last = None
        for look, bank in enumerate(banks):
            solve = partial(decoder.solve, exact(bank), rows=16, device=bank.device)
            spent["cold"].append(solve(generator=seeded(look)).evaluations.sum())
            start = None if last is None else WarmStart(actions=last, known=torch.ones(16, HORIZON, dtype=torch.bool))
            warm = solve(generator=seeded(look), start=start)
            spent["warm"].append(warm.evaluations.sum())
            last = warm.actions
            assert distance(last, bank).max() < 0.2
        assert spent["warm"][0] == spent["cold"][0]
        assert sum(spent["warm"][1:]) < 0.7 * sum(spent["cold"][1:])

    def test_only_what_is_known_and_asked_for_is_reused(self):
        _, decoder = make("equilibrium", reuse=0.5)
        standing = partial(decoder.solve, lambda x, t: 0 * x, rows=2, device=torch.device("cpu"))
        noise = standing(generator=seeded()).actions
        known = torch.tensor([[True, True, True, False], [True, False, False, False]])
        end = standing(generator=seeded(), start=WarmStart(actions=torch.full((2, 4, 3), 7.0), known=known)).actions
        reused = torch.tensor([[True, True, False, False], [True, False, False, False]])
        assert (end[reused] == 7).all() and torch.equal(end[~reused], noise[~reused])

    @pytest.mark.parametrize("reuse", [0.0, 1.0])
    def test_an_actor_hands_on_what_it_did_not_carry_out(self, reuse, monkeypatch):
        actor, observation = acting(reuse=reuse, evaluations=3)
        starts, samples, sample = [], [], actor.policy.decoder.sample

        def spy(context: Context, *, generator, budget, start=None):
            starts.append(start)
            samples.append(sample(context, generator=generator, budget=budget, start=start))
            return samples[-1]

        monkeypatch.setattr(actor.policy.decoder, "sample", spy)
        actor.reset(0)
        actor.act_many([0], [observation])
        actor.act_many([0, 1], [observation, observation])
        actor.reset(0)
        chunk = actor.act(observation)
        assert chunk.strangeness == pytest.approx(samples[2].strangeness.item())
        if not reuse:
            assert starts == [None, None, None]
            return
        assert not starts[0].known.any() and not starts[2].known.any()
        assert starts[1].known.tolist() == [[True, True, True, False], [False] * 4]
        assert torch.equal(starts[1].actions[0, :3], samples[0].actions[0, 1:])
        assert torch.equal(samples[2].actions, samples[0].actions)

    def test_an_episode_tells_how_strange_its_chunks_were(self):
        job = Job(task="toy/reach-red", seed=1, arm="a", max_steps=6)
        told = run_episode(make_env(job.task), acting(evaluations=3)[0], job)
        silent = run_episode(make_env(job.task), acting("regression")[0], job)
        assert len(told.strangeness) == len(told.evaluations) == told.steps == 6
        assert all(each > 0 for each in told.strangeness) and silent.strangeness == ()

    def test_a_decoder_that_cannot_is_not_given_one(self):
        actor, observation = acting(decoder="flow")
        start = WarmStart(actions=torch.zeros(1, 4, 2), known=torch.zeros(1, 4, dtype=torch.bool))
        with pytest.raises(ConfigError, match="'flow' cannot set out"):
            actor.policy.predict(actor.batch([observation]), start=start)


def acting(decoder: str = "equilibrium", **options) -> tuple[PolicyActor, Observation]:
    robot = make_env("toy/reach-red").spec
    config = PolicyConfig(
        backbone="tiny", decoder=decoder, horizon=4, normalise_action="min_max", normalise_proprioception="mean_std",
        decoder_options=options,
    )  # fmt: skip
    sizes = {ACTION: robot.action.dim, PROPRIOCEPTION: len(robot.proprioception)}
    statistics = {name: exact_statistics(np.stack([-np.ones(d), np.ones(d)])) for name, d in sizes.items()}
    observation = Observation(
        images={each.name: np.zeros((each.height, each.width, 3), np.uint8) for each in robot.cameras},
        proprioception=np.zeros(len(robot.proprioception), np.float32), instruction="go", time=0.0,
    )  # fmt: skip
    return PolicyActor(Policy(config, robot=robot, statistics=statistics), execute=1), observation


class TestExactControl:
    """Eight toy scenes with two demonstrations each, told apart by proprioception."""

    @pytest.fixture
    def shown(self) -> Batch:
        actor, observation = acting()
        batch = actor.batch([observation] * 16)
        where = torch.linspace(-1, 1, 8).repeat_interleave(2)[:, None].expand(-1, batch.proprioception.shape[1])
        chunks = torch.randn(16, 4, actor.policy.robot.action.dim, generator=seeded())
        return replace(batch, proprioception=where, actions=chunks, valid=torch.ones(16, 4, dtype=torch.bool))

    def test_gives_the_chunks_of_the_context(self, shown, tmp_path):
        """Sharp kernel: each scene gives both of its own demonstrations and no other; so does the policy that was saved
        and loaded."""
        policy = acting()[0].policy
        control = exact_control(policy, [part(shown, slice(0, 6)), part(shown, slice(6, 16))], bandwidth=0.03)
        control.save(tmp_path / "control", facts={})
        again = Policy.load(tmp_path / "control")
        with torch.inference_mode():
            samples = [each.predict(shown, generator=seeded(1)) for each in (control, again)]
            assert torch.equal(samples[0].actions, samples[1].actions)
            owners = torch.cdist(samples[0].actions.flatten(1), shown.actions.flatten(1))
            assert owners.min(-1).values.max() < 0.2
            assert (owners.argmin(-1) // 2).tolist() == [row // 2 for row in range(16)]
            several = control.predict(part(shown, [0] * 16), generator=seeded(2)).actions
            assert set(torch.cdist(several.flatten(1), shown.actions.flatten(1)).argmin(-1).tolist()) == {0, 1}

    def test_its_loss_is_what_learning_could_reach(self, shown):
        """The exact field with its own demonstrations is better than the untrained network, and a kernel that cannot
        tell the scenes apart is worse than one that can."""
        policy = acting()[0].policy
        controls = [exact_control(policy, [shown], bandwidth=width) for width in (0.03, 10.0)]
        many = part(shown, torch.arange(16).repeat(20).tolist())
        with torch.no_grad():
            losses = [each.loss(many, generator=seeded(3)).mean() for each in (*controls, policy)]
        assert losses[0] < 0.9 * losses[1] < 0.9 * losses[2]

    def test_needs_a_policy_of_its_kind_and_demonstrations(self, shown):
        with pytest.raises(ConfigError, match="not by 'flow'"):
            exact_control(acting(decoder="flow")[0].policy, [shown])
        with pytest.raises(ConfigError, match="there was no batch"):
            exact_control(acting()[0].policy, [])


def part(batch: Batch, rows: slice | list[int]) -> Batch:
    listed = list(range(len(batch.instructions)))[rows] if isinstance(rows, slice) else rows
    return Batch(
        images={name: images[listed] for name, images in batch.images.items()},
        instructions=tuple(batch.instructions[row] for row in listed),
        proprioception=batch.proprioception[listed], actions=batch.actions[listed], valid=batch.valid[listed],
    )  # fmt: skip


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"step": 0.07, "look_ahead": 0.3}, "below 0.0625"),
        ({"step": 0.11}, "below 0.1"),
        ({"step": 0.0}, "must be positive"),
        ({"reuse": 1.5}, "reuse"),
        ({"evaluations": 0}, "evaluations must be at least 1"),
        ({"turn": 1.0}, "0 <= turn < 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        Equilibrium.Config(**wrong)


def test_a_budget_takes_the_place_of_the_configured_limit():
    around, decoder = make("equilibrium", evaluations=3, stop=0.0)
    context = around.context(torch.zeros(1, TOKENS, 5))
    with torch.no_grad():
        assert decoder.sample(context, generator=seeded()).evaluations.item() == 3
        assert decoder.sample(context, generator=seeded(), budget=Budget(evaluations=9)).evaluations.item() == 9
