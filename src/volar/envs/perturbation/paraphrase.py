"""The paraphrase axis: the same request in other words, by a table of synonyms and frames; no language model.

Colours, sizes and sides keep their words, since they say which object is meant.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from volar.core.robot import Observation
from volar.envs.perturbation.axis import ObservationAxis

FRAMES = ("please {}", "could you {}", "I need you to {}", "your job now is to {}")
VERBS = {
    "pick up": ("lift", "take"), "put": ("place", "set"), "place": ("put", "set"), "push": ("shove", "thrust"),
    "pull": ("draw", "drag"), "press": ("push down", "hit"), "turn": ("rotate", "twist"), "rotate": ("turn", "swing"),
    "slide": ("shift", "glide"), "move": ("bring", "carry"), "grab": ("seize", "take hold of"), "hold": ("keep",),
    "insert": ("fit", "stick"), "hit": ("strike", "knock"), "reach to": ("go to", "move to"), "use": ("employ",),
    "go to": ("move to", "reach"), "drop": ("let go", "leave"), "open": ("unclose",), "close": ("shut",),
    "closed": ("shut",), "lift": ("raise",), "set": ("put",), "stack": ("pile",),
}  # fmt: skip
NOUNS = {
    "cube": ("block",), "block": ("cube",), "bowl": ("dish",), "puck": ("disc",), "disc": ("round patch",),
    "region": ("area", "zone"), "target location": ("goal position", "target spot"), "button": ("push-button",),
    "peg": ("pin", "plug"), "hole": ("opening",), "wrench": ("spanner",), "mug": ("cup",), "lid": ("cover",),
    "box": ("case",), "faucet": ("tap",), "handle": ("grip",), "plate": ("platter",), "ball": ("sphere",),
    "thermos": ("flask",), "stick": ("rod",), "pillar": ("column", "post"), "fixture": ("holder",),
    "dial": ("knob",), "wall": ("barrier",), "hoop": ("ring",), "bin": ("container",), "nail": ("spike",),
    "coffee machine": ("coffee maker",), "drawer": ("pull-out tray",), "door": ("hinged panel",),
    "window": ("pane",), "lever": ("crank",), "cylinder": ("drum",), "prism": ("wedge",),
}  # fmt: skip
BEFORE = ("the table was wiped this morning", "the radio is on", "we are a little behind schedule")
AFTER = ("there is no hurry", "I shall return in a minute", "thank you for the last one")


class Paraphrase(ObservationAxis):
    """Level by level on top of one another: a polite frame, other verbs, other nouns, a remark before, one after."""

    sizes = (1.0, 2.0, 3.0, 4.0, 5.0)
    unit = "of 5 rewordings"
    says = "the instruction: a frame, other verbs, other nouns, a remark before, a remark after"

    def look(self, observation: Observation, *, seed: int, step: int) -> Observation:
        return replace(observation, instruction=self.reword(observation.instruction, seed))

    def reword(self, instruction: str, seed: int) -> str:
        """The same wording for the same instruction, seed and level."""
        random = self.random(seed)
        frame, before, after = (str(random.choice(words)) for words in (FRAMES, BEFORE, AFTER))
        text = _exchange(instruction, VERBS, random) if self.level >= 2 else instruction
        text = _exchange(text, NOUNS, random) if self.level >= 3 else text
        text = frame.format(text)
        text = f"{before}; {text}" if self.level >= 4 else text
        return f"{text}; {after}" if self.level >= 5 else text


def _exchange(text: str, words: Mapping[str, tuple[str, ...]], random: np.random.Generator) -> str:
    """Every known word replaced in one pass, the longest first; never by a word that is there already, which could
    make two things one."""
    longest = sorted(words, key=len, reverse=True)

    def other(found: re.Match[str]) -> str:
        free = [word for word in words[found[0]] if not re.search(rf"\b{re.escape(word)}\b", text)]
        return str(random.choice(free)) if free else found[0]

    return re.sub(rf"\b({'|'.join(map(re.escape, longest))})\b", other, text)
