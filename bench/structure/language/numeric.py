"""Claims L2, L4 and L6 as far as they are mathematics: authority by path fraction, stability, invariances.

python bench/structure/language/numeric.py > docs/results/structure/language/numeric.json

Lengths in metres, accelerations in metres per second squared for a motion of 4 seconds, raw weights as published.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64
from weights import DELAYS, EDGE, beside, free_and_bends, widest

from volar.core.errors import ConfigError
from volar.core.fingerprint import fingerprint
from volar.nn.primitives.constrained import Box, Clearance, constrained_weights
from volar.nn.primitives.discrete import Discrete, discrete_response
from volar.nn.primitives.online import Avoidance, avoidance, steered
from volar.nn.primitives.response import STEPS, Parameters, Response, Spring, fitted, motion, rows_at
from volar.reasoning.language.raw_weights import ARM, COUNT, LARGEST, ROW_GAIN, arm_response

DRAWS, SECONDS = 5000, 4.0
OURS = discrete_response(Discrete())
BOX = Box(low=np.array([-0.25, -0.25, 0.012]), high=np.array([0.25, 0.25, 0.25]))
START, GOAL = np.array([-0.21, 0.0, 0.02]), np.array([0.21, 0.0, 0.02])
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9)


def authority() -> list[dict[str, float]]:
    """How far aside each interface gets at a fraction of a way of 42 cm, on a table 50 cm wide."""
    _, free, bends = free_and_bends()
    found = []
    for fraction in FRACTIONS:
        moment = int(np.searchsorted(free[:, 2], fraction))
        found.append({
            "fraction": fraction, "raw_index_at_its_strongest": int(np.argmax(bends[moment])),
            "raw_sideways_only": round(float(LARGEST * np.abs(bends[moment]).sum()), 3),
            "raw_and_held_back": round(_held_back(free, bends, fraction), 3),
            "vias": round(_grantable(fraction), 3),
        })  # fmt: skip
    return found


def _held_back(free: np.ndarray, bends: np.ndarray, fraction: float) -> float:
    """The most that weights in range give when the main axis may be delayed, all the while that an obstacle of 9 cm
    along the way is beside; ends within a centimetre, stays on the table."""
    best = 0.0
    for strength in DELAYS:
        for count in (1, 2, 3, 4) if strength else (1,):
            main = np.zeros(COUNT)
            main[:count] = -strength
            along = free[:, 0] * START[0] + free[:, 2] * GOAL[0] + bends @ main
            share = (np.clip(along, -EDGE, EDGE) - START[0]) / (GOAL[0] - START[0])
            inside = beside(share, fraction, 0.045 / 0.42)
            if abs(along[-1] - GOAL[0]) > 0.01 or not inside.any():
                continue
            solved = widest(bends, inside, 1.0, 0.0, 0.0, free)
            best = max(best, 0.0 if solved is None else float(solved[-1]))
    return best


def _grantable(fraction: float) -> float:
    """The largest clearance that the solver grants all the while that an obstacle of 9 cm is beside."""
    shares = dict.fromkeys(float(np.clip(fraction + step * 0.045 / 0.42, 0.05, 0.95)) for step in (-1, 0, 1))
    for metres in np.arange(0.2, 0.0, -0.005):
        try:
            constrained_weights(OURS, START, GOAL, [Clearance(at=at, axis=1, metres=metres) for at in shares], BOX)
        except ConfigError:
            continue
        return float(metres)
    return 0.0


def summary(values: Float64[np.ndarray, " n"]) -> dict[str, float]:
    return {name: round(float(np.quantile(values, share)), 4) for name, share in
            (("median", 0.5), ("p95", 0.95), ("largest", 1.0))}  # fmt: skip


def random_weights(random: np.random.Generator, first: int, last: int) -> dict[str, object]:
    """Uniform raw weights at these indices, one axis, to goals 10 to 40 cm away."""
    s = np.linspace(0, 2, 2001)
    rows = rows_at(arm_response(), s)
    weights = np.zeros((DRAWS, COUNT))
    weights[:, first:last] = random.uniform(-LARGEST, LARGEST, (DRAWS, last - first))
    goals = random.uniform(0.1, 0.4, DRAWS)
    values = np.concatenate([np.zeros((DRAWS, 2)), goals[:, None], ROW_GAIN * weights], axis=1).T
    path, speed = rows.position @ values, rows.speed @ values
    pushes = np.diff(speed, axis=0) / (s[1] - s[0]) / SECONDS**2
    return {
        "indices": [first, last - 1],
        "end_error": summary(np.abs(path[1000] - goals)), "end_error_at_1.5": summary(np.abs(path[1500] - goals)),
        "overshoot": summary((path - goals).max(axis=0).clip(0)), "backwards": summary((-path).max(axis=0)),
        "acceleration": summary(np.abs(pushes).max(axis=0)),
        "acceleration_without_weights": summary(goals * 10.4**2 / SECONDS**2),
    }  # fmt: skip


def random_requests(random: np.random.Generator, draws: int = 400) -> dict[str, object]:
    """One to three clearances anywhere, in their allowed range: refused, or granted and how well it ends."""
    s = np.linspace(0, 2, 2001)
    rows, refused, found = rows_at(OURS, s), 0, []
    for _ in range(draws):
        start, goal = (random.uniform(BOX.low + 0.03, BOX.high - 0.03) for _ in range(2))
        wishes = [
            Clearance(at=float(random.uniform(0.05, 0.95)), axis=int(random.integers(3)),
                      metres=float(random.uniform(-0.2, 0.2)))
            for _ in range(random.integers(1, 4))
        ]  # fmt: skip
        try:
            weights = constrained_weights(OURS, start, goal, wishes, BOX)
        except ConfigError:
            refused += 1
            continue
        values = np.concatenate([np.stack([start, np.zeros(3), goal], axis=1), weights], axis=1).T
        path, speed = rows.position @ values, rows.speed @ values
        outside = np.maximum(BOX.low - path, path - BOX.high).max()
        pushes = np.linalg.norm(np.diff(speed, axis=0) / (s[1] - s[0]), axis=1).max() / SECONDS**2
        fastest = np.linalg.norm(speed, axis=1).max()
        found.append([np.linalg.norm(path[1000] - goal), np.linalg.norm(path[1500] - goal), max(outside, 0), pushes,
                      fastest / 0.2])  # fmt: skip
    names = ("end_error", "end_error_at_1.5", "outside_the_box", "acceleration", "seconds_at_20_cm_per_second")
    columns = zip(names, np.array(found).T, strict=True)
    return {"draws": draws, "refused": refused, **{name: summary(column) for name, column in columns}}


def goal_jumps(random: np.random.Generator) -> dict[str, object]:
    """The goal jumps by 5 to 20 cm at 10 to 90 % of the time: peak acceleration, published spring and ours, the goal
    followed at once or low-passed."""
    size, when = random.uniform(0.05, 0.2, DRAWS), random.uniform(0.1, 0.9, DRAWS)
    way, sign = random.uniform(0.1, 0.4, DRAWS), random.choice((-1.0, 1.0), DRAWS)
    found: dict[str, object] = {}
    for name, spring, response in (("published", ARM, arm_response()), ("ours", Spring(), OURS)):
        for rate in (None, spring.alpha / 2):
            peaks, ends, over = _jumped(spring, response, way, sign * size, when, rate)
            key = f"{name}, {'at once' if rate is None else 'low-passed'}"
            found[key] = {"acceleration": summary(peaks), "end_error": summary(ends), "overshoot": summary(over)}
    return {"acceleration_without_jump": summary(way * 12.5**2 / SECONDS**2), **found}


def _jumped(
    spring: Spring, response: Response, way: np.ndarray, jump: np.ndarray, when: np.ndarray, rate: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    s = np.arange(2 * STEPS + 1) / STEPS
    rows = rows_at(response, s)
    plain = np.stack([rows.position[:, 2], rows.speed[:, 2]], axis=-1)[:, None] * way[:, None]
    stiff = spring.alpha * spring.beta
    system = torch.tensor([[0.0, 1.0], [-stiff, -spring.alpha]], dtype=torch.float64)
    over = torch.linalg.matrix_exp(system / STEPS).numpy()
    gain = np.linalg.solve(system.numpy(), over - np.eye(2))[:, 1] * stiff
    added, moved, peaks = np.zeros((len(way), 2)), np.zeros(len(way)), np.zeros(len(way))
    highest = np.zeros(len(way))
    for now, state in zip(s, plain, strict=True):
        wanted = np.where(now >= when, jump, 0.0)
        moved = wanted if rate is None else wanted + (moved - wanted) * math.exp(-rate / STEPS)
        position, speed = (state + added).T
        pull = stiff * (way + moved - position) - spring.alpha * speed
        peaks = np.maximum(peaks, np.where(now >= when, np.abs(pull), 0.0))
        highest = np.maximum(highest, np.where(now >= when, np.sign(jump) * (position - way - jump), 0.0))
        added = added @ over.T + moved[:, None] * gain
    return peaks / SECONDS**2, np.abs((plain[-1] + added)[:, 0] - way - jump), highest


def couplings(random: np.random.Generator, draws: int = 200) -> dict[str, object]:
    """A thing up to 4 cm beside a straight way of 40 cm, at 15 to 85 % of it: how near the motion comes to it."""
    things = np.column_stack([random.uniform(0.06, 0.34, draws), random.uniform(-0.04, 0.04, (draws, 2))])
    start = torch.zeros(draws, 3, dtype=torch.float64)
    given = Parameters(
        start=start, speed=start, goal=torch.tensor([[0.4, 0, 0]]).double().expand(draws, 3),
        weights=torch.zeros(draws, 3, 10).double(), duration=torch.full((draws,), SECONDS).double(),
    )  # fmt: skip
    places = torch.tensor(things)[:, None]
    arms: dict[str, Callable] = {
        "none": lambda y, v: 0 * y,
        "published": lambda y, v: avoidance(y, v, places, Avoidance(within=1e9, limit=1e9)),
        "gated and limited": lambda y, v: avoidance(y, v, places, Avoidance()),
    }
    found: dict[str, object] = {}
    for name, push in arms.items():
        moved = steered(OURS, Spring(), given, push)
        near = (moved.position - places).norm(dim=-1).min(dim=1).values
        pushes = moved.velocity.diff(dim=1).norm(dim=-1).max(dim=1).values * STEPS / SECONDS
        end = (moved.position[:, -1] - given.goal).norm(dim=-1)
        found[name] = {
            "nearest": {"smallest": round(float(near.min()), 4), "median": round(float(near.median()), 4)},
            "touches_a_ball_of_3_cm": round(float((near < 0.03).double().mean()), 3),
            "acceleration": summary(pushes.numpy()), "end_error": summary(end.numpy()),
        }  # fmt: skip
    return found


def invariances(random: np.random.Generator) -> dict[str, object]:
    """Largest deviations over 1,000 random motions of 3 axes; 0 is exact."""
    found: dict[str, object] = {}
    s = torch.linspace(0, 2, 201, dtype=torch.float64)
    for name, response, size in (("ours", OURS, 50.0), ("published", arm_response(), 18.0)):
        count = response.position.shape[1] - 3
        start, goal, shift = (torch.tensor(random.uniform(-0.3, 0.3, (1000, 3))) for _ in range(3))
        given = Parameters(
            start=start, speed=torch.zeros_like(start), goal=goal, weights=size * torch.randn(1000, 3, count).double(),
            duration=torch.tensor(random.uniform(0.5, 8.0, 1000)),
        )  # fmt: skip

        def path(one: Parameters, response: Response = response) -> torch.Tensor:
            return motion(response, one, s * one.duration[:, None]).position

        plain = path(given)
        bare = path(replace(given, weights=torch.zeros_like(given.weights)))
        moved = replace(given, goal=given.goal + shift)
        shape = path(moved) - path(replace(moved, weights=torch.zeros_like(given.weights)))
        double = path(replace(given, weights=2 * given.weights))
        found[name] = {
            "three_times_slower": float((path(replace(given, duration=3 * given.duration)) - plain).abs().max()),
            "start_and_goal_moved": float(
                (path(replace(given, start=start + shift, goal=goal + shift)) - plain - shift[:, None]).abs().max()
            ),
            "goal_moved_bend_kept": float((shape - (plain - bare)).abs().max()),
            "twice_the_weights": float(((double - bare) - 2 * (plain - bare)).abs().max()),
            "largest_bend": float((plain - bare).abs().max()),
        }
    return found


def scale_hazard() -> dict[str, float]:
    """A demonstration that ends 5 cm from its start with a bump of 17 cm; its goal is moved by 20 cm. Un-scaled, and
    with the force scaled by the distance to the goal (Ijspeert et al. 2013)."""
    times = torch.linspace(0, 1, 201, dtype=torch.float64)
    shown = 0.05 * times**2 * (3 - 2 * times) + 0.15 * torch.sin(math.pi * times) ** 2
    found = fitted(OURS, shown[None, :, None], times)
    moved = replace(found, goal=found.goal + 0.2)
    scaled = replace(moved, weights=moved.weights * (moved.goal - moved.start)[..., None] / 0.05)
    unscaled, stretched = (float(motion(OURS, each, times).position.max()) for each in (moved, scaled))
    return {"shown": float(shown.max()), "unscaled": round(unscaled, 3), "scaled": round(stretched, 3)}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    record = {
        "authority": authority(),
        "random_raw_weights": [random_weights(random, *ends) for ends in ((0, 11), (0, 4), (4, 7), (7, 11))],
        "random_requests": random_requests(random), "goal_jumps": goal_jumps(random), "couplings": couplings(random),
        "invariances": invariances(random), "scale_hazard": scale_hazard(),
        "about": {"draws": DRAWS, "seconds": SECONDS, "fingerprint": fingerprint()},
    }  # fmt: skip
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
