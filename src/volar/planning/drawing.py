"""One decision's search tree as an SVG picture: circles as large as they were visited, lines as thick, the chosen edge
in colour, and pictures of the simulated states where there are some.
"""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from volar.core.errors import ConfigError

COLUMN, ROW, MARGIN = 96, 120, 60  # pixels between nodes, between levels, and around all
STRIP, THUMB = 180, 60  # width and height of a film strip
LETTER = 8  # pixels across, at most in the mean, of the heading
INK, FAINT, CHOSEN = "#222", "#9aa5b1", "#c2410c"


def tree_svg(
    tree: Mapping[str, Any], *, title: str, chosen: int | None = None, pictures: Mapping[str, str] | None = None,
    most: int = 60,
) -> str:  # fmt: skip
    """tree: as `Tree.to_json` gives it. chosen: the root's edge that was taken, as a place among its edges in ascending
    order. pictures: node key -> data URI of a film strip. most: nodes drawn, those visited most; how many are left out
    is written."""
    if most < 1:
        raise ConfigError(f"A picture of a tree shows at least 1 node, got most={most}.")
    nodes, root = tree["nodes"], tree["root"]
    shown = most_visited(tree, most)
    children = _children(nodes, root, shown)
    places: dict[str, tuple[float, int]] = {}
    column = STRIP + 16 if pictures else COLUMN
    across = column * max(1, _place(root, children, places, 0, 0.0))
    left_out = len(nodes) - len(places)
    note = f"{title} - {len(nodes)} states, {nodes[root]['visits']} simulations"
    note += f" ({left_out} states not drawn)" if left_out else ""
    note += "; at each edge: visits x mean return"
    width = max(MARGIN * 2 + across, 24 + LETTER * len(note))
    depth = max(level for _, level in places.values())
    height = MARGIN * 2 + ROW * depth + THUMB
    left = (width - across) / 2
    at = {key: (left + column * (x + 0.5), float(MARGIN + ROW * level)) for key, (x, level) in places.items()}
    numbers = sorted(map(int, nodes[root]["edges"]))
    taken = None if chosen is None else numbers[chosen]
    top = max(1, nodes[root]["visits"])
    lines = [
        _line(at[parent], at[child], nodes[parent]["edges"][number], top,
              colour=CHOSEN if parent == root and int(number) == taken else FAINT)
        for parent, below in children.items()
        for number, child in below
    ]  # fmt: skip
    circles = [_circle(at[key], nodes[key], top, (pictures or {}).get(key)) for key in places]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/><text x="12" y="20" font-size="14" fill="{INK}">{escape(note)}'
        f"</text>{''.join(lines)}{''.join(circles)}</svg>\n"
    )


def most_visited(tree: Mapping[str, Any], most: int) -> set[str]:
    """The root and the nodes that simulations went through most often, never one without its parent."""
    nodes, shown, border = tree["nodes"], {tree["root"]}, [tree["root"]]
    reach: dict[str, int] = {}
    while border and len(shown) < most:
        for key in border:
            for edge in nodes[key]["edges"].values():
                if edge["child"] not in shown:
                    reach[edge["child"]] = max(reach.get(edge["child"], 0), edge["visits"])
        border = [max(reach, key=lambda key: (reach[key], key))] if reach else []
        for key in border:
            del reach[key]
            shown.add(key)
    return shown


def _children(nodes: Mapping[str, Any], root: str, shown: set[str]) -> dict[str, list[tuple[str, str]]]:
    """(edge, child) pairs of every node drawn; a state that is reached in two ways hangs from the first."""
    children: dict[str, list[tuple[str, str]]] = {}
    placed, waiting = {root}, [root]
    while waiting:
        key = waiting.pop(0)
        children[key] = []
        for number, edge in sorted(nodes[key]["edges"].items(), key=lambda item: int(item[0])):
            if edge["child"] in shown and edge["child"] not in placed:
                placed.add(edge["child"])
                children[key].append((number, edge["child"]))
                waiting.append(edge["child"])
    return children


def _place(
    key: str,
    children: Mapping[str, list[tuple[str, str]]],
    places: dict[str, tuple[float, int]],
    level: int,
    x: float,
) -> float:
    """Puts `key` above the middle of what hangs from it, from column x on. Returns how many columns that takes."""
    taken = 0.0
    for _, child in children[key]:
        taken += _place(child, children, places, level + 1, x + taken)
    taken = taken or 1.0
    places[key] = (x + taken / 2 - 0.5, level)
    return taken


def _line(start: tuple[float, float], end: tuple[float, float], edge: Mapping[str, Any], top: int, colour: str) -> str:
    (x1, y1), (x2, y2) = start, end
    width = 1 + 6 * math.sqrt(edge["visits"] / top)
    learned = "" if edge["estimate"] is None else f" v {edge['estimate']:.2f}"
    words = f"{edge['visits']} x {edge['mean']:.2f}{learned}"
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:.1f}"/>'
        f'<text x="{x2:.1f}" y="{y2 - 6 - (THUMB / 2):.1f}" text-anchor="middle" fill="{INK}" stroke="white" '
        f'stroke-width="3" paint-order="stroke">{escape(words)}</text>'
    )


def _circle(place: tuple[float, float], node: Mapping[str, Any], top: int, picture: str | None) -> str:
    x, y = place
    if picture is not None:
        corner = f'x="{x - STRIP / 2:.1f}" y="{y - THUMB / 2:.1f}" width="{STRIP}" height="{THUMB}"'
        return f'<image href="{escape(picture)}" {corner}/><rect {corner} fill="none" stroke="{INK}"/>'
    radius = 4 + 14 * math.sqrt(node["visits"] / top)
    fill = INK if node["over"] else "white"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{fill}" stroke="{INK}"/>'
