"""volar: vision-language-action policies as exchangeable parts, compared honestly under equal compute.

Importing this package loads neither torch nor a simulator; the names below are resolved when first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_policy", "make_env", "open_dataset"]  # pyright: ignore[reportUnsupportedDunderAll]

_LAZY = {
    "load_policy": "volar.policies.actor:load_policy",
    "make_env": "volar.envs:make_env",
    "open_dataset": "volar.data.formats:open_dataset",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'volar' has no attribute {name!r}")
    module, attribute = _LAZY[name].split(":")
    return getattr(import_module(module), attribute)
