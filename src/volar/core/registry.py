"""Family tables: a name stands for an import string that is resolved when it is first used.

A family's `__init__.py` holds `TABLE = Table("decoder", {...})`. A stranger's class needs no line there:
any name of the form `"package.module:Class"` is imported as it stands.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
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
    """Make `cls.Config` from a plain mapping; an unknown key is an error that names the closest field.

    Lists become tuples where the field is a tuple, since JSON knows no tuples.
    """
    config = cls.Config  # type: ignore[attr-defined]
    assert is_dataclass(config)
    known = {field.name: field for field in fields(config)}
    for key in values:
        if key not in known:
            raise unknown_name(f"option of {cls.__name__}", key, known)
    return config(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
