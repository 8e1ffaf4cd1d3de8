"""Which marks a policy learns (its slots), and marks as tensors: what the heads predict and the channels hand on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.thoughts import Mark, Thought

NEXT, REGIONS = "next", ("source", "destination")


@dataclass(frozen=True, kw_only=True, order=True)
class Slot:
    """One mark that a policy thinks of: whose picture, what it means, and its place in an order (0: none)."""

    camera: str
    role: str
    order: int = 0


@dataclass(frozen=True, kw_only=True)
class Form:
    """learns: the marks that are its own, in words; fits says the same of one. by_role: marks of every role have a slot
    of their own. sized: marks are boxes. ordered: marks follow one another, and have a slot for each place."""

    learns: str
    fits: Callable[[Mark], bool]
    by_role: bool = False
    sized: bool = False
    ordered: bool = False


# What comes next may also be said by an ordered mark or, as a box, by a region that is still to come.
FORMS: Mapping[str, Form] = {
    "point": Form(learns="marks of role 'next'", fits=lambda mark: mark.role == NEXT and not mark.done),
    "box": Form(
        learns="boxes of the roles 'next', 'source' or 'destination'", sized=True,
        fits=lambda mark: mark.role in (NEXT, *REGIONS) and all(mark.size) and not mark.done,
    ),
    "regions": Form(
        learns="boxes of the roles 'source' and 'destination'", sized=True, by_role=True,
        fits=lambda mark: mark.role in REGIONS and all(mark.size),
    ),
    "markers": Form(learns="marks with an order", ordered=True, fits=lambda mark: mark.order > 0),
    "objects": Form(
        learns="marks whose role is an object's name", by_role=True,
        fits=lambda mark: mark.role not in (NEXT, *REGIONS),
    ),
}  # fmt: skip


def slot_of(mark: Mark, form: str) -> Slot | None:
    """Where a mark belongs in that form; None where it is none of its marks."""
    kind = FORMS[form]
    if not kind.fits(mark):
        return None
    return Slot(camera=mark.camera, role=mark.role if kind.by_role else NEXT, order=mark.order if kind.ordered else 0)


def find_slots(thoughts: Iterable[Thought], form: str, camera: str | None) -> tuple[Slot, ...]:
    """All slots that labels fill, in order. camera: only those on its picture. Raises ConfigError where there are
    none, saying which marks there are."""
    slots, others = set[Slot](), set[str]()
    for mark in (mark for thought in thoughts for mark in thought.marks):
        slot = slot_of(mark, form)
        if slot is not None and camera in (None, slot.camera):
            slots.add(slot)
        others.add(describe(mark))
    if not slots:
        where = "" if camera is None else f" on camera {camera!r}"
        found = ", ".join(sorted(others)[:12]) or "no marks"
        raise ConfigError(
            f"form={form!r} learns {FORMS[form].learns}{where}; the labels hold {found}. "
            f"Write them with `volar data label`, or choose another form."
        )
    return tuple(sorted(slots))


def describe(mark: Mark) -> str:
    """Such as: point 'next' on camera 'front'."""
    order = f" {mark.order}" if mark.order else ""
    return f"{'box' if all(mark.size) else 'point'} {mark.role!r}{order} on camera {mark.camera!r}"


@dataclass(frozen=True, kw_only=True)
class Marking:
    """What heads and channels have to know. numbers: of a mark, 2 of a point and 4 of a box. bins: that a number is
    said in. crop: share of the picture's sides."""

    slots: tuple[Slot, ...]
    numbers: int
    bins: int
    crop: float


class Standing(IntEnum):
    """How it stands with a mark."""

    NOTHING = 0
    COMING = 1
    DONE = 2


@dataclass(frozen=True, kw_only=True)
class Places:
    """One place a slot. box: u, v of the centre, width, height, in fractions of the picture; zeros where there is
    nothing. standing: values of `Standing`."""

    box: Float[Tensor, "b s 4"]
    standing: Int[Tensor, "b s"]

    @property
    def there(self) -> Bool[Tensor, "b s"]:
        return self.standing != Standing.NOTHING


Marked = Mapping[Slot, Mark]  # the marks of one row


def assign(marks: Sequence[Mark], slots: Sequence[Slot], form: str) -> dict[Slot, Mark]:
    """The first mark to come that belongs into each slot, or the first of those done."""
    found: dict[Slot, Mark] = {}
    for mark in sorted(marks, key=lambda mark: (mark.done, mark.order, mark.role == REGIONS[1])):
        slot = slot_of(mark, form)
        if slot is not None and slot in slots:
            found.setdefault(slot, mark)
    return found


def to_places(rows: Sequence[Marked], marking: Marking, device: torch.device) -> Places:
    """Of a box, where points are marked, the centre counts."""
    each = [[row.get(slot) for slot in marking.slots] for row in rows]
    sized = marking.numbers == 4
    box = [[(*mark.centre, *(mark.size if sized else (0.0, 0.0))) if mark else (0.0,) * 4 for mark in row]
           for row in each]  # fmt: skip
    standing = [[1 + mark.done if mark else 0 for mark in row] for row in each]
    return Places(box=torch.tensor(box, device=device), standing=torch.tensor(standing, device=device))


def to_marks(places: Places, slots: Sequence[Slot]) -> list[dict[Slot, Mark]]:
    rows = []
    for boxes, standings in zip(places.box.clamp(0, 1).tolist(), places.standing.tolist(), strict=True):
        rows.append({
            slot: Mark(camera=slot.camera, centre=(u, v), size=(width, height), role=slot.role, order=slot.order,
                       done=standing == Standing.DONE)
            for slot, (u, v, width, height), standing in zip(slots, boxes, standings, strict=True)
            if standing
        })  # fmt: skip
    return rows
