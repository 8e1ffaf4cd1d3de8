"""`--set arm.policy.decoder=flow`: one setting of an arm's recipe, checked against the dataclass that it changes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, make_dataclass, replace
from typing import Any, get_type_hints

from volar.core.errors import ConfigError, unknown_name
from volar.evaluation.plain import from_plain
from volar.train.config import TrainConfig

EVERY = "all"


def apply_settings(configs: Mapping[str, TrainConfig], settings: Sequence[str]) -> dict[str, TrainConfig]:
    """The configs with every setting `arm.key.key=value` applied, in order; `all.key=value` is for every arm.

    A value is read as JSON where it is some (4, 0.1, true), else as text. Keys of dictionaries need not exist before:
    `flow.policy.decoder_options.steps=4`. ConfigError names the closest arm or key.
    """
    changed = dict(configs)
    for setting in settings:
        path, equals, text = setting.partition("=")
        arm, _, keys = path.partition(".")
        if not equals or not keys:
            raise ConfigError(f"A setting is written arm.key=value, such as flow.policy.decoder=flow; got {setting!r}.")
        if arm != EVERY and arm not in configs:
            raise unknown_name("recipe among the arms", arm, [*configs, EVERY])
        for name in configs if arm == EVERY else (arm,):
            changed[name] = _changed(changed[name], keys.replace("-", "_").split("."), text, where=setting)
    return changed


def _changed(config: Any, keys: Sequence[str], text: str, *, where: str) -> Any:
    key, rest = keys[0], keys[1:]
    if isinstance(config, Mapping):
        if rest:
            raise ConfigError(f"{where}: {key!r} is an option; nothing lies below it.")
        return {**config, key: _value(text)}
    names = [field.name for field in fields(config)]
    if key not in names:
        raise unknown_name(f"setting of {type(config).__name__}", key, names)
    inner = vars(config)[key]
    deep = is_dataclass(inner) or isinstance(inner, Mapping)
    if deep != bool(rest):
        raise ConfigError(f"{where}: {key!r} has settings below it; name one." if deep else
                          f"{where}: {key!r} is {inner!r}; nothing lies below it.")  # fmt: skip
    value = _changed(inner, rest, text, where=where) if rest else _typed(type(config), key, text, where=where)
    return replace(config, **{key: value})


def _typed(cls: type, key: str, text: str, *, where: str) -> Any:
    """A value of the field's type: JSON where that fits it, else the text as it stands."""
    alone = make_dataclass("Alone", [(key, get_type_hints(cls)[key])])
    try:
        return vars(from_plain(alone, {key: _value(text)}, where=where))[key]
    except ConfigError:
        if not isinstance(_value(text), str):
            return vars(from_plain(alone, {key: text}, where=where))[key]
        raise


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
