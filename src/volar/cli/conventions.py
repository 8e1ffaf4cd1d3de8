"""The JSON file in which somebody declares how a benchmark or a model server of vla-eval speaks."""

import json
from pathlib import Path

from volar.core.errors import ConfigError
from volar.evaluation.plain import from_plain
from volar.serving.vla_eval import Conventions

EXAMPLE = """{
 "cameras": {"agentview": "agentview", "wrist": "wrist"},
 "resize": "bilinear",
 "state": {"name": "states", "dims": 8, "format": "eef_pos3_axisangle3_gripper2"},
 "actions": [{"name": "position", "dims": 3, "format": "delta_xyz"},
             {"name": "rotation", "dims": 3, "format": "axis_angle"},
             {"name": "gripper", "dims": 1, "format": "binary_close_positive"}],
 "parameters": {"send_wrist_image": true, "send_state": true}
}"""


def read_conventions(path: Path) -> Conventions:
    """Raises ConfigError naming the key that is missing, unknown or of the wrong type."""
    try:
        return from_plain(Conventions, json.loads(path.read_text()), where=str(path))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}). Conventions look like\n{EXAMPLE}") from error
