"""Tasks in the order of their published difficulty, to propose harder ones where a comparison is saturated.

Meta-World: the four groups of Seo et al., "Masked World Models for Visual Control" (arXiv 2206.14244, appendix). Needs
no simulator. Knows nothing about environments that are not named here.
"""

from collections.abc import Sequence

METAWORLD = (
    (
        "button-press", "button-press-topdown", "button-press-topdown-wall", "button-press-wall", "coffee-button",
        "dial-turn", "door-close", "door-lock", "door-open", "door-unlock", "drawer-close", "drawer-open",
        "faucet-close", "faucet-open", "handle-press", "handle-press-side", "handle-pull", "handle-pull-side",
        "lever-pull", "plate-slide", "plate-slide-back", "plate-slide-back-side", "plate-slide-side", "reach",
        "reach-wall", "window-close", "window-open", "peg-unplug-side",
    ),
    (
        "basketball", "bin-picking", "box-close", "coffee-pull", "coffee-push", "hammer", "peg-insert-side",
        "push-wall", "soccer", "sweep", "sweep-into",
    ),
    ("assembly", "hand-insert", "pick-out-of-hole", "pick-place", "push", "push-back"),
    ("shelf-place", "disassemble", "stick-pull", "stick-push", "pick-place-wall"),
)  # fmt: skip
GROUPS = {"metaworld": METAWORLD, "metaworld-state": METAWORLD}


def harder_tasks(solved: Sequence[str], *, most: int = 5) -> tuple[str, ...]:
    """Tasks, written `environment/task`, of the next harder group than the hardest of `solved`, in the order of the
    group; empty where nothing is published or nothing is harder."""
    found: list[str] = []
    for environment in dict.fromkeys(task.partition("/")[0] for task in solved):
        groups = GROUPS.get(environment, ())
        levels = [k for k, group in enumerate(groups) for name in group if f"{environment}/{name}" in solved]
        if levels and max(levels) + 1 < len(groups):
            found += [f"{environment}/{name}" for name in groups[max(levels) + 1]]
    return tuple(found[:most])
