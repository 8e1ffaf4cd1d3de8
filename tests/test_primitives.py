"""Movement primitives: what their equations promise, and the motions of an independent implementation."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from surroundings import DIM, HORIZON, TOKENS, WIDTH, Surroundings, make, seeded

from volar.core.errors import ConfigError
from volar.decoders.primitives import Primitives
from volar.nn.primitives.constrained import Box, Clearance, constrained_weights, moment_of
from volar.nn.primitives.discrete import Discrete, discrete_response
from volar.nn.primitives.hitting import hitting, hitting_response
from volar.nn.primitives.online import Avoidance, approached, avoidance, pace, steered
from volar.nn.primitives.orientation import conjugate, exponential, fitted_turn, logarithm, multiply, turn
from volar.nn.primitives.prodmp import linear_map
from volar.nn.primitives.promp import Moments, ProMP, basis, blended, conditioned, moments, promp, samples
from volar.nn.primitives.response import Parameters, Response, Spring, fitted, motion, rows_at
from volar.nn.primitives.rhythmic import Rhythmic, force, rhythmic_response
from volar.nn.primitives.via import via_rows

PEER = json.loads((Path(__file__).parents[1] / "docs" / "results" / "primitives" / "peer.json").read_text())
RESPONSE = discrete_response(Discrete())


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def parameters(rows: int = 5, dims: int = 3, *, weights: float = 50.0, seed: int = 0) -> Parameters:
    return Parameters(
        start=random(rows, dims, seed=seed),
        speed=random(rows, dims, seed=seed + 1),
        goal=random(rows, dims, seed=seed + 2),
        weights=random(rows, dims, 10, seed=seed + 3, scale=weights),
        duration=0.5 + torch.rand(rows, generator=seeded(seed)).double(),
    )


def at(response: Response, given: Parameters, s: torch.Tensor) -> torch.Tensor:
    """Positions at s = time / duration."""
    return motion(response, given, s * given.duration[:, None]).position


S = torch.linspace(0, 1, 41, dtype=torch.float64)


class TestDiscrete:
    def test_reaches_any_goal_whatever_the_weights_and_duration(self):
        given = parameters()
        end = motion(RESPONSE, given, 2 * given.duration[:, None])
        assert (end.position[:, 0] - given.goal).abs().max() < 2e-3
        assert (end.velocity * given.duration[:, None, None]).abs().max() < 0.02

    def test_without_weights_it_is_the_critically_damped_spring(self):
        given = replace(parameters(weights=0.0), speed=torch.zeros(5, 3, dtype=torch.float64))
        omega = math.sqrt(25 * 6.25)
        left = ((1 + omega * S) * torch.exp(-omega * S))[None, :, None]
        expected = given.goal[:, None] + (given.start - given.goal)[:, None] * left
        torch.testing.assert_close(at(RESPONSE, given, S), expected, rtol=0, atol=1e-9)

    def test_slower_is_the_same_path(self):
        """L6: the duration stretches time and nothing else."""
        given = replace(parameters(), speed=torch.zeros(5, 3, dtype=torch.float64))
        slower = replace(given, duration=3 * given.duration)
        torch.testing.assert_close(at(RESPONSE, given, S), at(RESPONSE, slower, S), rtol=0, atol=1e-12)
        fast, slow = (motion(RESPONSE, each, S * each.duration[:, None]).velocity for each in (given, slower))
        torch.testing.assert_close(fast, 3 * slow)

    def test_moving_start_and_goal_moves_the_path_as_it_is(self):
        given, shift = parameters(), random(5, 3, seed=9)
        moved = replace(given, start=given.start + shift, goal=given.goal + shift)
        torch.testing.assert_close(at(RESPONSE, moved, S), at(RESPONSE, given, S) + shift[:, None], rtol=0, atol=1e-9)

    def test_is_linear_in_the_weights(self):
        given, other = parameters(), random(5, 3, 10, seed=7, scale=30)
        none = at(RESPONSE, replace(given, weights=torch.zeros_like(other)), S)
        first, second, both = (
            at(RESPONSE, replace(given, weights=w), S) - none for w in (given.weights, other, given.weights + other)
        )
        torch.testing.assert_close(both, first + second, rtol=0, atol=1e-9)

    def test_velocity_is_the_derivative_of_position(self):
        given = parameters()
        eps = 1e-5
        times = 0.37 * given.duration[:, None]
        ahead, behind = (motion(RESPONSE, given, times + sign * eps).position for sign in (1, -1))
        torch.testing.assert_close(
            motion(RESPONSE, given, times).velocity, (ahead - behind) / (2 * eps), rtol=1e-6, atol=1e-5
        )

    def test_the_gradient_by_everything_is_the_true_one(self):
        given = parameters(rows=1, dims=1, weights=5.0)
        times = (torch.tensor([[0.21, 0.77]]) * given.duration[:, None]).double()

        def positions(*values):
            names = ("start", "speed", "goal", "weights", "duration")
            return motion(RESPONSE, Parameters(**dict(zip(names, values, strict=True))), times).position

        values = (given.start, given.speed, given.goal, given.weights, given.duration)
        assert torch.autograd.gradcheck(positions, [value.clone().requires_grad_() for value in values], atol=1e-4)

    @pytest.mark.parametrize(("config", "key"), [(Discrete(), "discrete"), (Discrete(smooth=True), "discrete_smooth")])
    def test_moves_as_an_independent_implementation(self, config, key):
        """`movement_primitives`, integrated by Euler in steps of 1e-4, whose own error is 2e-4 on this motion."""
        zeros = torch.zeros(1, 3, dtype=torch.float64)
        given = Parameters(
            start=zeros, speed=zeros, goal=zeros + 1, weights=torch.tensor(PEER["weights"]).double()[None],
            duration=torch.ones(1, dtype=torch.float64),
        )  # fmt: skip
        ours = at(discrete_response(config), given, torch.linspace(0, 1, 11, dtype=torch.float64))[0]
        theirs = torch.tensor(PEER[key], dtype=torch.float64)
        assert (ours - theirs).abs().max() < 5e-4 < theirs.abs().max()

    def test_rows_in_numpy_are_those_in_torch(self):
        s = torch.tensor([0.0, 0.1234567, 0.5, 1.0, 1.99999, 2.0, 3.0]).double()
        rows = rows_at(RESPONSE, s.numpy())
        np.testing.assert_allclose(rows.position, RESPONSE.at(s).numpy(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(rows.speed, RESPONSE.speed_at(s).numpy(), rtol=0, atol=1e-9)

    def test_smooth_scaling_starts_without_a_jump_of_acceleration(self):
        given = replace(parameters(weights=0.0), speed=torch.zeros(5, 3, dtype=torch.float64))
        early = 1e-3 * given.duration[:, None]
        jump = {
            smooth: motion(discrete_response(Discrete(smooth=smooth)), given, early).velocity
            for smooth in (False, True)
        }
        assert jump[True].abs().max() < 0.01 * jump[False].abs().max()

    def test_a_demonstration_is_repeated_from_twelve_weights(self):
        times = torch.linspace(0, 1.3, 200, dtype=torch.float64)
        x = times / 1.3
        demonstration = torch.stack([x**2 * (3 - 2 * x), 0.2 * torch.sin(math.pi * x) ** 2, 0.1 * x], dim=-1)[None]
        response = discrete_response(Discrete(weights=12))
        found = fitted(response, demonstration, times)
        error = motion(response, found, times).position - demonstration
        assert error.square().mean().sqrt() < 0.004

    def test_wrong_number_of_weights_is_refused(self):
        with pytest.raises(ConfigError, match=r"10 weights per dimension, got 4"):
            motion(RESPONSE, replace(parameters(), weights=random(5, 3, 4)), S)
        with pytest.raises(ConfigError, match="at least 2 weights"):
            Discrete(weights=1)
        with pytest.raises(ConfigError, match="above 0"):
            Spring(alpha=0.0)


class TestHitting:
    HITS = hitting_response(Discrete())

    def test_arrives_with_its_speed_and_then_settles_on_the_goal(self):
        given, speed = parameters(weights=20.0), random(5, 3, seed=11)
        found = motion(self.HITS, hitting(given, speed), torch.tensor([0.0, 1.0, 2.0]) * given.duration[:, None])
        torch.testing.assert_close(found.position[:, 0], given.start)
        torch.testing.assert_close(found.velocity[:, 0], given.speed)
        left = motion(RESPONSE, replace(given, start=0 * given.start, speed=0 * given.speed, goal=0 * given.goal),
                      given.duration[:, None])  # fmt: skip
        torch.testing.assert_close(found.position[:, 1], given.goal + left.position[:, 0])
        torch.testing.assert_close(found.velocity[:, 1], speed + left.velocity[:, 0], rtol=1e-5, atol=1e-6)
        assert (found.position[:, 2] - given.goal).abs().max() < 2e-3

    def test_without_weights_it_is_the_quintic_and_the_forces_are_those_of_every_discrete_primitive(self):
        still = hitting(parameters(weights=0.0), random(5, 3, seed=11))
        found = at(self.HITS, still, S)
        x = S[:, None].pow(torch.arange(6.0).double())
        fit = torch.linalg.lstsq(x, found[0]).solution
        assert (x @ fit - found[0]).abs().max() < 1e-9
        for moment in (0.0, 1.0):
            powers = torch.tensor([0, 0, 2, 6 * moment, 12 * moment**2, 20 * moment**3]).double()
            assert (powers @ fit).abs().max() < 1e-6
        torch.testing.assert_close(self.HITS.position[:, 3:-1], RESPONSE.position[:, 3:])

    def test_moves_as_an_independent_implementation(self):
        zeros = torch.zeros(1, 3, dtype=torch.float64)
        given = Parameters(
            start=zeros, speed=zeros + 0.3, goal=zeros + 1, weights=torch.tensor(PEER["weights"]).double()[None],
            duration=torch.ones(1, dtype=torch.float64),
        )  # fmt: skip
        aim = hitting(given, torch.tensor([[2.0, -1.0, 0.5]]).double())
        ours = at(self.HITS, aim, torch.linspace(0, 1.5, 16, dtype=torch.float64))[0]
        assert (ours - torch.tensor(PEER["hitting"]).double()).abs().max() < 1e-3


class TestOnline:
    def test_without_a_push_the_motion_is_the_exact_one(self):
        given = parameters()
        grid = torch.arange(2001).double() / 1000
        found = steered(RESPONSE, Spring(), given, lambda position, speed: torch.zeros_like(position))
        expected = motion(RESPONSE, given, grid * given.duration[:, None])
        torch.testing.assert_close(found.position, expected.position, rtol=0, atol=1e-9)
        torch.testing.assert_close(found.velocity, expected.velocity, rtol=0, atol=1e-9)

    def test_a_steady_push_moves_the_end_by_itself_over_the_stiffness(self):
        given = parameters()
        found = steered(RESPONSE, Spring(), given, lambda position, speed: torch.ones_like(position))
        plain = motion(RESPONSE, given, 2 * given.duration[:, None]).position[:, 0]
        torch.testing.assert_close(found.position[:, -1] - plain, torch.full((5, 3), 1 / (25 * 6.25)).double())

    def test_an_obstacle_is_passed_farther_off_on_its_nearer_side_and_the_goal_reached(self):
        start, goal = torch.zeros(2, 3).double(), torch.tensor([[0.4, 0.0, 0.0]] * 2).double()
        still = Parameters(start=start, speed=start, goal=goal, weights=torch.zeros(2, 3, 10).double(),
                           duration=torch.ones(2).double())  # fmt: skip
        things = torch.tensor([[[0.2, 0.01, 0.0]], [[0.2, -0.01, 0.0]]]).double()
        plain, found = (
            steered(RESPONSE, Spring(), still, push).position
            for push in (lambda y, v: 0 * y, lambda y, v: avoidance(y, v, things, Avoidance()))
        )
        before, after = ((path - things).norm(dim=-1).min(dim=1).values for path in (plain, found))
        assert (after > 4 * before).all()
        assert found[0, :, 1].min() < -0.03 and found[1, :, 1].max() > 0.03, "each on the side that is nearer"
        assert (found[:, -1] - goal).norm(dim=-1).max() < 1e-3

    def test_the_push_is_gated_bounded_and_nothing_behind(self):
        config, speed = Avoidance(), torch.tensor([[1.0, 0.0, 0.0]]).double()
        here = torch.zeros(1, 3).double()

        def push(*thing: float, by: float = 1.0) -> torch.Tensor:
            return avoidance(here, by * speed, torch.tensor([[thing]]).double(), config)

        assert push(0.1, 0.02, 0.0).norm() > 1 and push(0.1, 0.02, 0.0) @ speed.T == 0
        assert push(0.2, 0.04, 0.0).norm() == 0, "too far"
        assert push(-0.1, 0.02, 0.0).norm() == 0, "behind"
        assert push(0.1, 0.0, 0.0).norm() == 0 and not push(0.1, 0.0, 0.0).isnan().any(), "no side straight ahead"
        torch.testing.assert_close(push(0.1, 0.02, 0.0, by=100.0).norm(), torch.tensor(50.0).double())

    def test_a_low_passed_goal_arrives_and_small_steps_are_one_large_one(self):
        goal, wanted = random(4, 3), random(4, 3, seed=1)
        once, often = approached(goal, wanted, 0.3, rate=12.5), goal
        for _ in range(30):
            often = approached(often, wanted, 0.01, rate=12.5)
        torch.testing.assert_close(once, often)
        torch.testing.assert_close(approached(goal, wanted, 3.0, rate=12.5), wanted)
        torch.testing.assert_close(approached(goal, wanted, 0.0, rate=12.5), goal)

    def test_pace_is_one_without_lag_and_a_half_where_told(self):
        torch.testing.assert_close(pace(torch.tensor([0.0, 0.02, 0.2]), 0.02), torch.tensor([1.0, 0.5, 1 / 101]))


class TestRhythmic:
    def test_force_has_the_period_of_the_circle(self):
        angle = torch.linspace(0, 1, 7, dtype=torch.float64)
        torch.testing.assert_close(force(Rhythmic(), angle), force(Rhythmic(), angle + 2 * math.pi), rtol=0, atol=1e-12)

    def test_settles_on_a_cycle_that_repeats_a_signal_of_two_harmonics(self):
        config, period = Rhythmic(), 0.8
        response = rhythmic_response(config)
        angle = torch.linspace(0, 2 * math.pi, 400, dtype=torch.float64)
        wanted = 0.05 + 0.1 * torch.sin(angle) + 0.03 * torch.cos(2 * angle)
        alpha, beta = config.spring.alpha, config.spring.beta
        speed = 0.1 * torch.cos(angle) - 0.06 * torch.sin(2 * angle)
        change = -0.1 * torch.sin(angle) - 0.12 * torch.cos(2 * angle)
        target = change - alpha * (beta * (0.05 - wanted) - speed)
        weights = torch.linalg.lstsq(force(config, angle), target).solution
        one = torch.ones(1, 1, dtype=torch.float64)
        given = Parameters(
            start=0 * one, speed=0 * one, goal=0.05 * one, weights=weights[None, None],
            duration=torch.tensor([period / (2 * math.pi)]).double(),
        )  # fmt: skip
        second, third = (
            motion(response, given, (angle / (2 * math.pi) + turns) * period).position[0, :, 0] for turns in (1, 2)
        )
        assert (second - third).abs().max() < 1e-6
        assert (third - wanted).square().mean().sqrt() < 1e-3


class TestOrientation:
    def test_logarithm_and_exponential_are_inverse_and_take_the_short_way(self):
        vectors = random(50, 3)
        vectors = vectors / vectors.norm(dim=-1, keepdim=True) * torch.linspace(0, 3.1, 50).double()[:, None]
        torch.testing.assert_close(logarithm(exponential(vectors)), vectors, rtol=0, atol=1e-9)
        torch.testing.assert_close(logarithm(-exponential(vectors)), vectors, rtol=0, atol=1e-9)

    def test_reaches_the_goal_on_the_sphere(self):
        start, goal = exponential(random(4, 3)), -exponential(random(4, 3, seed=1))
        times = torch.linspace(0, 3.0, 31, dtype=torch.float64)
        found = turn(
            Discrete(), start=start, goal=goal, weights=random(4, 3, 10, scale=10), duration=torch.ones(4).double(),
            times=times, steps=1500,
        )  # fmt: skip
        torch.testing.assert_close(found.rotation.norm(dim=-1), torch.ones(4, 31).double(), rtol=0, atol=1e-12)
        left = logarithm(multiply(goal, conjugate(found.rotation[:, -1])))
        assert left.norm(dim=-1).max() < 1e-4
        straight = turn(
            Discrete(), start=start, goal=goal, weights=torch.zeros(4, 3, 10).double(),
            duration=torch.ones(4).double(), times=times,
        ).rotation  # fmt: skip
        swept = logarithm(multiply(straight[:, 1:], conjugate(straight[:, :-1]))).norm(dim=-1).sum(1)
        assert (swept <= math.pi + 1e-6).all(), "the long way round is more than half a turn"

    def test_turns_as_an_independent_implementation(self):
        one = torch.tensor([[1.0, 0, 0, 0]]).double()
        found = turn(
            Discrete(), start=one, goal=torch.tensor([[0.6, 0.8, 0, 0]]).double(),
            weights=torch.tensor(PEER["weights"]).double()[None] / 10, duration=torch.ones(1).double(),
            times=torch.linspace(0, 1, 11).double(), steps=2000,
        )  # fmt: skip
        apart = logarithm(multiply(found.rotation[0], conjugate(torch.tensor(PEER["orientation"]).double())))
        assert apart.norm(dim=-1).max() < 5e-3

    def test_a_demonstration_is_repeated(self):
        times = torch.linspace(0, 1, 301, dtype=torch.float64)
        x = times**3 * (10 - 15 * times + 6 * times**2)
        vectors = torch.stack([x, 0.3 * torch.sin(math.pi * x) ** 2, -0.5 * x], dim=-1)
        shown = exponential(vectors)[None]
        shown = torch.where(torch.arange(301)[None, :, None] % 2 == 0, shown, -shown)  # signs mean nothing
        weights = fitted_turn(Discrete(weights=15), shown, times)
        again = turn(
            Discrete(weights=15), start=shown[:, 0], goal=shown[:, -1], weights=weights,
            duration=torch.ones(1).double(), times=times, steps=3000,
        )  # fmt: skip
        apart = logarithm(multiply(again.rotation, conjugate(shown))).norm(dim=-1)
        assert apart.square().mean().sqrt() < 0.02 < vectors.norm(dim=-1).max()


class TestProMP:
    @pytest.fixture
    def shown(self) -> ProMP:
        heights = 1 + 0.3 * random(40, 1, 2)
        curves = heights * torch.sin(math.pi * S)[None, :, None] + 0.02 * random(40, 41, 2, seed=3)
        return promp(curves, S, weights=8)

    def test_conditioning_hits_the_point_and_leaves_far_phases(self, shown):
        point = torch.tensor([1.5, 0.7]).double()
        independent = replace(shown, covariance=torch.diag(shown.covariance.diagonal()))
        before, after = (
            moments(each, S) for each in (independent, conditioned(independent, 0.5, point, torch.zeros(2, 2).double()))
        )
        torch.testing.assert_close(after.mean[20], point, rtol=0, atol=1e-7)
        assert after.covariance[20].abs().max() < 1e-9
        torch.testing.assert_close(after.mean[[0, -1]], before.mean[[0, -1]], rtol=0, atol=1e-3)

    def test_the_order_of_two_conditions_does_not_matter(self, shown):
        noise = 1e-4 * torch.eye(2).double()
        early, late = torch.tensor([0.9, 0.9]).double(), torch.tensor([0.5, 0.6]).double()
        one = conditioned(conditioned(shown, 0.3, early, noise), 0.8, late, noise)
        two = conditioned(conditioned(shown, 0.8, late, noise), 0.3, early, noise)
        torch.testing.assert_close(one.mean, two.mean)
        torch.testing.assert_close(one.covariance, two.covariance, rtol=1e-5, atol=1e-9)

    def test_what_is_known_exactly_cannot_be_conditioned_on_again(self, shown):
        point, none = torch.zeros(2).double(), torch.zeros(2, 2).double()
        known = conditioned(shown, 0.3, point, none)
        assert moments(known, S[12:13]).covariance.abs().max() < 1e-12
        with pytest.raises(ConfigError, match=r"s = 0\.3 .* known there already"):
            conditioned(replace(known, covariance=torch.zeros_like(known.covariance)), 0.3, point, none)

    def test_moments_are_those_of_its_samples(self, shown):
        drawn = samples(shown, S, count=20_000, generator=seeded())
        expected = moments(shown, S)
        assert (drawn.mean(0) - expected.mean).abs().max() < 0.02
        assert (drawn.var(0) - expected.covariance.diagonal(dim1=-2, dim2=-1)).abs().max() < 0.01

    def test_conditions_as_an_independent_implementation(self):
        prior = ProMP(mean=torch.zeros(1, 3, 10).double(), covariance=torch.eye(30).double()[None])
        given = conditioned(prior, 0.5, torch.ones(1, 3).double(), 1e-6 * torch.eye(3).double())
        found = moments(given, torch.linspace(0, 1, 11, dtype=torch.float64))
        torch.testing.assert_close(found.mean[0], torch.tensor(PEER["promp_mean"]).double(), rtol=0, atol=1e-6)
        variance = found.covariance[0].diagonal(dim1=-2, dim2=-1)
        torch.testing.assert_close(variance, torch.tensor(PEER["promp_variance"]).double(), rtol=0, atol=1e-6)

    def test_blending_goes_from_one_to_the_other_and_agreement_is_surer(self):
        eye = torch.eye(1).double().expand(3, 1, 1)
        low = Moments(mean=torch.zeros(3, 1).double(), covariance=eye)
        high = Moments(mean=torch.full((3, 1), 2.0).double(), covariance=eye)
        fade = torch.tensor([[1.0, 0.5, 1e-9], [1e-9, 0.5, 1.0]]).double()
        torch.testing.assert_close(blended([low, high], fade).mean[:, 0], torch.tensor([0.0, 1.0, 2.0]).double())
        assert (blended([low, high], torch.ones(2, 3).double()).covariance == 0.5).all()

    def test_basis_shares_sum_to_one_and_one_demonstration_is_refused(self):
        torch.testing.assert_close(basis(S, 7).sum(1), torch.ones(41).double())
        with pytest.raises(ConfigError, match="at least 2 demonstrations"):
            promp(random(1, 41, 2), S)


@pytest.mark.parametrize("moment", [0.0, 0.3, 0.8])
def test_prodmp_goes_on_from_any_moment_of_a_motion(moment):
    given = parameters(rows=1, dims=1)
    pace = given.duration[0]
    here = motion(RESPONSE, given, (moment * pace)[None])
    lines = linear_map(RESPONSE, S, moment=moment)
    state = torch.stack([here.position[0, 0, 0], here.velocity[0, 0, 0] * pace])
    again = lines.given @ state + lines.free @ torch.cat([given.weights[0, 0], given.goal[0]])
    torch.testing.assert_close(again, at(RESPONSE, given, S)[0, :, 0], rtol=0, atol=1e-6)


class TestViaPoints:
    POINTS = (0.25, 0.6)

    def values(self) -> torch.Tensor:
        return torch.tensor([0.1, 0.0, 1.0, 0.5, 0.2]).double()  # start, start speed, goal, two via points

    def test_passes_its_points_and_starts_and_ends_as_told(self):
        s = torch.tensor([0.0, *self.POINTS, 2.0]).double()
        passed = via_rows(RESPONSE, s, self.POINTS) @ self.values()
        torch.testing.assert_close(passed, torch.tensor([0.1, 0.5, 0.2, 1.0]).double(), rtol=0, atol=0.01)
        torch.testing.assert_close(passed[1:3], torch.tensor([0.5, 0.2]).double(), rtol=0, atol=1e-7)

    def test_no_other_weights_that_pass_them_take_less_effort(self):
        """Any change of the weights that keeps the points adds acceleration."""
        from volar.nn.primitives.via import effort

        passed = RESPONSE.at(torch.tensor(self.POINTS).double())
        matrix = effort(RESPONSE)
        to_points = torch.linalg.solve(matrix, passed[:, 3:].T)
        weights = to_points @ torch.linalg.solve(passed[:, 3:] @ to_points, torch.tensor([0.4, -0.3]).double())
        free = torch.linalg.svd(passed[:, 3:]).Vh[2:]
        for change in free @ torch.eye(10).double():
            other = weights + 5 * change
            assert other @ matrix @ other >= weights @ matrix @ weights - 1e-6

    @pytest.mark.parametrize("points", [(0.5, 0.5), (0.6, 0.2), (0.0, 0.5), (0.5, 1.0)])
    def test_points_out_of_order_or_range_are_refused(self, points):
        with pytest.raises(ConfigError, match=r"inside \(0, 1\), ascend"):
            via_rows(RESPONSE, S, points)


@pytest.mark.parametrize(
    "options", [{"shape": "via_points"}, {"duration": True}, {"shape": "via_points", "duration": True}]
)
def test_every_form_of_the_decoder_learns_a_batch(options):
    around, decoder = make("primitives", **options)
    inputs = torch.randn(8, TOKENS, 5, generator=seeded(1))
    steps = torch.linspace(0, 1, HORIZON)[None, :, None]
    actions = torch.randn(8, 1, DIM, generator=seeded(2)) * steps + torch.randn(8, 1, DIM, generator=seeded(3))
    valid = torch.ones(8, HORIZON, dtype=torch.bool)
    optimizer = torch.optim.Adam([*around.parameters(), *decoder.parameters()], lr=1e-2)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = decoder.loss(around.context(inputs), actions, valid).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_the_decoders_chunk_is_a_primitive():
    """Every chunk lies in the span of the primitive's five columns: smoothness is not learned but built in."""
    around, steps = Surroundings(), 12
    decoder = Primitives(Primitives.Config(count=2), width=WIDTH, horizon=steps, action_dim=DIM)
    chunk = decoder.sample(around.context(torch.randn(8, TOKENS, 5, generator=seeded(1)))).actions.detach()
    rows = discrete_response(Discrete(weights=2)).at(torch.linspace(0, 1, steps).double()).float()
    onto = rows @ torch.linalg.pinv(rows)
    torch.testing.assert_close(onto @ chunk, chunk, rtol=1e-3, atol=1e-4)
    other = torch.randn(8, steps, DIM, generator=seeded(2))
    assert (onto @ other - other).abs().max() > 0.1


@pytest.mark.parametrize(("options", "message"), [({"shape": "viapoints"}, "via_points"), ({"count": 1}, "at least 2")])
def test_wrong_options_of_the_decoder_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make("primitives", **options)


class TestConstrained:
    START, GOAL = np.array([-0.15, 0.0, 0.1]), np.array([0.15, 0.05, 0.05])
    BOX = Box(low=np.array([-0.25, -0.25, 0.01]), high=np.array([0.25, 0.25, 0.25]))

    def path(self, weights: np.ndarray, s: torch.Tensor) -> np.ndarray:
        values = np.concatenate([np.stack([self.START, 0 * self.START, self.GOAL], axis=1), weights], axis=1)
        return RESPONSE.at(s).numpy() @ values.T

    @pytest.mark.parametrize("fraction", [0.1, 0.2, 0.4, 0.6, 0.8, 0.9])
    @pytest.mark.parametrize("metres", [0.1, -0.1])
    def test_grants_clearance_wherever_it_is_asked_for(self, fraction, metres):
        """L2: the published weights cannot do so before a third of the way."""
        wish = Clearance(at=fraction, axis=1, metres=metres)
        weights = constrained_weights(RESPONSE, self.START, self.GOAL, [wish], self.BOX)
        moment = torch.tensor([moment_of(RESPONSE, fraction)]).double()
        none = np.zeros_like(weights)
        aside = (self.path(weights, moment) - self.path(none, moment))[0]
        assert aside[1] * np.sign(metres) > 0.0999
        assert abs(aside[0]) < 1e-9, "the other axes are left alone"
        path = self.path(weights, S)
        assert (path > self.BOX.low - 1e-3).all() and (path < self.BOX.high + 1e-3).all()
        ended = self.path(weights, torch.linspace(1, 2, 41, dtype=torch.float64))
        assert abs(ended - self.GOAL).max() < 0.004, "it stays where it ended"

    def test_no_wish_no_weights(self):
        assert not constrained_weights(RESPONSE, self.START, self.GOAL, [], self.BOX).any()

    def test_wishes_that_contradict_are_named_with_the_amount(self):
        both = [Clearance(at=0.5, axis=1, metres=0.1), Clearance(at=0.52, axis=1, metres=-0.1)]
        with pytest.raises(ConfigError, match=r"by 8\.\d cm.*\+0\.1 m.*50%.*-0\.1 m.*52%"):
            constrained_weights(RESPONSE, self.START, self.GOAL, both, self.BOX)
        with pytest.raises(ConfigError, match=r"above 0\.25 m"):
            constrained_weights(RESPONSE, self.START, self.GOAL, [Clearance(at=0.5, axis=1, metres=0.4)], self.BOX)
        with pytest.raises(ConfigError, match="0 < fraction < 1"):
            constrained_weights(RESPONSE, self.START, self.GOAL, [Clearance(at=1.0, axis=1, metres=0.1)], self.BOX)
