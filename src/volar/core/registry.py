"""Family tables: a name stands for an import string that is resolved when it is first used.

A family's `__init__.py` holds `TABLE = Table("decoder", {...})`. A stranger's class needs no line there:
any name of the form `"package.module:Class"` is imported as it stands.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from volar.core.errors import ConfigError, unknown_name


@dataclass(frozen=True)
class Table(Mapping[str, str]):
    """One family's names. Behaves as a mapping from name to import string."""

    kind: str
    members: dict[str, str]

    def __getitem__(self, name: str) -> str:
        if name in self.members:
            return self.members[name]
        if ":" in name:
            return name
        raise unknown_name(self.kind, name, self.members)

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def load(self, name: str) -> Any:
        """The class behind `name`. Raises ConfigError for an unknown name or a string that does not import."""
        target = self[name]
        module, _, attribute = target.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except AttributeError as error:
            raise ConfigError(f"{module!r} has no {attribute!r}, named as the {self.kind} {name!r}.") from error
        except ModuleNotFoundError as error:
            if error.name and module.startswith(error.name):
                raise ConfigError(f"No module {module!r}, named as the {self.kind} {name!r}.") from error
            raise ConfigError(
                f"The {self.kind} {name!r} needs the package {error.name!r}, which is not installed. "
                f"Install volar with its extras: pip install 'volar[all]'."
            ) from error


def build_config(cls: type, values: Mapping[str, Any]) -> Any:
    """Make `cls.Config` from a plain mapping. An unknown key or a value of another type than the default's is an
    error that names the closest field. Lists become tuples where the default is a tuple, since JSON knows no tuples.
    """
    config: Any = cls.Config  # type: ignore[attr-defined]
    defaults = config()
    known = [field.name for field in fields(config)]
    given = {}
    for key, value in values.items():
        if key not in known:
            raise unknown_name(f"option of {cls.__name__}", key, known)
        default = getattr(defaults, key)
        value = tuple(value) if isinstance(default, tuple) and isinstance(value, list) else value
        if type(value) is not type(default) and (type(default), type(value)) != (float, int) and default is not None:
            raise ConfigError(
                f"{cls.__name__}: {key} must be a {type(default).__name__} such as {default!r}, "
                f"got the {type(value).__name__} {value!r}."
            )
        given[key] = value
    return config(**given)
