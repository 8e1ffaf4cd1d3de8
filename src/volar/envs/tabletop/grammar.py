"""The instructions of `tabletop`'s workbench: verbs x things x places, with synonyms and paraphrases, both ways.

A `Command` is what is meant, its name is the task's, its sentences are the ways to say it. No physics here.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from volar.core.errors import ConfigError, unknown_name

COLOURS = ("red", "green", "blue")
SHAPES = {"cube": ("cube", "block"), "cylinder": ("cylinder", "rod"), "ball": ("ball", "sphere")}
# name -> ways to say it, after "the"; the first is the plain one.
THINGS: Mapping[str, tuple[str, ...]] = {
    f"{colour}-{shape}": tuple(f"{colour} {word}" for word in words)
    for colour in COLOURS
    for shape, words in SHAPES.items()
}
DESCRIBED: Mapping[str, tuple[str, ...]] = {
    "largest": ("largest thing", "biggest object"),
    "smallest": ("smallest thing", "littlest object"),
    "left-of-red": ("thing left of the red one", "object on the left of the red one"),
    "right-of-red": ("thing right of the red one", "object on the right of the red one"),
    "other-cube": ("other cube, not the red one", "cube that is not red"),
}
BOWLS: Mapping[str, tuple[str, ...]] = {
    name: (name.replace("-", " "), name.replace("-", " ").replace("bowl", "dish"))
    for name in ("bowl", "yellow-bowl", "blue-bowl")
}
REGIONS: Mapping[str, tuple[str, ...]] = {
    name: (name.replace("-", " "), name.replace("-", " ").replace("region", "disc"))
    for name in ("yellow-region", "purple-region")
}
DRAWER, BUTTON = {"drawer": ("drawer",)}, {"button": ("button",)}


@dataclass(frozen=True, kw_only=True)
class Verb:
    """name: of the task that a command with it makes. things, places: what it can be said of. templates: ways to say
    it, in which `(a|b)` is a choice; the first, with its first choices, is the plain one."""

    name: str
    things: Mapping[str, tuple[str, ...]]
    places: Mapping[str, tuple[str, ...]]
    templates: tuple[str, ...]


VERBS: Mapping[str, Verb] = {
    "in": Verb(
        name="put-{thing}-in-{place}",
        things={**THINGS, **DESCRIBED},
        places={**BOWLS, **DRAWER},
        templates=(
            "(put|place|drop) the {thing} (in|into|inside) the {place}",
            "(pick up|take|grasp) the {thing} and (put|drop) it (in|into) the {place}",
            "the {thing} (belongs|goes) (in|into) the {place}",
            "(fill|load) the {place} with the {thing}",
        ),
    ),
    "left": Verb(
        name="put-{thing}-left-of-{place}",
        things=THINGS,
        places=THINGS,
        templates=(
            "(put|place|set) the {thing} (left|to the left) of the {place}",
            "(pick up|take|grasp) the {thing} and (put|set) it on the left of the {place}",
            "the {thing} (belongs|goes) on the left side of the {place}",
        ),
    ),
    "right": Verb(
        name="put-{thing}-right-of-{place}",
        things=THINGS,
        places=THINGS,
        templates=(
            "(put|place|set) the {thing} (right|to the right) of the {place}",
            "(pick up|take|grasp) the {thing} and (put|set) it on the right of the {place}",
            "the {thing} (belongs|goes) on the right side of the {place}",
        ),
    ),
    "to": Verb(
        name="push-{thing}-to-{place}",
        things=THINGS,
        places=REGIONS,
        templates=(
            "(push|slide|shove) the {thing} (to|onto) the {place}",
            "bring the {thing} to the {place} by pushing it",
            "the {thing} should be (pushed|slid) (to|onto) the {place}",
        ),
    ),
    "open": Verb(
        name="open-{place}", things={}, places=DRAWER,
        templates=("(open|pull open|slide open) the {place}", "pull the {place} out"),
    ),
    "close": Verb(
        name="close-{place}", things={}, places=DRAWER,
        templates=("(close|shut|push shut) the {place}", "push the {place} in"),
    ),
    "press": Verb(
        name="press-{place}", things={}, places=BUTTON,
        templates=("(press|push|hit) the {place}", "push the {place} down"),
    ),
}  # fmt: skip
_CHOICE = re.compile(r"\(([^()]*)\)")


@dataclass(frozen=True)
class Command:
    """What an instruction means. verb: a key of VERBS; thing and place: names out of that verb's tables. Raises
    ConfigError for what the grammar cannot say."""

    verb: str
    place: str
    thing: str | None = None

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise unknown_name("verb", self.verb, VERBS)
        verb = VERBS[self.verb]
        if self.place not in verb.places:
            raise unknown_name(f"place for {self.verb!r}", self.place, verb.places)
        if (self.thing is None) != (not verb.things):
            raise ConfigError(f"{self.verb!r} takes {'a' if verb.things else 'no'} thing, got {self.thing!r}.")
        if self.thing is not None and self.thing not in verb.things:
            raise unknown_name(f"thing for {self.verb!r}", self.thing, verb.things)
        if self.thing == self.place:
            raise ConfigError(f"The {self.thing} cannot be put beside itself.")

    @property
    def name(self) -> str:
        return VERBS[self.verb].name.format(thing=self.thing, place=self.place)


def sentences(command: Command) -> tuple[str, ...]:
    """Every way to say it, the plain one first; what differs from it only in a word comes before other phrasings."""
    verb = VERBS[command.verb]
    things = verb.things[command.thing] if command.thing else ("",)
    said = []
    for template in verb.templates:
        parts = _CHOICE.split(template)
        choices = [part.split("|") if place % 2 else [part] for place, part in enumerate(parts)]
        for words in itertools.product(*choices):
            plan = "".join(words)
            said += [plan.format(thing=thing, place=place) for thing in things for place in verb.places[command.place]]
    return tuple(said)


def parse(sentence: str) -> Command:
    """What a sentence of the grammar means, whatever its capitals, spaces and full stop. Raises ConfigError for a
    sentence that is none."""
    plain = " ".join(sentence.lower().rstrip(" .!").split())
    for key, verb in VERBS.items():
        for pattern in _patterns(key):
            if found := pattern.fullmatch(plain):
                words = found.groupdict()
                thing = _name_of(words["thing"], verb.things) if verb.things else None
                return Command(key, _name_of(words["place"], verb.places), thing)
    raise ConfigError(
        f"{sentence!r} is no instruction of the workbench. The plain ones: "
        + "; ".join(_plain(verb.templates[0]).format(thing="THING", place="PLACE") for verb in VERBS.values())
        + "."
    )


def _plain(template: str) -> str:
    return _CHOICE.sub(lambda found: found[1].split("|")[0], template)


@cache
def _patterns(key: str) -> tuple[re.Pattern[str], ...]:
    verb = VERBS[key]
    slots = {"thing": f"(?P<thing>{_any(verb.things)})", "place": f"(?P<place>{_any(verb.places)})"}
    return tuple(re.compile(template.replace("(", "(?:").format(**slots)) for template in verb.templates)


def _any(named: Mapping[str, tuple[str, ...]]) -> str:
    return "|".join(re.escape(phrase) for phrases in named.values() for phrase in phrases)


def _name_of(phrase: str, named: Mapping[str, tuple[str, ...]]) -> str:
    return next(name for name, phrases in named.items() if phrase in phrases)
