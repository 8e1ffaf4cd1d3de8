"""What a command gives back: data for machines, and text for people."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Output:
    """data: JSON-able. text: what a person reads; None shows the data, one line per key. exit_code: what the process
    answers when all went well and the result itself is a refusal, such as a data set that a check found faulty."""

    data: Mapping[str, Any]
    text: str | None = None
    exit_code: int = 0

    def print(self, *, as_json: bool) -> None:
        if as_json:
            print(json.dumps(self.data, allow_nan=False))
        elif self.text is not None:
            print(self.text)
        else:
            print("\n".join(_lines(self.data)))
        sys.stdout.flush()


def _lines(data: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list | tuple):
            shown = ", ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in value[:12])
            lines.append(f"{indent}{key}: {shown}{f', ... ({len(value)})' if len(value) > 12 else ''}")
        else:
            lines.append(f"{indent}{key}: {value}")
    return lines
