"""How state and action move together: standing still, commands that are copies, and delays between the two."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64

from volar.data.events import idle_stretches
from volar.data.findings import Finding, note, warning
from volar.data.inspection.subject import Subject, Vector

LONG_PAUSE: Final = 1.0  # seconds of standing still that are worth a note
MOSTLY: Final = 0.5  # share of an episode spent standing still that is worth a warning
LONGEST_LAG: Final = 1.0  # seconds in which a state that follows the action is looked for
SLOW: Final = 0.5  # seconds of delay that a controller does not explain
CORRELATED: Final = 0.5  # correlation from which two signals count as following each other
CLEARLY: Final = 0.1  # of correlation, by which another lag must be better
SLIPPED: Final = 3  # frames by which one episode's lag differs before it counts


def idle(subject: Subject) -> Iterator[Finding]:
    motion = subject.motion
    if motion is None or not motion.varies.any():
        return
    fps, span = subject.dataset.fps, _usual_span(subject, motion)
    for episode, rows in enumerate(subject.episodes(motion.values)):
        stretches = idle_stretches(rows, np.zeros_like(span), span, fps)
        stretches = [stretch for stretch in stretches if stretch.stop - stretch.start >= LONG_PAUSE * fps]
        if not stretches:
            continue
        still = sum(stretch.stop - stretch.start for stretch in stretches)
        longest = max(stretches, key=lambda stretch: stretch.stop - stretch.start)
        say = warning if still > MOSTLY * len(rows) else note
        yield say(
            "idle",
            f"stands still in {still} of {len(rows)} frames, {(longest.stop - longest.start) / fps:.1f} s at once",
            "Cut long pauses out; policies learn to wait from them.",
            feature=motion.feature, episode=episode, start=longest.start, stop=longest.stop,
        )  # fmt: skip


def _usual_span(subject: Subject, motion: Vector) -> Float64[np.ndarray, " d"]:
    """How far each dimension moves in an episode in which it moves: one episode in another unit does not count."""
    spans = np.stack([np.ptp(rows, axis=0) for rows in subject.episodes(motion.values)])
    moving = np.where(spans > 0, spans, np.nan)
    return np.array([np.nanmedian(column) if (column > 0).any() else 0.0 for column in moving.T])


def action_copies_state(subject: Subject) -> Iterator[Finding]:
    state, action = subject.state, subject.action
    if state is None or action is None or state.values.shape != action.values.shape or not action.varies.any():
        return
    if np.array_equal(state.values, action.values):
        yield warning(
            "action-is-state", "every action equals the state of the same frame: it commands to stay",
            "Record the commands, or take the next frame's state as the action.", feature=action.feature,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Following:
    """How well the state's changes follow the actions at every lag: correlations over the data set [lags] and in each
    episode [e lags], averaged over the action dimensions that something follows."""

    lags: Int64[np.ndarray, " lags"]
    overall: Float64[np.ndarray, " lags"]
    by_episode: Float64[np.ndarray, "e lags"]

    @property
    def lag(self) -> int:
        return int(self.lags[self.overall.argmax()])


def lag(subject: Subject) -> Iterator[Finding]:
    """The delay between action and state over the data set, and episodes in which it is another."""
    following, fps = measure_following(subject), subject.dataset.fps
    if following is None:
        return
    found, best = following.lag, following.overall.max()
    natural = following.overall[following.lags == 0][0]
    if (found < 0 and best > natural + CLEARLY) or found > SLOW * fps:
        yield warning(
            "lag",
            f"the state {'changes before' if found < 0 else 'follows'} the action by {abs(found)} frames "
            f"({abs(found) / fps:.2f} s; correlation {best:.2f}, without a shift {natural:.2f})",
            "Shift one of the two, so that a row holds the action taken when its state was seen.", feature="action",
        )  # fmt: skip
    expected = following.by_episode[:, following.lags == found][:, 0]
    for episode, curve in enumerate(following.by_episode):
        own = int(following.lags[curve.argmax()])
        if abs(own - found) >= SLIPPED and curve.max() > max(CORRELATED, expected[episode] + 2 * CLEARLY):
            yield warning(
                "lag-differs",
                f"the state follows the action after {own} frames (correlation {curve.max():.2f}), in the data set "
                f"after {found} (here {expected[episode]:.2f})",
                "Shift the actions of this episode, or leave it out.", feature="action", episode=episode,
            )  # fmt: skip


def measure_following(subject: Subject) -> Following | None:
    """Of changes against commanded changes, or against the commands themselves where these are velocities or steps,
    whichever follows better. None if nothing follows the actions."""
    state, action = subject.state, subject.action
    if state is None or action is None or not (state.varies.any() and action.varies.any()):
        return None
    longest = max(round(LONGEST_LAG * subject.dataset.fps), SLIPPED)
    changes = [np.diff(rows, axis=0) for rows in subject.episodes(state.values[:, state.varies])]
    commands = list(subject.episodes(action.values[:, action.varies]))
    steps = [rows[:-1] for rows in commands]
    moves = [np.diff(rows, axis=0) for rows in commands]
    found = [_following(signal, changes, longest) for signal in (steps, moves)]
    return max((one for one in found if one), key=lambda one: one.overall.max(), default=None)


def _following(actions: Sequence[np.ndarray], changes: Sequence[np.ndarray], longest: int) -> Following | None:
    lags = np.arange(-longest, longest + 1)
    actions, changes = _standardised(actions), _standardised(changes)
    sums = np.sum([_products(a, c, lags) for a, c in zip(actions, changes, strict=True)], axis=0)
    correlations = sums / sum(map(len, actions))  # [lags a s]
    strongest = np.abs(correlations).max(0).argmax(1)  # the state dimension that follows each action dimension
    curves = np.take_along_axis(correlations, strongest[None, :, None], axis=2)[:, :, 0]
    signs = np.sign(np.take_along_axis(curves, np.abs(curves).argmax(0)[None], axis=0)[0])
    followed = np.flatnonzero(np.abs(curves).max(0) >= CORRELATED)
    if not len(followed):
        return None
    own = []
    for a, c in zip(actions, changes, strict=True):
        x, y = a[:, followed], c[:, strongest[followed]]
        products = np.stack([_shifted_products(x, y, lag) for lag in lags.tolist()])
        size = np.sqrt((x**2).sum(0) * (y**2).sum(0))
        own.append((signs[followed] * products / np.maximum(size, 1e-9)).mean(1))
    return Following(lags=lags, overall=(signs * curves)[:, followed].mean(1), by_episode=np.stack(own))


def _standardised(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    whole = np.concatenate(parts)
    return [(part - whole.mean(0)) / np.maximum(whole.std(0), 1e-12) for part in parts]


def _products(x: np.ndarray, y: np.ndarray, lags: np.ndarray) -> Float64[np.ndarray, "lags a s"]:
    """Sums of x[t] y[t + lag] over t, of every pair of dimensions."""
    out = np.zeros((len(lags), x.shape[1], y.shape[1]))
    for place, lag in enumerate(lags.tolist()):
        if abs(lag) < len(x):
            out[place] = x[max(-lag, 0) : len(x) - max(lag, 0)].T @ y[max(lag, 0) : len(y) + min(lag, 0)]
    return out


def _shifted_products(x: np.ndarray, y: np.ndarray, lag: int) -> Float64[np.ndarray, " a"]:
    if abs(lag) >= len(x):
        return np.zeros(x.shape[1])
    return (x[max(-lag, 0) : len(x) - max(lag, 0)] * y[max(lag, 0) : len(y) + min(lag, 0)]).sum(0)
