"""A table of words for people, as wide as their terminal, or 120 columns where there is none."""

import shutil
from collections.abc import Sequence
from typing import Any


def show(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Text that wraps inside its column. Markup in the words has no meaning."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(width=shutil.get_terminal_size((120, 24)).columns, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())
