"""Coverage, type-I error under peeking and power of volar.statistics, by enumeration and simulation.

`python bench/simulated_statistics.py` (about two minutes on one free core) writes docs/results/statistics/. Every
study has its own fixed seed.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy
from scipy.stats import binom, multinomial, norm

from volar.statistics.bootstrap import hierarchical_difference, satterthwaite_difference
from volar.statistics.intervals import Interval, Pairs, count_pairs, paired_difference, wilson
from volar.statistics.paired import mcnemar_exact, mcnemar_mid_p, newcombe_paired
from volar.statistics.power import anytime_scenes, discordance, group_scenes, paired_scenes
from volar.statistics.sequential import group_sequential, log_capital
from volar.statistics.single import clopper_pearson

OUT = Path(__file__).parent.parent / "docs" / "results" / "statistics"
LEVELS = np.array([0.0, 0.5, 1.0])
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555")  # Okabe & Ito


def evidence(counts: np.ndarray) -> np.ndarray:
    """Log e-value of "no difference" after counts[..., (losses, draws, wins)]."""
    flat = counts.reshape(-1, 3)
    half = np.full(len(flat), 0.5)
    found = np.maximum(log_capital(LEVELS, flat, half), log_capital(1 - LEVELS, flat, half))
    return found.reshape(counts.shape[:-1])


def plug_in(values: np.ndarray, alpha: float) -> np.ndarray:
    """The same for one bet that learns: predictable plug-in of Waudby-Smith & Ramdas (2024), eq. 26, hedged."""
    y, t = (values + 1) / 2, np.arange(1, values.shape[1] + 1)
    mean = (0.5 + y.cumsum(1)) / (t + 1)
    variance = (0.25 + ((y - mean) ** 2).cumsum(1)) / (t + 1)
    before = np.concatenate([np.full((len(y), 1), 0.25), variance[:, :-1]], axis=1)
    bet = np.minimum(np.sqrt(2 * np.log(2 / alpha) / (before * t * np.log1p(t))), 1.0)
    up, down = np.log1p(bet * (y - 0.5)).cumsum(1), np.log1p(-bet * (y - 0.5)).cumsum(1)
    return np.maximum(up, down) - math.log(2)


def draw(generator: np.random.Generator, gain: float, loss: float, studies: int, scenes: int) -> np.ndarray:
    return generator.choice([-1.0, 0.0, 1.0], p=[loss, 1 - gain - loss, gain], size=(studies, scenes))


def counted(values: np.ndarray) -> np.ndarray:
    return np.stack([(values == value).cumsum(1) for value in (-1, 0, 1)], axis=-1)


def peeking() -> dict:
    """False alarms when there is no difference, looking after each of 200 scenes from the tenth on."""
    generator, studies, most, rows = np.random.default_rng(1), 4000, 200, []
    looks = np.array([40, 80, 120, 160, 200]) - 1
    design = group_sequential([0.2, 0.4, 0.6, 0.8, 1.0])
    for discordant in (0.05, 0.1, 0.2, 0.35, 0.5, 1.0):
        counts = counted(draw(generator, discordant / 2, discordant / 2, studies, most))
        wins, losses = counts[..., 2], counts[..., 0]
        z = np.abs(wins - losses) / np.sqrt(np.maximum(wins + losses, 1))
        tables = {(int(w), int(x)) for w, x in zip(wins[:, -1], losses[:, -1], strict=True)}
        mid = {key: mcnemar_mid_p(Pairs(both=0, first_only=key[0], second_only=key[1], neither=1)) for key in tables}
        exact = {key: mcnemar_exact(Pairs(both=0, first_only=key[0], second_only=key[1], neither=1)) for key in tables}
        last = [(int(w), int(x)) for w, x in zip(wins[:, -1], losses[:, -1], strict=True)]
        rows.append({
            "discordant": discordant,
            "ordinary test, look at every scene": float((z[:, 9:] >= norm.isf(0.025)).any(1).mean()),
            "anytime-valid, look at every scene": float((evidence(counts) >= math.log(20)).any(1).mean()),
            "five planned looks": float((z[:, looks] >= np.array(design.boundaries)).any(1).mean()),
            "one look, mid-P": float(np.mean([mid[key] <= 0.05 for key in last])),
            "one look, exact": float(np.mean([exact[key] <= 0.05 for key in last])),
        })  # fmt: skip
    return {"studies": studies, "scenes": most, "alpha": 0.05, "rows": rows}


def stopping() -> dict:
    """Scenes needed for 80 % power, planned for a difference, when the true one is as planned or twice as large."""
    rows = []
    for rate, planned, correlation in ((0.5, 0.1, 0.0), (0.5, 0.1, 0.3), (0.8, 0.1, 0.3), (0.8, 0.05, 0.3)):
        scene = discordance(rate, planned, correlation=correlation)
        fixed = paired_scenes(scene, power=0.8)
        design = group_sequential([0.2, 0.4, 0.6, 0.8, 1.0])
        group = group_scenes(fixed, design, power=0.8)
        anytime = anytime_scenes(scene, power=0.8, seed=2)
        row = {"rate": rate, "planned": planned, "correlation": correlation, "one look": fixed}
        for name, difference in (("as planned", planned), ("no difference", 0.0), ("twice as large", 2 * planned)):
            if rate + difference >= 1:
                continue
            true = discordance(rate, difference, correlation=min(correlation, 0.9))
            row[name] = {
                "five planned looks": _mean_group(true, group.most, design.boundaries),
                "anytime-valid": _mean_anytime(true, anytime.most),
            }
        rows.append({**row, "five planned looks, at most": group.most, "anytime-valid, at most": anytime.most})
    return {"power": 0.8, "alpha": 0.05, "rows": rows, "bets": _mixture_against_plug_in()}


def _mean_group(scene, most: int, boundaries: Sequence[float]) -> dict[str, float]:
    generator = np.random.default_rng(3)
    sizes = np.diff([0, *np.ceil(most * np.arange(1, 6) / 5).astype(int)])
    chances = [scene.worse_only, 1 - scene.total, scene.better_only]
    steps = np.stack([generator.multinomial(size, chances, size=4000) for size in sizes], axis=1).cumsum(1)
    z = np.abs(steps[..., 2] - steps[..., 0]) / np.sqrt(np.maximum(steps[..., 2] + steps[..., 0], 1))
    beyond = z >= np.array(boundaries)
    used = np.where(beyond.any(1), sizes.cumsum()[beyond.argmax(1)], most)
    return {"rejects": float(beyond.any(1).mean()), "scenes": float(used.mean())}


def _mean_anytime(scene, most: int) -> dict[str, float]:
    values = draw(np.random.default_rng(4), scene.better_only, scene.worse_only, 500, most)
    beyond = evidence(counted(values)) >= math.log(20)
    used = np.where(beyond.any(1), beyond.argmax(1) + 1, most)
    return {"rejects": float(beyond.any(1).mean()), "scenes": float(used.mean())}


def _mixture_against_plug_in() -> list[dict]:
    generator, rows = np.random.default_rng(5), []
    for gain, loss, most in ((0.3, 0.2, 2000), (0.2, 0.1, 2000), (0.22, 0.17, 3000), (0.35, 0.1, 600)):
        values = draw(generator, gain, loss, 300, most)
        row: dict = {"only B solves": gain, "only A solves": loss, "most": most}
        for name, found in (
            ("mixture of bets", evidence(counted(values))),
            ("one learning bet", plug_in(values, 0.05)),
        ):
            beyond = found >= math.log(20)
            used = np.where(beyond.any(1), beyond.argmax(1) + 1, most)
            row[name] = {"rejects": float(beyond.any(1).mean()), "scenes": float(used.mean())}
        rows.append(row)
    return rows


def blocks() -> dict:
    """Betting on the pairs of a block against betting on the block's mean, for tasks that agree or differ."""
    generator, most, rows = np.random.default_rng(6), 300, []
    for tasks in (1, 3, 10, 30):
        for spread in (0.0, 0.2):
            shift = np.linspace(-spread, spread, tasks) if tasks > 1 else np.zeros(1)
            values = np.stack([draw(generator, 0.25 + s / 2, 0.15 - s / 2, 200, most) for s in shift * 0.7], axis=-1)
            pairs = evidence(sum(counted(values[..., task]) for task in range(tasks)))
            means = _means_evidence(values.mean(-1))
            row: dict = {"tasks": tasks, "spread of task differences": spread * 0.7}
            for name, found in (("pairs", pairs), ("block means", means)):
                beyond = found >= math.log(20)
                row[name] = float(np.where(beyond.any(1), beyond.argmax(1) + 1, most).mean())
            rows.append(row)
    return {"difference": 0.1, "discordant": 0.4, "mean blocks until decided": rows}


def _means_evidence(means: np.ndarray) -> np.ndarray:
    levels, index = np.unique(np.round((1 + means) / 2, 12), return_inverse=True)
    index = index.reshape(means.shape)
    counts = np.stack([(index == k).cumsum(1) for k in range(len(levels))], axis=-1).reshape(-1, len(levels))
    half = np.full(len(counts), 0.5)
    return np.maximum(log_capital(levels, counts, half), log_capital(1 - levels, counts, half)).reshape(means.shape)


def one_rate() -> dict:
    """Exact coverage of 95 % intervals for a rate, 50 episodes."""
    n, rows = 50, []
    tables: Mapping[str, list[Interval]] = {
        "Wilson": [wilson(k, n) for k in range(n + 1)],
        "Clopper-Pearson": [clopper_pearson(k, n) for k in range(n + 1)],
        "Wald (estimate +- 1.96 errors)": [_wald(k, n) for k in range(n + 1)],
    }
    for rate in np.round(np.arange(0.5, 0.9951, 0.005), 3):
        chances = binom.pmf(np.arange(n + 1), n, rate)
        rows.append({"rate": float(rate), **{name: _covered(found, chances, rate) for name, found in tables.items()}})
    return {"episodes": n, "rows": rows}


def _wald(k: int, n: int) -> Interval:
    rate = k / n
    reach = 1.96 * math.sqrt(rate * (1 - rate) / n)
    return Interval(estimate=rate, low=rate - reach, high=rate + reach)


def _covered(intervals: Sequence[Interval], chances: np.ndarray, truth: float) -> float:
    return float(sum(c for c, i in zip(chances, intervals, strict=True) if i.low <= truth <= i.high))


def paired_intervals() -> dict:
    """Exact coverage of 95 % intervals for a paired difference, 20 scenes, B ten points better than A."""
    n, rows = 20, []
    for rate in (0.5, 0.7, 0.85):
        for correlation in (0.0, 0.4):
            scene = discordance(rate, 0.1, correlation=correlation)
            both = rate - scene.worse_only
            tables = [
                Pairs(both=k, first_only=b, second_only=c, neither=n - b - c - k)
                for b in range(n + 1) for c in range(n + 1 - b) for k in _likely(n - b - c, both / (1 - scene.total))
                if multinomial.pmf([b, c, n - b - c], n, [scene.better_only, scene.worse_only, 1 - scene.total]) > 1e-6
            ]  # fmt: skip
            cells = [both, scene.better_only, scene.worse_only, 1 - both - scene.total]
            chances = multinomial.pmf([[t.both, t.first_only, t.second_only, t.neither] for t in tables], n, cells)
            keep = chances > 1e-7
            kept, chances = [t for t, k in zip(tables, keep, strict=True) if k], chances[keep] / chances[keep].sum()
            tango = {(t.first_only, t.second_only): paired_difference([_concordant(t)]) for t in kept}
            rows.append({
                "rate": rate, "correlation": correlation,
                "Tango": _covered([tango[t.first_only, t.second_only] for t in kept], chances, 0.1),
                "Newcombe": _covered([newcombe_paired(t) for t in kept], chances, 0.1),
                "Wald (estimate +- 1.96 errors)": _covered([_paired_wald(t) for t in kept], chances, 0.1),
            })  # fmt: skip
    return {"scenes": n, "difference": 0.1, "rows": rows}


def _concordant(pairs: Pairs) -> Pairs:
    return Pairs(both=0, first_only=pairs.first_only, second_only=pairs.second_only, neither=pairs.both + pairs.neither)


def _likely(count: int, share: float) -> range:
    reach = 4.5 * math.sqrt(count * share * (1 - share)) + 1
    return range(max(0, int(count * share - reach)), min(count, math.ceil(count * share + reach)) + 1)


def _paired_wald(pairs: Pairs) -> Interval:
    n, difference = pairs.total, (pairs.first_only - pairs.second_only) / pairs.total
    reach = 1.96 * math.sqrt(max((pairs.first_only + pairs.second_only) / n - difference**2, 0) / n)
    return Interval(estimate=difference, low=difference - reach, high=difference + reach)


def trainings() -> dict:
    """Coverage of 95 % intervals for the difference of two equally good methods, 5 tasks of 40 scenes.

    Success is logistic in scene difficulty (shared), training (own) and, when `likes`, scene by method. spread:
    standard deviation between trainings in points of success.
    """
    rows = []
    for likes in (0.0, 0.7):
        for spread in (0.0, 0.5):
            for seeds in (1, 2, 3, 5, 8):
                rows.append(_trainings(seeds, spread, likes))
    return {"studies": 300, "tasks": 5, "scenes": 40, "rows": rows}


def _trainings(seeds: int, spread: float, likes: float, studies: int = 300) -> dict:
    generator = np.random.default_rng([7, seeds, int(100 * spread), int(100 * likes)])
    methods: dict[str, Callable[[np.ndarray, np.ndarray], Interval]] = {
        "bootstrap": lambda a, b: hierarchical_difference(a, b, seed=0, resamples=400),
        "episodes taken as independent": _episodes_alone,
    }
    if seeds > 1:
        methods["Satterthwaite t"] = lambda a, b: satterthwaite_difference(a, b)
    hits, widths, rates = dict.fromkeys(methods, 0), dict.fromkeys(methods, 0.0), []
    for _ in range(studies):
        difficulty = generator.normal(0, 1, (5, 40))
        arms = []
        for _ in range(2):
            shift = spread * generator.normal(size=(seeds, 1, 1)) + likes * generator.normal(size=(5, 40))
            arms.append(generator.random((seeds, 5, 40)) < 1 / (1 + np.exp(-(0.3 + shift - difficulty))))
        for name, method in methods.items():
            found = method(*arms)
            hits[name] += found.low <= 0 <= found.high
            widths[name] += found.high - found.low
        rates.append(1 / (1 + np.exp(-(0.3 + spread * generator.normal() - difficulty))))
    between = float(np.std([rate.mean() for rate in rates]))
    return {
        "trainings": seeds, "spread": spread, "points": between if spread else 0.0, "scene by method": likes,
        "coverage": {name: hits[name] / studies for name in methods},
        "width": {name: widths[name] / studies for name in methods},
    }  # fmt: skip


def _episodes_alone(a: np.ndarray, b: np.ndarray) -> Interval:
    """Pairs of all trainings in one heap, as if they were that many scenes."""
    return paired_difference([count_pairs(a[:, task].ravel(), b[:, task].ravel()) for task in range(a.shape[1])])


def chart(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    across: str,
    up: str,
    top: float,
    bottom: float = 0.0,
) -> str:
    """Lines as SVG; percentages upward."""
    width, height, left, right, above, below = 640, 360, 56, 16, 34 + 16 * len(curves), 44
    xs = [x for points in curves.values() for x, _ in points]
    low, high = min(xs), max(xs)

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - low) / (high - low) * (width - left - right),
            above + (top - y) / (top - bottom) * (height - above - below),
        )

    parts = [f'<text x="{left}" y="20" font-size="14" font-weight="bold">{title}</text>']
    for i in range(6):
        y = bottom + (top - bottom) * i / 5
        parts.append(f'<path d="M{left} {place(low, y)[1]:.1f}H{width - right}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{place(low, y)[1] + 4:.1f}" text-anchor="end">{100 * y:.0f} %</text>')
    several = sorted(set(xs))
    for x in several if len(several) < 10 else np.arange(math.ceil(10 * low), math.floor(10 * high) + 1) / 10:
        parts.append(
            f'<text x="{place(x, bottom)[0]:.1f}" y="{height - below + 16}" text-anchor="middle">{x:.3g}</text>'
        )
    parts.append(f'<text x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">{across}</text>')
    parts.append(
        f'<text transform="translate(14 {(above + height - below) / 2}) rotate(-90)" text-anchor="middle">{up}</text>'
    )
    for index, (name, points) in enumerate(curves.items()):
        colour, dash = COLOURS[index], ("", "6 3", "2 3", "8 3 2 3", "12 4")[index]
        path = " ".join(
            f"{place(x, min(max(y, bottom), top))[0]:.1f},{place(x, min(max(y, bottom), top))[1]:.1f}"
            for x, y in points
        )
        stroke = f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}" fill="none"'
        parts.append(f'<polyline points="{path}" {stroke}/>')
        y = 38 + 16 * index
        parts.append(f'<line x1="{left}" x2="{left + 34}" y1="{y - 4}" y2="{y - 4}" {stroke}/>')
        parts.append(f'<text x="{left + 42}" y="{y}">{name}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    back = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    return "\n".join([f'{head} font-family="sans-serif" font-size="12">', back, *parts, "</svg>"]) + "\n"


def curves(rows: Sequence[Mapping], key: str, names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    return {name: [(row[key], row[name]) for row in rows] for name in names}


def figures(found: Mapping) -> dict[str, str]:
    rows = found["peeking"]["rows"]
    drawn = {"peeking": chart(
        curves(rows, "discordant", [name for name in rows[0] if name != "discordant"]), top=0.5,
        title="False alarms without a difference, alpha 5 %", across="share of scenes that one arm solves alone",
        up="studies with a false alarm",
    )}  # fmt: skip
    rows = found["one_rate"]["rows"]
    drawn["one_rate"] = chart(
        curves(rows, "rate", [name for name in rows[0] if name != "rate"]), top=1.0, bottom=0.75,
        title="Coverage of 95 % intervals, 50 episodes", across="true success rate", up="contain the truth",
    )  # fmt: skip
    rows = [row for row in found["trainings"]["rows"] if row["spread"] == 0.5 and not row["scene by method"]]
    by_method = {
        name: [(row["trainings"], row["coverage"][name]) for row in rows if name in row["coverage"]]
        for name in ("episodes taken as independent", "bootstrap", "Satterthwaite t")
    }
    points = 100 * np.mean([row["points"] for row in rows])
    drawn["trainings"] = chart(
        by_method,
        title=f"Coverage of 95 % intervals, trainings differ by {points:.0f} points",
        across="trainings of each method", up="contain the truth", top=1.0, bottom=0.25,
    )  # fmt: skip
    return drawn


def main() -> None:
    studies = {"peeking": peeking, "stopping": stopping, "blocks": blocks, "one_rate": one_rate,
               "paired_intervals": paired_intervals, "trainings": trainings}  # fmt: skip
    chosen = sys.argv[1:] or list(studies)
    path = OUT / "simulations.json"
    OUT.mkdir(parents=True, exist_ok=True)
    found = json.loads(path.read_text()) if path.exists() else {}
    found["versions"] = {"numpy": np.__version__, "scipy": scipy.__version__}
    for name in chosen:
        found[name] = studies[name]()
        path.write_text(json.dumps(_rounded(found), indent=1) + "\n")
        print(name, "done", file=sys.stderr)
    for name, drawing in figures(found).items() if set(studies) <= set(found) else ():
        (OUT / f"{name}.svg").write_text(drawing)


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
