"""How many episodes a comparison needs, before any is run: exact power on the same and on different scenes,
equivalence, stopping designs, and the part that more episodes cannot help (spread between trainings).

Everything is for two-sided tests. What `volar plan-study` prints.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import root_scalar
from scipy.stats import binom, nct, norm
from scipy.stats import t as student

from volar.statistics.sequential import GroupDesign, exit_chances, log_capital
from volar.statistics.unpaired import sample_space

LARGEST = 2_000_000  # episodes; whoever needs more needs another question
SPREAD = 8.5  # standard deviations of a binomial beyond which nothing is summed
EXACT_UP_TO = 2_500  # episodes per arm on different scenes
NUISANCE_RATES = 60  # common rates among which the worst is sought
TEETH = 12  # further numbers of episodes that must have the power too
BATCH = 100  # simulated studies at once
STEPS = 400  # peeks of a simulated anytime-valid test


@dataclass(frozen=True, kw_only=True)
class Discordance:
    """Chances that only the better and only the worse arm solves a scene."""

    better_only: float
    worse_only: float

    @property
    def total(self) -> float:
        return self.better_only + self.worse_only

    @property
    def difference(self) -> float:
        return self.better_only - self.worse_only

    @property
    def variance(self) -> float:
        """Of the difference on one scene."""
        return self.total - self.difference**2


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """most: scenes at which one gives up; expected: mean number used; both reach the power asked for, `power`."""

    most: int
    expected: float
    power: float


def discordance(rate: float, difference: float, *, correlation: float) -> Discordance:
    """rate: success of one arm; rate + difference: of the other; correlation: of their outcomes on a scene (phi).

    0: independent; higher: scenes hard for one are hard for the other, and fewer are needed. ValueError for rates
    outside (0, 1) or a correlation that two such rates cannot have.
    """
    other = rate + difference
    if not (0 < rate < 1 and 0 < other < 1):
        raise ValueError(f"Both success rates must lie between 0 and 1, got {rate:g} and {other:g}.")
    both = rate * other + correlation * math.sqrt(rate * (1 - rate) * other * (1 - other))
    low, high = max(0.0, rate + other - 1), min(rate, other)
    if not low - 1e-12 <= both <= high + 1e-12:
        spread = math.sqrt(rate * (1 - rate) * other * (1 - other))
        raise ValueError(
            f"Success rates {rate:g} and {other:g} allow correlations from {(low - rate * other) / spread:.3f} to "
            f"{(high - rate * other) / spread:.3f}, got {correlation:g}."
        )
    worse, better = sorted((max(rate - both, 0.0), max(other - both, 0.0)))
    return Discordance(better_only=better, worse_only=worse)


def mcnemar_power(scenes: int, scene: Discordance, *, alpha: float = 0.05, mid: bool = True) -> float:
    """Chance that McNemar's test (mid-P by default, else exact) rejects after so many scenes, exactly."""
    centre, reach = scenes * scene.total, SPREAD * math.sqrt(scenes * scene.total * (1 - scene.total)) + 1
    discordant = np.arange(max(0, math.floor(centre - reach)), min(scenes, math.ceil(centre + reach)) + 1)
    last = binom.ppf(alpha / 2, discordant, 0.5)  # the smallest count whose lower tail holds alpha / 2
    tails = binom.cdf(last, discordant, 0.5) + binom.cdf(last - mid, discordant, 0.5)
    last = np.where(tails <= alpha, last, last - 1)
    share = scene.better_only / scene.total if scene.total else 0.5
    rejects = binom.cdf(last, discordant, share) + binom.sf(discordant - last - 1, discordant, share)
    return float(binom.pmf(discordant, scenes, scene.total) @ np.where(2 * last >= discordant, 0.0, rejects))


def barnard_power(episodes: int, rate: float, difference: float, *, alpha: float = 0.05) -> float:
    """Chance that Barnard's test rejects after so many episodes of each arm on different scenes, exactly."""
    equal = np.sin(np.linspace(0, np.pi / 4, NUISANCE_RATES)) ** 2  # equal arms: symmetric around one half
    null = sample_space(episodes, episodes, equal, equal)
    low, high = 0.5, 10.0  # the chance falls in steps: the smallest z whose chance is at most alpha
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if null.beyond(middle).max() > alpha else (low, middle)
    return float(sample_space(episodes, episodes, np.array([rate]), np.array([rate + difference])).beyond(high)[0])


def paired_scenes(scene: Discordance, *, power: float, alpha: float = 0.05, mid: bool = True) -> int:
    """The smallest number of scenes from which on McNemar's test keeps the power asked for."""
    z = norm.isf(alpha / 2) + norm.ppf(power)
    guess = max(2, round(float(z**2) * scene.variance / scene.difference**2)) if scene.difference else LARGEST + 1
    return _smallest(lambda n: mcnemar_power(n, scene, alpha=alpha, mid=mid), guess, power)


def unpaired_episodes(rate: float, difference: float, *, power: float, alpha: float = 0.05) -> int:
    """The smallest number of episodes of each arm, on different scenes, with which Barnard's test has the power.

    Above EXACT_UP_TO the pooled z-test's formula, which agrees there to a few in a thousand.
    """
    independent = discordance(rate, difference, correlation=0.0)
    pooled = rate + difference / 2
    spread = norm.isf(alpha / 2) * math.sqrt(2 * pooled * (1 - pooled))
    spread += norm.ppf(power) * math.sqrt(independent.variance)
    guess = max(2, math.ceil((spread / difference) ** 2)) if difference else LARGEST + 1
    if EXACT_UP_TO < guess <= LARGEST:
        return guess
    return _smallest(lambda n: barnard_power(n, rate, difference, alpha=alpha), guess, power)


def equivalence_scenes(scene: Discordance, *, margin: float, power: float, alpha: float = 0.05) -> int:
    """Scenes after which two one-sided tests at alpha show a difference inside +-margin, when the true difference is
    that of `scene`. Normal approximation. ValueError when the true difference is not inside the margin."""
    room = margin - scene.difference
    if room < 1e-9:
        raise ValueError(f"A true difference of {scene.difference:g} is not inside the margin of {margin:g}.")

    def shortfall(n: float) -> float:
        error = math.sqrt(scene.variance / n)
        limit = norm.isf(alpha)
        return float(norm.cdf(room / error - limit) - norm.sf((margin + scene.difference) / error - limit)) - power

    if shortfall(float(LARGEST)) < 0:
        raise ValueError(f"A margin of {margin:g} around {scene.difference:g} needs more than {LARGEST:,} scenes.")
    return math.ceil(root_scalar(shortfall, bracket=(1e-6, LARGEST), method="brentq").root)


def group_scenes(fixed: int, design: GroupDesign, *, power: float, alpha: float = 0.05) -> Stopping:
    """What a group-sequential design needs, from the number that a single look would need."""

    def stopped(drift: float) -> float:
        exits = exit_chances(design, drift=drift)
        return sum(exits.upper) + sum(exits.lower)

    drift = root_scalar(lambda drift: stopped(drift) - power, bracket=(0.0, 20.0), method="brentq").root
    most = fixed * (drift / float(norm.isf(alpha / 2) + norm.ppf(power))) ** 2
    exits = exit_chances(design, drift=drift)
    chances = np.add(exits.upper, exits.lower)
    used = float(chances @ design.fractions + (1 - chances.sum()) * design.fractions[-1])
    return Stopping(most=math.ceil(most), expected=most * used, power=power)


def anytime_scenes(
    scene: Discordance, *, power: float, alpha: float = 0.05, seed: int, studies: int = 2000
) -> Stopping:
    """What the anytime-valid betting test needs, by simulating studies of independent scenes with STEPS peeks each."""
    generator = np.random.default_rng(seed)
    z = norm.isf(alpha / 2) + norm.ppf(power)
    horizon = 3.0 * z**2 * scene.variance / scene.difference**2
    for _ in range(8):
        every = max(1, math.ceil(horizon / STEPS))
        ends = _stopping_times(generator, scene, every, alpha, studies)
        if np.isfinite(ends).mean() >= power:
            most = float(np.quantile(ends, power, method="higher"))
            return Stopping(most=int(most), expected=float(np.minimum(ends, most).mean()), power=power)
        horizon *= 2
    raise ValueError(f"A difference of {scene.difference:g} is too small to plan for.")


def trainings_power(
    trainings: int, pairs: float, scene: Discordance, deviation: float, *, alpha: float = 0.05
) -> float:
    """Power for "the methods differ" with so many trainings of each, whose true success rates have this standard
    deviation, and `pairs` paired episodes in all (math.inf: only the spread between trainings counts).

    t-test with Satterthwaite's degrees of freedom; needs two trainings or more.
    """
    between, within = 2 * deviation**2 / trainings, scene.variance / pairs
    variance = between + within
    spread = between**2 / (2 * trainings - 2) + (within**2 / (pairs - 1) if math.isfinite(pairs) else 0.0)
    freedom = min(variance**2 / spread, 1e6) if spread else 1e6
    limit, shift = student.isf(alpha / 2, freedom), scene.difference / math.sqrt(variance)
    return float(nct.sf(limit, freedom, shift) + nct.cdf(-limit, freedom, shift))


def _smallest(chance: Callable[[int], float], guess: int, power: float) -> int:
    """Exact power rises in a saw-tooth: bisect around the guess, then step over the teeth nearby."""
    if guess > LARGEST:
        raise ValueError("No number of episodes finds a difference of zero; ask for one that would matter.")
    low, high = int(0.9 * guess), math.ceil(1.05 * guess) + 1
    while low > 1 and chance(low) >= power:
        low = low // 2
    while chance(high) < power:
        low, high = high, math.ceil(1.2 * high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if chance(middle) < power else (low, middle)
    short = [n for n in range(high, high + TEETH) if chance(n) < power]
    return short[-1] + 1 if short else high


def _stopping_times(
    generator: np.random.Generator, scene: Discordance, every: int, alpha: float, studies: int
) -> Float[np.ndarray, " studies"]:
    """Scenes used until zero was excluded, looking after every `every` scenes; infinite when it never was."""
    chances = [scene.worse_only, 1 - scene.total, scene.better_only]
    levels, ends = np.array([0.0, 0.5, 1.0]), np.full(studies, np.inf)
    for start in range(0, studies, BATCH):
        batch = min(BATCH, studies - start)
        counts = generator.multinomial(every, chances, size=(batch, STEPS)).cumsum(1).reshape(-1, 3)
        half = np.full(len(counts), 0.5)
        evidence = np.maximum(log_capital(levels, counts, half), log_capital(1 - levels, counts, half))
        won = (evidence >= -math.log(alpha)).reshape(batch, STEPS)
        stopped = every * (won.argmax(1) + 1.0)
        ends[start : start + batch] = np.where(won.any(1), stopped, np.inf)
    return ends
