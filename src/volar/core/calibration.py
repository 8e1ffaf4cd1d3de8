"""Where a camera stands and how it sees: from metres in the world to places on its picture.

A pinhole without distortion; pictures of a lens must be rectified first. Worlds that know their cameras say so.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from volar.core.errors import ConfigError

NEAREST = 1e-3  # metres in front of the camera; nothing nearer, or behind it, has a place on the picture


@dataclass(frozen=True, kw_only=True)
class Projection:
    """uv: fractions of width and height from the upper left corner, outside 0..1 where the picture does not reach, nan
    behind the camera. depth: metres along the line of sight, negative behind the camera."""

    uv: Float64[np.ndarray, "n 2"]
    depth: Float64[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """One camera. height, width: of the picture in pixels. intrinsics: in those pixels, with the picture's upper left
    corner at (0, 0). extrinsics: world to camera, metres; the camera's x points right, y down, z ahead (OpenCV's)."""

    camera: str
    height: int
    width: int
    intrinsics: Float64[np.ndarray, "3 3"]
    extrinsics: Float64[np.ndarray, "4 4"]

    def __post_init__(self) -> None:
        rotation = self.extrinsics[:3, :3]
        if not (np.isfinite(self.intrinsics).all() and np.isfinite(self.extrinsics).all()):
            raise ConfigError(f"The calibration of camera {self.camera!r} has numbers that are not finite.")
        if self.height < 1 or self.width < 1 or min(self.intrinsics[0, 0], self.intrinsics[1, 1]) <= 0:
            raise ConfigError(f"The calibration of camera {self.camera!r} needs a picture and positive focal lengths.")
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4) or np.linalg.det(rotation) < 0:
            raise ConfigError(
                f"The extrinsics of camera {self.camera!r} hold no rotation; world to camera is expected."
            )

    def project(self, points: Float[np.ndarray, "n 3"]) -> Projection:
        """Points of the world, metres."""
        seen = points.astype(np.float64) @ self.extrinsics[:3, :3].T + self.extrinsics[:3, 3]
        depth = seen[:, 2]
        there = np.where(depth[:, None] > NEAREST, seen / np.where(depth > NEAREST, depth, 1.0)[:, None], np.nan)
        pixels = there @ self.intrinsics.T
        return Projection(uv=pixels[:, :2] / (self.width, self.height), depth=depth)

    def upside_down(self) -> "Calibration":
        """Of the same camera, whose picture is shown turned by 180 degrees."""
        turned = self.extrinsics * np.array([[-1.0], [-1.0], [1.0], [1.0]])
        intrinsics = self.intrinsics.copy()
        intrinsics[:2, 2] = (self.width, self.height) - intrinsics[:2, 2]
        return replace(self, extrinsics=turned, intrinsics=intrinsics)

    def to_json(self) -> dict[str, Any]:
        return {
            "camera": self.camera, "height": self.height, "width": self.width,
            "intrinsics": self.intrinsics.tolist(), "extrinsics": self.extrinsics.tolist(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Calibration":
        """Raises ConfigError for anything but what `to_json` gives."""
        try:
            matrices = {name: np.array(data[name], dtype=np.float64) for name in ("intrinsics", "extrinsics")}
            if matrices["intrinsics"].shape != (3, 3) or matrices["extrinsics"].shape != (4, 4):
                raise ValueError("intrinsics must be [3 3], extrinsics [4 4]")
            return cls(camera=str(data["camera"]), height=int(data["height"]), width=int(data["width"]), **matrices)
        except ConfigError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"No calibration: {error!r}. Expected camera, height, width, intrinsics [3 3] in pixels and extrinsics "
                f"[4 4] from the world to the camera."
            ) from error


class CalibratedWorld(ABC):
    """A world that knows its cameras."""

    @abstractmethod
    def calibrations(self) -> Mapping[str, Calibration]:
        """Of every camera that stands still, by name; also of those whose pictures nobody asked for."""


def pinhole(
    camera: str, *, height: int, width: int, fovy: float, position: Float64[np.ndarray, " 3"],
    axes: Float64[np.ndarray, "3 3"],
) -> Calibration:  # fmt: skip
    """As OpenGL and MuJoCo describe a camera. fovy: the picture's height, degrees. axes: the camera's x (right), y (up)
    and z (backwards) as columns, in the world."""
    focal = height / 2 / np.tan(np.radians(fovy) / 2)
    turn = (axes * (1.0, -1.0, -1.0)).T
    extrinsics = np.eye(4)
    extrinsics[:3, :3], extrinsics[:3, 3] = turn, -turn @ position
    intrinsics = np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return Calibration(camera=camera, height=height, width=width, intrinsics=intrinsics, extrinsics=extrinsics)


def read_calibrations(path: Path) -> dict[str, Calibration]:
    """By camera, from a JSON list of what `Calibration.to_json` gives. Raises ConfigError for anything else."""
    try:
        entries = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}.") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{path} must hold a JSON list with one calibration per camera.")
    return {calibration.camera: calibration for calibration in map(Calibration.from_json, entries)}
