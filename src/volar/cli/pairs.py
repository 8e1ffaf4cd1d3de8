"""`key=value` on the command line, for members of tables that take options of their own."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volar.core.errors import ConfigError


def read_pairs(words: Sequence[str], what: str, *, beside: Path | None = None) -> dict[str, Any]:
    """`key=value`; a value is JSON where it is some, else text. ConfigError for a word without `=`. beside: folder that
    `./` and `../` shall be seen from, in place of the present one."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"{what} takes key=value, such as attempts=3; got {word!r}.")
        try:
            found[key] = json.loads(text)
        except ValueError:
            moved = beside is not None and text.startswith(("./", "../"))
            found[key] = os.path.join(".", os.path.relpath(text, beside)) if moved else text
    return found
