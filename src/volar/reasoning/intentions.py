"""What one row of a batch is to think at one look: what is given, what is kept from the last look, what is said anew.
Free of torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from volar.core.errors import ConfigError, unknown_name
from volar.core.thoughts import Recall, Thought
from volar.reasoning.lexicon import Lexicon
from volar.reasoning.segments import NAMES, Mode, Segment

LONGEST_GIVEN = 512  # pieces of one segment's text


@dataclass(frozen=True, kw_only=True)
class Part:
    """One segment. script: ids of what is given or kept, None where there is nothing. speaks: it is said anew. last:
    ids of what the last look said. age: looks since the script was thought."""

    script: list[int] | None = None
    speaks: bool = False
    last: list[int] | None = None
    age: int = 0


@dataclass(frozen=True, kw_only=True)
class Intention:
    """parts: one per segment."""

    mode: Mode
    parts: tuple[Part, ...]


def intend(
    segments: Sequence[Segment], *, mode: Mode, trained: Mapping[Mode, float], lexicon: Lexicon,
    recall: Recall | None, given: Thought | None,
) -> Intention:  # fmt: skip
    """mode: while nothing is given. Who is given some segments says the others as well, so that the text is whole.
    trained: the modes that were. Raises ConfigError where nothing of what is given can be followed."""
    said = {} if given is None else _followed(given, segments, lexicon)
    if mode is Mode.ACT and not said:
        return Intention(mode=mode, parts=tuple(Part() for _ in segments))
    parts = []
    for segment in segments:
        last = None if recall is None else recall.thought.words.get(segment.name)
        known = None if last is None else lexicon.ids(last)
        if given is not None and segment.name in said:
            part = Part(script=said[segment.name], age=given.ages.get(segment.name, 0))
        elif recall is not None and known is not None and _keeps(segment, recall):
            part = Part(script=known, last=known, age=recall.thought.ages.get(segment.name, 0) + 1)
        else:
            part = Part(speaks=segment.learned and Mode.THINK in trained, last=known)
        parts.append(part)
    whole = all(segment.name in said for segment in segments if segment.seen)
    follows = Mode.THINK not in trained or (whole and Mode.FOLLOW in trained)
    return Intention(mode=Mode.FOLLOW if follows else Mode.THINK, parts=tuple(parts))


def _keeps(segment: Segment, recall: Recall) -> bool:
    young = recall.thought.ages.get(segment.name, 0) + 1 < segment.refresh
    return young and not (segment.event and recall.event)


def _followed(given: Thought, segments: Sequence[Segment], lexicon: Lexicon) -> dict[str, list[int]]:
    for name in given.words:
        if name not in NAMES:
            raise unknown_name("segment", name, NAMES)
    own = [segment.name for segment in segments]
    said = {name: lexicon.ids(given.words[name]) for name in own if name in given.words}
    if not said:
        came = ", ".join((*given.words, *["marks"] * bool(given.marks))) or "an empty thought"
        raise ConfigError(f"This policy thinks in the segments {', '.join(own)}; it cannot follow {came}.")
    for name, ids in said.items():
        if len(ids) > LONGEST_GIVEN:
            raise ConfigError(f"The given {name!r} has {len(ids)} pieces of text; at most {LONGEST_GIVEN} are read.")
    return said
