"""Which cameras a world shows: names it knows, square pictures of the side that was asked for."""

from collections.abc import Iterable, Mapping

from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import Camera


def declared_cameras(
    sizes: Mapping[str, int] | None, *, default: Mapping[str, int], known: Iterable[str], world: str
) -> tuple[Camera, ...]:
    """sizes: name -> side in pixels; None takes the default. world: for messages. Raises ConfigError for a camera that
    is not known, and for a picture without pixels."""
    asked, names = default if sizes is None else sizes, tuple(known)
    for name, size in asked.items():
        if name not in names:
            raise unknown_name(f"{world} camera", name, names)
        if size < 1:
            raise ConfigError(f"Camera {name!r}: its side must be at least 1 pixel, got {size}.")
    return tuple(Camera(name=name, height=size, width=size) for name, size in asked.items())
