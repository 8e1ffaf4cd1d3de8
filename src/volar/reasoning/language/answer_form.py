"""Which texts are answers in the form of a JSON schema: a regular expression that can be asked about beginnings too.

One spelling only: keys in the schema's order, one space after `:` and `,`, so that a small model has few choices. What
the expression does not hold an answer to are the bounds of numbers; whoever reads it clamps them.
"""

import json
from collections.abc import Mapping
from typing import Any

import regex

from volar.core.errors import ConfigError

NUMBER, WHOLE = r"-?\d{1,2}(?:\.\d{1,3})?", r"-?\d{1,3}"
TEXT = r'"[^"\\\x00-\x1f]{0,120}"'  # JSON allows no control characters
MOST_ITEMS = 8  # of a list without a limit
PRINTED = "".join(chr(code) for code in range(32, 127))


class AnswerForm:
    """Of one schema, as pydantic writes them. Raises ConfigError for a part that it does not know."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        written = _pattern(schema, schema.get("$defs", {}))
        self._pattern, self._letters = regex.compile(written), sorted({*PRINTED, *written})

    def begins(self, text: str) -> bool:
        """Whether it can be continued to an answer, or is one."""
        return self._pattern.fullmatch(text, partial=True) is not None

    def whole(self, text: str) -> bool:
        return self._pattern.fullmatch(text) is not None

    def forced(self, text: str, most: int = 200) -> str:
        """What must come next, as far as there is no choice."""
        added = ""
        while len(added) < most and not self.whole(text + added):
            possible = [letter for letter in self._letters if self.begins(text + added + letter)]
            if len(possible) != 1:
                break
            added += possible[0]
        return added


def _pattern(schema: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return _pattern(known[schema["$ref"].rpartition("/")[2]], known)
    if "enum" in schema or "const" in schema:
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        return "(?:" + "|".join(regex.escape(json.dumps(value, ensure_ascii=False)) for value in values) + ")"
    if "anyOf" in schema:
        return "(?:" + "|".join(_pattern(option, known) for option in schema["anyOf"]) + ")"
    kind = schema.get("type")
    if kind == "object":
        return _object(schema, known)
    if kind == "array":
        return _array(schema, known)
    simple = {"number": NUMBER, "integer": WHOLE, "string": TEXT, "boolean": "(?:true|false)", "null": "null"}
    if kind not in simple:
        raise ConfigError(f"An answer cannot be held to this part of a JSON schema: {dict(schema)}.")
    return simple[kind]


def _object(schema: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Keys may be left out where they have a default; the first may not."""
    parts = []
    for place, (key, value) in enumerate(schema["properties"].items()):
        pair = regex.escape(json.dumps(key)) + ": " + _pattern(value, known)
        if place == 0:
            parts.append(pair)
        else:
            parts.append(f", {pair}" if key in schema.get("required", ()) else f"(?:, {pair})?")
    return r"\{" + "".join(parts) + r"\}"


def _array(schema: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return r"\[" + ", ".join(_pattern(each, known) for each in schema["prefixItems"]) + r"\]"
    item = _pattern(schema.get("items", {}), known)
    least, most = schema.get("minItems", 0), schema.get("maxItems", MOST_ITEMS)
    if least > 0:
        return rf"\[{item}(?:, {item}){{{least - 1},{most - 1}}}\]"
    return rf"\[(?:{item}(?:, {item}){{0,{most - 1}}})?\]"
