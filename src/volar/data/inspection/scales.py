"""Numbers that are not in the unit, range or scale they should be in, and those that never change."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from volar.data.findings import Finding, note, warning
from volar.data.inspection.outliers import deviations
from volar.data.inspection.subject import Subject, Vector

DEGREES: Final = 180 / np.pi
FACTORS: Final = {
    "degrees and radians": DEGREES, "millimetres and metres": 1000.0, "centimetres and metres": 100.0,
    "bytes and fractions": 255.0,
}  # fmt: skip
FEW_EPISODES: Final = 4  # below which no episode can stand out
ANOTHER_SCALE: Final = 8.0  # times larger than in most episodes
MANY_DEVIATIONS: Final = 8.0  # robust standard deviations of log size; a normal distribution has none in 10**15
MOST: Final = 0.75  # share of the episodes that must agree on a scale
SPIKE: Final = 20.0  # times what 99 of 100 steps do


def constant_dimensions(subject: Subject) -> Iterator[Finding]:
    for vector in subject.vectors.values():
        constant = np.flatnonzero(~vector.varies)
        if not len(constant):
            continue
        seen = f"{len(constant)} of {len(vector.names)} dimensions never change: {_listed(vector, constant)}"
        if len(constant) == len(vector.names) and vector in (subject.state, subject.action):
            yield warning("constant-feature", seen, "Nothing can be learnt from it; was it recorded?",
                          feature=vector.feature)  # fmt: skip
        else:
            yield note("constant-dimension", seen, "Normalisation maps it to 0; drop it if it means nothing.",
                       feature=vector.feature)  # fmt: skip


def declared_limits(subject: Subject) -> Iterator[Finding]:
    """Actions outside what the data set's own RobotSpec says the controller accepts."""
    spec, action = subject.dataset.spec, subject.action
    if spec is None or action is None:
        return
    low, high = np.array(spec.action.low), np.array(spec.action.high)
    slack = 1e-4 * (high - low)
    outside = (action.values < low - slack) | (action.values > high + slack)
    wrong = np.flatnonzero(outside.any(0))
    if len(wrong):
        worst = int(wrong[outside[:, wrong].mean(0).argmax()])
        share, extreme = outside[:, worst].mean(), action.values[np.abs(action.values[:, worst]).argmax(), worst]
        yield warning(
            "outside-limits",
            f"{_listed(action, wrong)} leave the declared limits; {action.names[worst]} in {share:.1%} of the frames, "
            f"as far as {extreme:.4g} where {low[worst]:g} to {high[worst]:g} is allowed",
            "Clip the actions, or correct the limits of the RobotSpec.",
            feature=action.feature,
        )  # fmt: skip


def declared_units(subject: Subject) -> Iterator[Finding]:
    """Sizes that the declared unit of an action makes implausible."""
    spec, action = subject.dataset.spec, subject.action
    if spec is None or action is None:
        return
    sizes = np.quantile(np.abs(action.values), 0.999, axis=0)
    implausible = {
        "rad": (lambda size: size > 4 * np.pi, "degrees"), "deg": (lambda size: 0 < size < 2 * np.pi, "radians"),
        "m": (lambda size: size > 20, "millimetres"), "mm": (lambda size: 0 < size < 2, "metres"),
    }  # fmt: skip
    for unit, (wrong, meant) in implausible.items():
        found = [d for d, name in enumerate(spec.action.units) if name == unit and wrong(sizes[d])]
        if found:
            yield warning(
                "implausible-unit",
                f"{_listed(action, found)} are declared in {unit} and reach {sizes[found].max():.4g}; {meant}?",
                "Correct the unit in the RobotSpec, or convert the numbers.", feature=action.feature,
            )  # fmt: skip


def state_against_action(subject: Subject) -> Iterator[Finding]:
    """Dimensions of one name that move together in state and action, but on another scale: two units of one thing."""
    state, action = subject.state, subject.action
    if state is None or action is None:
        return
    found: dict[str, list[str]] = {}
    for name in sorted(set(state.names) & set(action.names)):
        x, y = state.values[:, state.names.index(name)], action.values[:, action.names.index(name)]
        if np.ptp(x) == 0 or np.ptp(y) == 0 or abs(np.corrcoef(x, y)[0, 1]) < 0.9:
            continue
        if unit := _named_factor(x.std() / y.std(), tolerance=0.2):
            larger = "state" if x.std() > y.std() else "action"
            found.setdefault(f"{FACTORS[unit]:.4g} times as far in the {larger} as in the other: {unit}", []).append(
                name
            )
    for said, names in found.items():
        yield warning(
            "units-differ", f"{', '.join(names)} move {said}?", "Convert one of the two.", feature=action.feature
        )


def episode_on_another_scale(subject: Subject) -> Iterator[Finding]:
    """An episode whose numbers are many times larger or smaller than those of nearly all others."""
    if len(subject.dataset.episodes) < FEW_EPISODES:
        return
    for vector in (subject.state, subject.action):
        if vector is None or not vector.varies.any():
            continue
        dims = np.flatnonzero(vector.varies)
        sizes = np.stack([np.sqrt((rows[:, dims] ** 2).mean(0)) for rows in subject.episodes(vector.values)])
        # What rests at zero in many episodes (an object that is not there) has no scale to compare with.
        comparable = (sizes > 1e-6 * sizes.max(0)).mean(0) > MOST
        dims, sizes = dims[comparable], sizes[:, comparable]
        logs = np.log(np.maximum(sizes, 1e-300))
        away = np.stack([deviations(column, floor=0.15) for column in logs.T], axis=1)
        ratios = np.exp(logs - np.median(logs, axis=0))
        larger = (away > MANY_DEVIATIONS) & (ratios > ANOTHER_SCALE)
        smaller = (away < -MANY_DEVIATIONS) & (ratios < 1 / ANOTHER_SCALE) & (sizes > 0)
        # A joint that rests near zero is small by itself; a change of unit makes most of them small at once.
        smaller &= (smaller.mean(1) > 0.5)[:, None]
        outlying = larger | smaller
        outlying &= outlying.mean(0) < 1 - MOST
        for episode in np.flatnonzero(outlying.any(1)):
            odd = np.flatnonzero(outlying[episode])
            ratio = float(np.median(ratios[episode, odd]))
            unit = _named_factor(ratio, tolerance=0.5)
            yield warning(
                "another-scale",
                f"{_listed(vector, dims[odd])}: {ratio:.3g} times as large as in the median episode"
                + (f"; {unit}?" if unit else ""),
                "Convert the numbers of this episode, or leave it out.",
                feature=vector.feature, episode=int(episode),
            )  # fmt: skip


def spikes(subject: Subject) -> Iterator[Finding]:
    """Single frames that jump away and back, as a lost sensor reading does."""
    for vector in (subject.state, subject.action):
        if vector is None:
            continue
        found: dict[int, list[tuple[int, int]]] = {}
        thresholds = _spike_thresholds(subject, vector)
        for episode, rows in enumerate(subject.episodes(vector.values)):
            if len(rows) < 3:
                continue
            jump = np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2)
            back = np.abs(rows[2:] - rows[:-2])
            for frame, d in np.argwhere((jump > thresholds) & (back < 0.2 * jump)):
                found.setdefault(episode, []).append((int(frame) + 1, int(d)))
        for episode, places in found.items():
            frame, d = places[0]
            rows = vector.values[subject.dataset.episodes[episode].start :]
            yield warning(
                "spike",
                f"{len(places)} numbers jump away and back within one frame; first {vector.names[d]!r}: "
                f"{rows[frame - 1, d]:.4g}, {rows[frame, d]:.4g}, {rows[frame + 1, d]:.4g}",
                "Interpolate these frames, or leave the episode out.",
                feature=vector.feature, episode=episode, start=frame, stop=places[-1][0] + 1,
            )  # fmt: skip


def _spike_thresholds(subject: Subject, vector: Vector) -> np.ndarray:
    """From the liveliest episodes but a tenth, whatever a broken one does. Dimensions that switch (grippers) jump all
    the time and are left out."""
    steps = [np.abs(np.diff(rows, axis=0)) for rows in subject.episodes(vector.values) if len(rows) > 1]
    if not steps:
        return np.full(len(vector.names), np.inf)
    usual = np.quantile([np.quantile(step, 0.99, axis=0) for step in steps], 0.9, axis=0, method="lower")
    distinct = np.array([len(np.unique(column)) for column in vector.values.T])
    return np.where((distinct > 0.05 * len(vector.values)) & (usual > 0), SPIKE * usual, np.inf)


def _named_factor(ratio: float, *, tolerance: float) -> str:
    """Which two units are that many times apart; empty if none that people mix up."""
    distances = {name: abs(abs(np.log(ratio)) - np.log(factor)) for name, factor in FACTORS.items()}
    best = min(distances, key=lambda name: distances[name])
    return best if distances[best] < np.log1p(tolerance) else ""


def _listed(vector: Vector, dimensions: "np.ndarray | list[int]", most: int = 6) -> str:
    names = [vector.names[d] for d in dimensions]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
