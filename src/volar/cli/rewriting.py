"""What `volar data convert`, `merge` and `split` share: how the new data set is to be, and what is said of it."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from volar.core.errors import ConfigError
from volar.core.robot import RobotSpec

if TYPE_CHECKING:
    from volar.data.rewrite import Choices, Rewritten


@dataclass(frozen=True, kw_only=True)
class Target:
    """How the new data set is to be."""

    storage: Literal["video", "jpeg", "image"] | None = None
    """encode pictures as x264 video, JPEG or PNG (lossless); by default the stored files are copied as they are"""
    robot: Path | None = None
    """what the numbers mean, where a data set does not say it: a RobotSpec as JSON, or a recipe with one"""
    assume_nothing: bool = False
    """go on where nobody says what the numbers mean; it must then be said at every training"""
    leave_out: tuple[str, ...] = ()
    """features that are not to be written"""

    def choices(self) -> "Choices":
        from volar.data.rewrite import Choices

        robot = None if self.robot is None else read_robot(self.robot)
        return Choices(storage=self.storage, robot=robot, assume_nothing=self.assume_nothing, leave_out=self.leave_out)


def read_robot(path: Path) -> RobotSpec:
    """From JSON, as `RobotSpec.to_json` gives it, or the `robot` of a recipe. ConfigError for anything else."""
    if path.suffix == ".py":
        from volar.cli.train import load_recipe

        if (robot := load_recipe(path).robot) is None:
            raise ConfigError(f"{path}: the recipe says nothing of the robot: TrainConfig(robot=RobotSpec(...)).")
        return robot
    try:
        return RobotSpec.from_json(json.loads(path.read_text()))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no RobotSpec: {error!r}. Expected JSON with action, cameras and proprioception, such as "
            f"`volar data info DATA --json` shows under spec."
        ) from error


def summary(results: Sequence["Rewritten"]) -> dict[str, Any]:
    """Plain JSON; also says on stderr whose pictures could not be copied."""
    for result in results:
        for camera, count in result.encoded.items():
            if count:
                print(f"{result.root}: pictures of {camera} were encoded anew in {count} episodes.", file=sys.stderr)
    return {
        "data": [
            {"root": str(each.root), "episodes": each.episodes, "frames": each.frames, "encoded": dict(each.encoded)}
            for each in results
        ]
    }


def text(results: Sequence["Rewritten"]) -> str:
    return "\n".join(f"{each.root}: {each.episodes} episodes, {each.frames} frames" for each in results)
