"""From boxes on calibrated pictures to things in metres: the upright box that would be drawn where it was seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import least_squares

from volar.core.calibration import Calibration
from volar.core.objects import NamedObject

CUBE = 0.02  # pixels of misfit that a thing twice as high as wide is worth: decides only what the pictures leave open
SMALLEST = 0.002  # metres
UNIT = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)])


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One box on one camera's picture, as fractions of width and height."""

    calibration: Calibration
    low: tuple[float, float]
    high: tuple[float, float]


def locate(seen: Sequence[Seen], *, table: float) -> NamedObject | None:
    """An upright box with a square base, from one box or more. table: height of the plane it stands on, metres; with
    two pictures or more it may also float above it, as a thing in the hand does.

    One camera that looks straight down cannot tell how high a thing is: it is then taken to be as high as wide. None
    for what lies above the horizon and so not on the table.
    """
    place = on_plane(seen[0], table)
    if place is None:
        return None
    width = max(float(np.mean([_width(each, place) for each in seen])), SMALLEST)
    floats = len(seen) > 1
    start = np.array([place[0], place[1], width, width, *([table] if floats else [])])
    low = [-np.inf, -np.inf, SMALLEST, SMALLEST / 2, *([table - 1e-6] if floats else [])]
    found = least_squares(_misfit, start, bounds=(low, np.inf), args=(seen, table), x_scale=0.01, max_nfev=100).x
    base = found[4] if floats else table
    return NamedObject(
        position=np.array([found[0], found[1], base + found[3] / 2]), size=np.array([found[2], found[2], found[3]])
    )


def on_plane(seen: Seen, height: float) -> Float64[np.ndarray, " 3"] | None:
    """Where the line of sight through the middle of the box meets the plane of that height; None where it does not."""
    camera = seen.calibration
    pixel = (np.array(seen.low) + seen.high) / 2 * (camera.width, camera.height)
    turn, shift = camera.extrinsics[:3, :3], camera.extrinsics[:3, 3]
    ahead = turn.T @ np.linalg.solve(camera.intrinsics, np.append(pixel, 1.0))
    eye = -turn.T @ shift
    along = (height - eye[2]) / ahead[2] if abs(ahead[2]) > 1e-9 else -1.0
    return eye + along * ahead if along > 0 else None


def _width(seen: Seen, place: Float64[np.ndarray, " 3"]) -> float:
    """Metres across the box, at the distance of the place."""
    depth = float(seen.calibration.project(place[None]).depth[0])
    return (seen.high[0] - seen.low[0]) * seen.calibration.width * depth / float(seen.calibration.intrinsics[0, 0])


def _misfit(values: Float64[np.ndarray, " k"], seen: Sequence[Seen], table: float) -> Float64[np.ndarray, " m"]:
    """Pixels between the boxes seen and those that the thing would have."""
    x, y, width, high = values[:4]
    base = values[4] if len(values) > 4 else table
    corners = UNIT * (width, width, high) + (x, y, base)
    parts = [np.array([CUBE * np.log2(high / width)])]
    for each in seen:
        uv, pixels = each.calibration.project(corners).uv, (each.calibration.width, each.calibration.height)
        parts += [(uv.min(0) - each.low) * pixels, (uv.max(0) - each.high) * pixels]
    return np.nan_to_num(np.concatenate(parts), nan=1e3)
