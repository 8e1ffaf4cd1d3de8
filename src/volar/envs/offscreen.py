"""Pictures of MuJoCo scenes without a display, by one recipe for collecting, training and judging.

Importing it chooses the OpenGL backend, so whatever needs MuJoCo takes `mujoco` from here.
"""

# MuJoCo's functions live in a compiled module that has no stubs.
# pyright: reportAttributeAccessIssue=false

import atexit
import os
import sys
import weakref
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import UInt8

from volar.core.calibration import Calibration, pinhole
from volar.core.errors import ConfigError
from volar.core.robot import Camera

if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")  # MuJoCo's own default wants a display
try:
    import mujoco
    import mujoco.gl_context
except (ImportError, AttributeError, OSError, RuntimeError) as error:
    # MuJoCo loads its OpenGL library when it is imported. Without one physics still runs, pictures do not.
    if isinstance(error, ModuleNotFoundError) and error.name == "mujoco":
        raise
    os.environ["MUJOCO_GL"] = "disabled"
    import mujoco
    import mujoco.gl_context

__all__ = ["RENDER_RECIPE", "Offscreen", "mujoco", "renderer_version", "require_agreement", "standing_cameras"]

NO_RENDERER = (
    "No renderer: MuJoCo could not open OpenGL. On Debian or Ubuntu install the packages libegl1 libegl-mesa0 "
    "libgl1-mesa-dri (MUJOCO_GL=egl, the default here) or libosmesa6 (MUJOCO_GL=osmesa). A program that imports "
    "mujoco before volar must set MUJOCO_GL itself."
)
# Shipped settings cost ten times as much on a CPU.
RENDER_RECIPE = {"shadow_map": 0, "multisamples": 0, "shadows": False, "reflections": False}


class Offscreen:
    """The pictures of one model; nothing is opened before the first one."""

    def __init__(self, model: Any, cameras: tuple[Camera, ...]) -> None:
        self._model = model
        self._renderers: dict[int, Any] = {}
        # A renderer that is merely forgotten takes the OpenGL context away from the others when it is collected.
        weakref.finalize(self, _close_all, self._renderers).atexit = False
        model.vis.quality.shadowsize = RENDER_RECIPE["shadow_map"]
        model.vis.quality.offsamples = RENDER_RECIPE["multisamples"]
        size = max((camera.height for camera in cameras), default=1)
        model.vis.global_.offwidth = model.vis.global_.offheight = size

    @property
    def used(self) -> bool:
        return bool(self._renderers)

    def render(self, data: Any, camera: Camera) -> UInt8[np.ndarray, "_ _ 3"]:
        """What the model's camera of that name sees now; square. Raises ConfigError where there is no OpenGL, or where
        its first picture, drawn twice, does not come out the same."""
        if camera.height not in self._renderers:
            renderer = self._renderers[camera.height] = _renderer(self._model, camera.height)
            _USED.add(self)
            atexit.unregister(_close_used)  # at exit the latest comes first, and OpenGL's own end was registered
            atexit.register(_close_used)  # when the renderer was made
            require_agreement(_draw(renderer, data, camera), _draw(renderer, data, camera))
        return _draw(self._renderers[camera.height], data, camera)

    def close(self) -> None:
        _close_all(self._renderers)


def standing_cameras(model: Any, names: Iterable[str], shown: Iterable[Camera], *, size: int) -> dict[str, Calibration]:
    """The cameras of these names that no body carries. shown: whose pictures have a size of their own; `size`, the side
    in pixels, is for all others."""
    found, sizes = {}, {camera.name: camera for camera in shown}
    for name in names:
        entry, picture = model.camera(name), sizes.get(name, Camera(name=name, height=size, width=size))
        if entry.bodyid[0] == 0:
            axes = np.empty(9)
            mujoco.mju_quat2Mat(axes, entry.quat)
            found[name] = pinhole(
                name, height=picture.height, width=picture.width, fovy=float(entry.fovy[0]), position=entry.pos.copy(),
                axes=axes.reshape(3, 3),
            )  # fmt: skip
    return found


_USED: weakref.WeakSet[Offscreen] = weakref.WeakSet()


def _renderer(model: Any, size: int) -> Any:
    try:
        mujoco.gl_context.GLContext(1, 1).free()  # a Renderer that cannot have one fails again when it is collected
        renderer = mujoco.Renderer(model, size, size)
    except (ImportError, AttributeError, RuntimeError, mujoco.FatalError) as error:
        raise ConfigError(f"{NO_RENDERER} ({type(error).__name__}: {error})") from error
    for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
        renderer.scene.flags[flag] = False
    return renderer


def _draw(renderer: Any, data: Any, camera: Camera) -> UInt8[np.ndarray, "_ _ 3"]:
    renderer.update_scene(data, camera=camera.name)
    return renderer.render()


def require_agreement(first: UInt8[np.ndarray, "h w 3"], second: UInt8[np.ndarray, "h w 3"]) -> None:
    """Two pictures of one scene. Some drivers corrupt pictures without a word once another renderer was collected."""
    wrong = int((first != second).any(-1).sum())
    if wrong:
        raise ConfigError(
            f"The renderer ({renderer_version()}) drew one scene twice and {wrong} of {len(first) * len(first[0])} "
            f"pixels differ, so none of its pictures can be trusted. Close every mujoco.Renderer before it is "
            f"dropped, or take the other backend: MUJOCO_GL=osmesa (or egl)."
        )


@cache
def renderer_version() -> str:
    """Backend, device and driver, for example `egl: llvmpipe (LLVM 15.0.6, 256 bits), 4.5 Mesa 22.3.6`, or `none`."""
    try:
        context = mujoco.gl_context.GLContext(1, 1)
        context.make_current()
        from OpenGL import GL

        device, driver = ((GL.glGetString(name) or b"none").decode() for name in (GL.GL_RENDERER, GL.GL_VERSION))
    except (ImportError, AttributeError, RuntimeError):
        return "none"
    context.free()
    return f"{type(context).__module__.removeprefix('mujoco.')}: {device}, {driver}"


def _close_used() -> None:
    for pictures in list(_USED):
        pictures.close()


def _close_all(renderers: dict[int, Any]) -> None:
    while renderers:
        renderers.popitem()[1].close()
