"""Statistics of a comparison, held to enumeration, to simulation, to published figures and to other people's packages.

tests/golden/statistics_oracles.json comes from bench/statistics_oracles.py. Intervals over tasks: test_evaluation.py.
"""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom, binomtest, multinomial, norm

from volar.cli import main
from volar.statistics.bootstrap import hierarchical_difference, satterthwaite_difference, seed_spread
from volar.statistics.intervals import GAINS, Pairs, equal_weights, paired_counts, paired_difference, score_z
from volar.statistics.multiple import bradley_terry, compact_letters, holm
from volar.statistics.paired import (
    equivalence_paired,
    mcnemar_exact,
    mcnemar_mid_p,
    mcnemar_stratified,
    newcombe_paired,
    paired_z,
)
from volar.statistics.power import (
    anytime_scenes,
    barnard_power,
    discordance,
    equivalence_scenes,
    group_scenes,
    mcnemar_power,
    paired_scenes,
    trainings_power,
    unpaired_episodes,
)
from volar.statistics.published import what_follows
from volar.statistics.sequential import confidence_sequence, exit_chances, group_sequential, log_capital
from volar.statistics.single import clopper_pearson
from volar.statistics.unpaired import Counts, barnard, newcombe, unpaired_difference, unpaired_p

ORACLES = json.loads((Path(__file__).parent / "golden" / "statistics_oracles.json").read_text())


def table(both: int, first: int, second: int, neither: int) -> Pairs:
    return Pairs(both=both, first_only=first, second_only=second, neither=neither)


def limits(interval) -> list[float]:
    return [interval.low, interval.high]


# ---- other people's packages and published examples


@pytest.mark.parametrize("case", ORACLES["paired"], ids=lambda case: "-".join(map(str, case["pairs"])))
def test_paired_tests_agree_with_other_packages(case):
    pairs = table(*case["pairs"])
    for package in ("statsmodels", "fieldtrial", "robostats"):
        assert mcnemar_exact(pairs) == pytest.approx(case[f"{package}_exact"], abs=1e-12)
    for package in ("fieldtrial", "robostats"):
        assert limits(paired_difference([pairs])) == pytest.approx(case[f"{package}_tango"], abs=1e-6)


@pytest.mark.parametrize("case", ORACLES["unpaired"], ids=lambda case: "-".join(map(str, case["counts"])))
def test_unpaired_tests_agree_with_other_packages(case):
    a, n_a, b, n_b = case["counts"]
    counts = [Counts(first=a, first_episodes=n_a, second=b, second_episodes=n_b)]
    assert limits(clopper_pearson(a, n_a)) == pytest.approx(case["statsmodels_clopper_pearson"], abs=1e-9)
    assert limits(newcombe(a, n_a, b, n_b)) == pytest.approx(case["statsmodels_newcombe"], abs=1e-6)
    assert unpaired_p(counts) == pytest.approx(case["statsmodels_pooled_p"], abs=1e-6)
    total = n_a + n_b  # Miettinen & Nurminen enlarge Mee's variance by total / (total - 1)
    confidence = float(2 * norm.cdf(norm.ppf(0.975) * math.sqrt(total / (total - 1))) - 1)
    score = limits(unpaired_difference(counts, confidence=confidence))
    assert score == pytest.approx(case["robostats_miettinen_nurminen"], abs=1e-6)
    assert barnard(a, n_a, b, n_b) >= case["scipy_barnard"] - 1e-6  # SciPy's search may miss the worst common rate


@pytest.mark.parametrize("case", ORACLES["statsmodels_holm"], ids=lambda case: str(len(case["p"])))
def test_holm_agrees_with_statsmodels(case):
    assert holm(case["p"]) == pytest.approx(case["adjusted"])


@pytest.mark.parametrize("case", ORACLES["fieldtrial_boundaries"], ids=lambda c: f"{c['spending']}-{len(c['looks'])}")
def test_boundaries_agree_with_fieldtrial(case):
    design = group_sequential(case["looks"], spending=case["spending"])
    assert design.boundaries == pytest.approx(case["boundaries"], abs=2e-4)
    exits = exit_chances(design, drift=case["drift"])
    assert sum(exits.upper) + sum(exits.lower) == pytest.approx(case["rejects"], abs=1e-5)


@pytest.mark.parametrize("case", ORACLES["fieldtrial_mcnemar_power"], ids=lambda case: str(case["n"]))
def test_power_agrees_with_fieldtrial(case):
    difference = case["better_only"] - case["worse_only"]
    scene = discordance(0.5 - difference / 2, difference, correlation=0.0)
    scene = type(scene)(better_only=case["better_only"], worse_only=case["worse_only"])
    assert mcnemar_power(case["n"], scene, mid=False) == pytest.approx(case["power"], abs=1e-9)


def test_published_examples():
    asthma = table(1, 1, 7, 12)  # Fagerland, Lydersen & Laake 2014, table 1: airway reactivity (Bentur et al. 2009)
    assert mcnemar_exact(asthma) == pytest.approx(0.070, abs=5e-4)
    assert mcnemar_mid_p(asthma) == pytest.approx(0.039, abs=5e-4)
    assert limits(paired_difference([asthma])) == pytest.approx([-0.517, -0.026], abs=5e-4)
    assert limits(newcombe_paired(asthma)) == pytest.approx([-0.507, -0.026], abs=5e-4)
    assert limits(newcombe(56, 70, 48, 80)) == pytest.approx([0.0524, 0.3339], abs=5e-5)  # Newcombe 1998, table II (a)
    five = [0.2, 0.4, 0.6, 0.8, 1.0]  # Lan & DeMets' boundaries, printed in the manual of R's ldbounds
    assert group_sequential(five).boundaries == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)
    pocock = group_sequential(five, spending="pocock").boundaries
    assert pocock == pytest.approx([2.4380, 2.4268, 2.4101, 2.3966, 2.3859], abs=2e-4)


# ---- enumeration


def test_stratified_test_equals_counting_every_assignment():
    tasks = [table(2, 3, 1, 4), table(1, 2, 1, 1), table(9, 0, 3, 8)]  # 10, 5 and 20 scenes: weights 2, 4 and 1
    weights = [2, 4, 1]
    signs = [weight for weight, t in zip(weights, tasks, strict=True) for _ in range(t.first_only + t.second_only)]
    seen = sum(w * (t.first_only - t.second_only) for w, t in zip(weights, tasks, strict=True))
    sums = [abs(sum(s * w for s, w in zip(flips, signs, strict=True))) for flips in _flips(len(signs))]
    beyond, equal = np.mean(np.greater(sums, abs(seen))), np.mean(np.equal(sums, abs(seen)))
    assert mcnemar_stratified(tasks) == pytest.approx(beyond + equal)
    assert mcnemar_stratified(tasks, mid=True) == pytest.approx(beyond + equal / 2)


def _flips(count: int):
    return itertools.product((-1, 1), repeat=count)


@pytest.mark.parametrize("split", [(5, 2), (0, 0), (3, 3), (0, 7)])
def test_one_task_is_the_binomial_test(split):
    first, second = split
    pairs = table(4, first, second, 5)
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar_exact(pairs) == pytest.approx(expected)
    assert mcnemar_stratified([pairs, table(20, 0, 0, 0)]) == pytest.approx(expected)


@pytest.mark.parametrize(("split", "p"), [((1, 0), 0.5), ((1, 1), 0.75), ((2, 2), 1 - 0.375 / 2), ((0, 0), 1.0)])
def test_mid_p_by_hand(split, p):
    assert mcnemar_mid_p(table(3, *split, 2)) == pytest.approx(p)


def test_equal_numbers_of_scenes_pool_the_tasks():
    tasks = [table(10, 6, 1, 3), table(2, 5, 3, 10)]
    assert mcnemar_stratified(tasks) == pytest.approx(mcnemar_exact(table(12, 11, 4, 13)))


@pytest.mark.parametrize("n", [7, 30])
@pytest.mark.parametrize("rate", [0.03, 0.5, 0.9])
def test_clopper_pearson_covers(n, rate):
    inside = [limits(clopper_pearson(k, n)) for k in range(n + 1)]
    covered = sum(binom.pmf(k, n, rate) for k, (low, high) in enumerate(inside) if low <= rate <= high)
    assert covered >= 0.95


def test_barnard_equals_brute_force():
    for a, n_a, b, n_b in [(15, 33, 11, 14), (18, 36, 2, 9), (11, 35, 22, 34), (1, 2, 5, 5)]:
        i, j = np.arange(n_a + 1)[:, None], np.arange(n_b + 1)[None]
        pooled = (i + j) / (n_a + n_b)
        with np.errstate(all="ignore"):
            z = np.abs(np.nan_to_num((i / n_a - j / n_b) / np.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))))
        rejects = (z >= z[a, b] - 1e-9).astype(float)
        rates = np.linspace(0, 1, 4001)
        ours, theirs = binom.pmf(i, n_a, rates[None]), binom.pmf(j.T, n_b, rates[None])
        assert barnard(a, n_a, b, n_b) == pytest.approx(float((ours * (rejects @ theirs)).sum(0).max()), abs=1e-6)


def test_mcnemar_power_equals_enumeration():
    n, scene = 25, discordance(0.4, 0.25, correlation=0.2)
    for mid, test in ((False, mcnemar_exact), (True, mcnemar_mid_p)):
        power = sum(
            multinomial.pmf([b, c, n - b - c], n, [scene.better_only, scene.worse_only, 1 - scene.total])
            for b in range(n + 1)
            for c in range(n + 1 - b)
            if test(table(0, b, c, n - b - c)) <= 0.05
        )
        assert mcnemar_power(n, scene, mid=mid) == pytest.approx(power, abs=1e-9)


def test_barnard_power_equals_enumeration():
    n, one, two = 14, 0.3, 0.75
    power = sum(
        binom.pmf(a, n, one) * binom.pmf(b, n, two)
        for a in range(n + 1)
        for b in range(n + 1)
        if barnard(a, n, b, n) <= 0.05
    )
    assert barnard_power(n, one, two - one) == pytest.approx(power, abs=1e-6)


def test_equivalence_keeps_its_level_at_the_margin():
    """Exact chance of a wrong "equivalent" where the true difference is the margin."""
    n, margin = 40, 0.25
    declared = [
        (b, c)
        for b in range(16)
        for c in range(8)  # rarer tables weigh less than one in a thousand
        if equivalence_paired([table(0, b, c, n - b - c)], margin=margin).equivalent
    ]
    for worse in (0.01, 0.04):
        chances = [worse + margin, worse, 1 - margin - 2 * worse]
        wrong = sum(multinomial.pmf([b, c, n - b - c], n, chances) for b, c in declared)
        assert 0.02 <= wrong <= 0.06


def test_equivalence_is_the_interval_inside_the_margin():
    for b, c in [(3, 2), (9, 2), (0, 0), (1, 9), (5, 6)]:
        tasks = [table(30, b, c, 20), table(25, c, b, 15)]
        found = equivalence_paired(tasks, margin=0.07)
        inside = found.interval.low > -0.07 and found.interval.high < 0.07
        assert found.equivalent == inside == (found.p <= 0.05)


def test_score_z_and_interval_say_the_same():
    tasks = [table(3, 9, 4, 10), table(12, 6, 1, 3)]
    interval = paired_difference(tasks)
    counts, weights = paired_counts(tasks), equal_weights(2)
    for limit in limits(interval):
        assert abs(score_z(counts, GAINS, weights, null=limit)) == pytest.approx(1.959964, abs=1e-5)
    assert paired_z([table(5, 9, 3, 7)]) == pytest.approx(6 / math.sqrt(12))  # McNemar's classic z


# ---- sequential


def null_paths(generator, chances, studies, blocks, tasks=1):
    """Cumulative counts [studies, blocks, 3] of losses, draws and wins; chances: one row per task."""
    drawn = [generator.multinomial(1, row, size=(studies, blocks)) for row in np.atleast_2d(chances)[:tasks]]
    return np.sum(drawn, axis=0).cumsum(1)


def largest_evidence(counts, mean: float):
    studies, blocks, _ = counts.shape
    flat, levels = counts.reshape(-1, 3), np.array([0.0, 0.5, 1.0])
    against = np.full(len(flat), (1 + mean) / 2)
    evidence = np.maximum(log_capital(levels, flat, against), log_capital(1 - levels, flat, 1 - against))
    return evidence.reshape(studies, blocks).max(1)


@pytest.mark.parametrize(
    "chances",
    [
        [[0.25, 0.5, 0.25]],
        [[0.02, 0.96, 0.02]],
        [[0.5, 0.0, 0.5]],
        [[0.4, 0.5, 0.1], [0.1, 0.5, 0.4]],  # tasks that differ and cancel
        [[0.05, 0.35, 0.6], [0.3, 0.7, 0.0]],  # difference of 0.125 on average
    ],
)
def test_looking_after_every_block_stays_below_alpha(chances):
    chances = np.array(chances)
    mean = float((chances[:, 2] - chances[:, 0]).mean())
    counts = null_paths(np.random.default_rng(3), chances, 1500, 200, tasks=len(chances))
    wrong = (largest_evidence(counts, mean) >= math.log(20)).mean()
    assert wrong <= 0.05
    naive = _worst_naive_z(counts) if not mean and len(chances) == 1 else 1.0
    assert naive > 0.1  # what peeking with an ordinary test does


def _worst_naive_z(counts):
    wins, losses = counts[..., 2], counts[..., 0]
    z = np.abs(wins - losses)[:, 9:] / np.sqrt(np.maximum(wins + losses, 1))[:, 9:]
    return (z.max(1) >= 1.96).mean()


def test_anytime_test_finds_a_difference():
    counts = null_paths(np.random.default_rng(4), [[0.15, 0.55, 0.3]], 400, 600)
    assert (largest_evidence(counts, 0.0) >= math.log(20)).mean() > 0.85


def test_confidence_sequence_is_the_evidence_turned_round():
    values = np.random.default_rng(5).choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=(120, 3))
    found = confidence_sequence(values)
    assert found.estimate[-1] == pytest.approx(values.mean())
    assert ((found.low > 0) | (found.high < 0) == (np.maximum.accumulate(found.e_value) >= 20)).all()
    assert (np.diff(found.low) >= 0).all() and (np.diff(found.high) <= 0).all()
    assert found.p == pytest.approx(1 / np.maximum.accumulate(np.maximum(found.e_value, 1)))
    counts = np.array([[(values == v).sum() for v in (-1, 0, 1)]])
    tight = confidence_sequence(values[::-1].copy())  # order changes the path, not the capital at the end
    assert tight.e_value[-1] == pytest.approx(found.e_value[-1])
    levels = np.array([0.0, 0.5, 1.0])
    if found.low[-1] > found.low[:-1].max():
        assert log_capital(levels, counts, np.array([(1 + found.low[-1]) / 2])) == pytest.approx(math.log(20), abs=1e-4)


def test_confidence_sequence_mirrors_and_takes_block_means():
    values = np.random.default_rng(6).choice([-1.0, 0.0, 1.0], p=[0.2, 0.5, 0.3], size=(80, 4))
    one, two = confidence_sequence(values), confidence_sequence(-values)
    assert one.low == pytest.approx(-two.high) and one.e_value == pytest.approx(two.e_value)
    many = np.random.default_rng(7).choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=(40, 12))
    pairs, means = confidence_sequence(many), confidence_sequence(many.mean(1))
    assert pairs.estimate == pytest.approx(means.estimate)
    assert (pairs.p <= 0.05).argmax() < (means.p <= 0.05).argmax()  # pairs tell more than the means of many tasks
    assert len(confidence_sequence(np.zeros((0, 4))).p) == 0
    draws = confidence_sequence(np.zeros(50))
    assert draws.p[-1] == 1.0 and draws.low[-1] < 0 < draws.high[-1]


def test_extreme_data_stay_finite():
    won = confidence_sequence(np.ones((400, 5)))
    assert np.isfinite(won.e_value).all() and won.high[-1] == 1.0 and won.low[-1] > 0.98


def test_group_design_keeps_its_level_on_mcnemar_z():
    """z of paired successes at five looks; type I by simulation, and what five uncorrected looks would do."""
    generator = np.random.default_rng(7)
    design = group_sequential([0.2, 0.4, 0.6, 0.8, 1.0])
    counts = generator.multinomial(40, [0.2, 0.6, 0.2], size=(20_000, 5)).cumsum(1)
    z = np.abs(counts[..., 2] - counts[..., 0]) / np.sqrt(counts[..., 2] + counts[..., 0])
    assert (z >= np.array(design.boundaries)).any(1).mean() == pytest.approx(0.05, abs=0.008)
    assert (z >= 1.96).any(1).mean() > 0.12
    assert design.spent[-1] == pytest.approx(0.05)


def test_group_power_by_simulation():
    design = group_sequential([0.3, 0.7, 1.0], spending="pocock")
    steps = np.diff([0.0, *design.fractions])
    moves = np.random.default_rng(8).normal(2.5 * steps, np.sqrt(steps), size=(40_000, 3)).cumsum(1)
    beyond = np.abs(moves / np.sqrt(design.fractions)) >= np.array(design.boundaries)
    exits = exit_chances(design, drift=2.5)
    first = np.where(beyond.any(1), beyond.argmax(1), 3)
    for look in range(3):
        assert exits.upper[look] + exits.lower[look] == pytest.approx((first == look).mean(), abs=0.01)


def test_later_looks_leave_earlier_boundaries_alone():
    assert group_sequential([0.2, 0.5, 1.0]).boundaries[:2] == group_sequential([0.2, 0.5, 0.7, 0.9]).boundaries[:2]


# ---- several trainings


def trained(generator, arms, seeds, tasks, scenes, spread):
    """Outcomes [arm][seed, task, scene]: logistic in training, task and scene difficulty, scenes shared."""
    difficulty = generator.normal(0, 1, (tasks, scenes))
    return [
        generator.random((seeds, tasks, scenes))
        < 1 / (1 + np.exp(-(shift + spread * generator.normal(size=(seeds, 1, 1)) - difficulty)))
        for shift in arms
    ]


@pytest.mark.parametrize("seeds", [3, 5])
def test_satterthwaite_covers_where_pairs_alone_do_not(seeds):
    generator, hits, narrow = np.random.default_rng(9), 0, 0
    for _ in range(250):
        a, b = trained(generator, (0.3, 0.3), seeds, 3, 25, 0.5)
        found = satterthwaite_difference(a, b)
        hits += found.low <= 0 <= found.high
        pairs = [
            table(*(int(k) for k in ((x & y).sum(), (x & ~y).sum(), (~x & y).sum(), (~x & ~y).sum())))
            for x, y in zip(a.transpose(1, 0, 2).reshape(3, -1), b.transpose(1, 0, 2).reshape(3, -1), strict=True)
        ]
        alone = paired_difference(pairs)
        narrow += alone.low <= 0 <= alone.high
    assert hits / 250 >= 0.92
    assert narrow / 250 < 0.85  # taking the episodes of several trainings for independent ones


def test_bootstrap_covers_with_enough_trainings():
    generator, hits = np.random.default_rng(10), 0
    for repeat in range(150):
        a, b = trained(generator, (0.3, 0.3), 8, 3, 20, 0.5)
        found = hierarchical_difference(a, b, seed=repeat, resamples=500)
        hits += found.low <= 0 <= found.high
    assert hits / 150 >= 0.9


def test_bootstrap_of_one_training_is_about_scenes():
    generator = np.random.default_rng(11)
    a, b = generator.random((1, 4, 50)) < 0.6, generator.random((1, 4, 50)) < 0.5
    found = hierarchical_difference(a, b, seed=0)
    pairs = [
        table(int((x & y).sum()), int((x & ~y).sum()), int((~x & y).sum()), int((~x & ~y).sum()))
        for x, y in zip(a[0], b[0], strict=True)
    ]
    assert found == hierarchical_difference(a, b, seed=0)
    assert limits(found) == pytest.approx(limits(paired_difference(pairs)), abs=0.02)


def test_missing_scenes_are_left_out_for_everybody():
    generator = np.random.default_rng(12)
    a, b = (generator.random((3, 2, 30)) < 0.5).astype(float), (generator.random((2, 2, 30)) < 0.5).astype(float)
    holes = a.copy()
    holes[1, 0, 5] = np.nan
    kept = [np.delete(arm[:, 0], 5, axis=1) for arm in (a, b)]
    expected = np.mean([kept[0].mean() - kept[1].mean(), a[:, 1].mean() - b[:, 1].mean()])
    for found in (hierarchical_difference(holes, b, seed=1), satterthwaite_difference(holes, b)):
        assert found.estimate == pytest.approx(expected)


def test_seed_spread_sees_through_chance():
    generator = np.random.default_rng(13)
    equal = np.median([seed_spread(generator.random((4, 1, 40)) < 0.5).excess for _ in range(200)])
    rates = np.array([0.3, 0.5, 0.7, 0.5])[:, None, None]
    found = np.mean([seed_spread(generator.random((4, 1, 40)) < rates).excess ** 2 for _ in range(400)]) ** 0.5
    assert equal < 0.02
    assert found == pytest.approx(np.std([0.3, 0.5, 0.7, 0.5], ddof=1), rel=0.1)
    assert seed_spread(np.ones((1, 2, 3), bool)).deviation is None


# ---- many arms


def test_letters_are_shared_exactly_by_arms_that_do_not_differ():
    generator = np.random.default_rng(14)
    for _ in range(200):
        k = int(generator.integers(1, 8))
        upper = np.triu(generator.random((k, k)) < generator.random(), 1)
        significant, means = upper | upper.T, generator.random(k)
        names = [f"arm{i}" for i in range(k)]
        letters = compact_letters(names, means.tolist(), significant)
        for i, j in itertools.combinations(range(k), 2):
            share = bool(set(letters[names[i]]) & set(letters[names[j]]))
            assert share == (not significant[i, j])
        assert "a" in letters[names[int(means.argmax())]]


def test_bradley_terry_maximises_the_penalised_likelihood():
    wins = np.array([[0.0, 10, 12, 3], [5, 0, 8, 2], [3, 4, 0, 0], [0, 1, 5, 0]])
    games = wins + wins.T

    def objective(free):
        theta = np.append(free, -free.sum())
        chance = 1 / (1 + np.exp(theta[None] - theta[:, None]))
        weight = games * chance * (1 - chance)
        information = (np.diag(weight.sum(1)) - weight)[1:, 1:]
        return -(wins * np.log(chance)).sum() - np.linalg.slogdet(information)[1] / 2

    best = minimize(objective, np.zeros(3), tol=1e-10).x
    found = bradley_terry(wins)
    assert found.strength == pytest.approx([*best, -best.sum()], abs=1e-4)
    assert all(low < mid < high for low, mid, high in zip(found.low, found.strength, found.high, strict=True))


def test_an_arm_that_never_lost_has_a_finite_strength():
    strengths = bradley_terry(np.array([[0.0, 8, 8], [0, 0, 5], [0, 5, 0]])).strength
    assert strengths[0] > 1 and np.isfinite(strengths).all()
    with pytest.raises(ValueError, match="never met"):
        bradley_terry(np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]]))


# ---- published totals


@pytest.mark.parametrize(("a", "b", "n"), [(18, 11, 20), (20, 13, 20), (9, 9, 12), (30, 22, 31), (5, 1, 40)])
def test_bounds_hold_every_possible_pairing(a, b, n):
    found = what_follows(a / n, n, b / n, n, paired=True)
    possible = [
        mcnemar_exact(table(both, a - both, b - both, n - a - b + both))
        for both in range(max(0, a + b - n), min(a, b) + 1)
    ]
    assert (found.smallest_p, found.largest_p) == pytest.approx((min(possible), max(possible)))
    wanted = "inconclusive"
    if max(possible) <= 0.05:
        wanted = "provably significant"
    elif min(possible) > 0.05:
        wanted = "provably not"
    assert found.verdict == wanted


def test_published_rates_of_the_literature():
    assert what_follows(0.98, 500, 0.95, 500, paired=True).verdict == "provably significant"
    ceiling = what_follows(0.99, 500, 0.98, 500, paired=True)
    assert ceiling.verdict == "provably not" and ceiling.smallest_p == pytest.approx(0.0625)
    assert what_follows(0.85, 100, 0.78, 100).verdict == "inconclusive"
    rounded = what_follows(0.33, 6, 0.5, 6, decimals=2, paired=False)
    assert rounded.smallest_p == rounded.largest_p == pytest.approx(barnard(2, 6, 3, 6))
    wide = what_follows(0.9, 50, 0.9, 50, decimals=1, paired=True)
    assert wide.largest_p == 1.0 and wide.smallest_p < 1
    with pytest.raises(ValueError, match="nearest: 2/6"):
        what_follows(0.4, 6, 0.5, 6)


# ---- planning


def test_planned_numbers():
    """[own] normal-theory figures of the research notes: .90 against .95 needs 432, .95 against .97 needs 1503."""
    assert unpaired_episodes(0.9, 0.05, power=0.8) == pytest.approx(432, rel=0.02)
    assert unpaired_episodes(0.5, 0.1, power=0.8) == pytest.approx(388, rel=0.02)
    alone = discordance(0.8, 0.02, correlation=0.0)
    assert paired_scenes(alone, power=0.8) == pytest.approx(7.849 * alone.variance / 0.02**2, rel=0.01)


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_planned_scenes_have_the_power(correlation):
    scene = discordance(0.6, 0.15, correlation=correlation)
    n = paired_scenes(scene, power=0.8)
    assert mcnemar_power(n, scene) >= 0.8 > mcnemar_power(n - 1, scene)
    counts = np.random.default_rng(15).multinomial(n, [scene.worse_only, 1 - scene.total, scene.better_only], 3000)
    rejected = {tuple(row): mcnemar_mid_p(table(0, int(row[2]), int(row[0]), int(row[1]))) <= 0.05 for row in counts}
    assert np.mean([rejected[tuple(row)] for row in counts]) == pytest.approx(0.8, abs=0.03)


def test_stopping_designs_reach_the_power():
    scene = discordance(0.5, 0.15, correlation=0.3)
    fixed = paired_scenes(scene, power=0.8)
    anytime = anytime_scenes(scene, power=0.8, seed=0, studies=600)
    counts = null_paths(
        np.random.default_rng(16), [[scene.worse_only, 1 - scene.total, scene.better_only]], 600, anytime.most
    )
    assert (largest_evidence(counts, 0.0) >= math.log(20)).mean() == pytest.approx(0.8, abs=0.06)
    grouped = group_scenes(fixed, group_sequential([0.2, 0.4, 0.6, 0.8, 1.0]), power=0.8)
    assert grouped.expected < fixed < grouped.most < 1.1 * fixed  # O'Brien-Fleming costs little
    assert anytime.expected < anytime.most < 2.5 * fixed


def test_equivalence_plan_has_the_power():
    scene = discordance(0.8, 0.0, correlation=0.5)
    n = equivalence_scenes(scene, margin=0.08, power=0.8)
    counts = np.random.default_rng(17).multinomial(n, [scene.worse_only, 1 - scene.total, scene.better_only], 300)
    tables = [table(0, int(wins), int(losses), int(draws)) for losses, draws, wins in counts]
    shown = {found: equivalence_paired([found], margin=0.08).equivalent for found in set(tables)}
    assert np.mean([shown[found] for found in tables]) == pytest.approx(0.8, abs=0.07)
    with pytest.raises(ValueError, match="not inside the margin"):
        equivalence_scenes(discordance(0.5, 0.1, correlation=0.0), margin=0.1, power=0.8)


def test_more_episodes_do_not_replace_trainings():
    scene = discordance(0.5, 0.1, correlation=0.3)
    assert trainings_power(3, 300.0, scene, 0.05) < trainings_power(3, math.inf, scene, 0.05) < 0.6
    assert trainings_power(12, math.inf, scene, 0.05) > 0.99
    assert trainings_power(3, float(paired_scenes(scene, power=0.8)), scene, 0.0) == pytest.approx(0.8, abs=0.02)


def test_plan_study_prints_a_table_and_json(capsys):
    words = ["plan-study", "--rate", "0.5", "--difference", "0.2", "--correlation", "0.3", "--tasks", "4"]
    assert main([*words, "--margin", "0.1"]) == 0
    shown = capsys.readouterr().out
    assert "same scenes, look at any time" in shown and "equivalent within 0.1" in shown
    assert main([*words, "--seeds", "3", "--seed-deviation", "0.1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    designs = {design["name"]: design for design in found["plans"][0]["designs"]}
    fixed = designs["same scenes, fixed number"]
    needed = paired_scenes(discordance(0.5, 0.2, correlation=0.3), power=0.8)
    assert fixed["most"] == 4 * fixed["per_task"] and 0 <= fixed["most"] - needed < 4
    assert found["trainings"]["power_at_most"] < 0.8 and found["trainings"]["enough"] > 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rate", "50"], "Did you mean 0.5"),
        (["--difference", "0"], "can never be found"),
        (["--rate", "0.95"], "between -0.95 and 0.05"),
        (["--seeds", "3"], "--seed-deviation"),
        (["--correlation", "0.99"], "allow correlations from"),
        (["--power", "1.2"], "--power must lie between"),
        (["--looks", "0"], "one or more"),
    ],
)
def test_plan_study_refuses(words, says, capsys):
    assert main(["plan-study", *words]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: clopper_pearson(5, 4), "0..episodes"),
        (lambda: clopper_pearson(0, 0), "positive"),
        (lambda: barnard(3, 2, 1, 4), "0..episodes"),
        (lambda: mcnemar_stratified([]), "at least one pair"),
        (lambda: equivalence_paired([table(1, 1, 1, 1)], margin=0.0), "margin must lie"),
        (lambda: confidence_sequence(np.array([[0.0, np.nan]])), "whole blocks"),
        (lambda: confidence_sequence(np.array([2.0])), "whole blocks"),
        (lambda: group_sequential([0.5, 0.4]), "rising fractions"),
        (lambda: group_sequential([]), "rising fractions"),
        (lambda: holm([0.5, 1.5]), "lie in"),
        (lambda: satterthwaite_difference(np.ones((1, 2, 9), bool), np.ones((3, 2, 9), bool)), "two or more"),
        (lambda: hierarchical_difference(np.full((1, 1, 2), np.nan), np.ones((1, 1, 2)), seed=0), "no scene"),
        (lambda: compact_letters(["a", "b"], [0.1, 0.2], np.array([[False, True], [False, False]])), "symmetric"),
        (lambda: what_follows(0.5, 10, 0.5, 20, paired=True), "equally many"),
        (lambda: discordance(0.5, 0.6, correlation=0.0), "between 0 and 1"),
        (lambda: paired_scenes(discordance(0.5, 0.0, correlation=0.0), power=0.8), "difference of zero"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_published_totals_from_the_command_line(capsys):
    assert main(["published", "0.968:500", "0.972:500", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "provably not" and 0.4 < told["smallest_p"] < told["largest_p"] < 1
    assert main(["published", "0.90:100", "0.40:100"]) == 0
    assert "They differ" in capsys.readouterr().out
    hints = {"96.8:500": "0.965", "0.9": "RATE:EPISODES", "0.955:10": "nearest"}
    for bad, hint in hints.items():
        assert main(["published", bad, "0.8:10"]) == 2
        assert hint in capsys.readouterr().err
