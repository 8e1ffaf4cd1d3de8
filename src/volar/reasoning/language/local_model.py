"""A language model in this process: greedy, held to the form of the answer, the same every time. No server, no network.

Additions of `volar language tune`, plain SmolLM2, or any folder of transformers. Servers: `language_model`.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from volar.core.errors import ConfigError, EpisodeError
from volar.reasoning.language.answer_form import AnswerForm
from volar.reasoning.language.language_model import Answer, LanguageModel, Message
from volar.reasoning.language.text_network import TextNetwork, Transformers, is_transformers, load_smol
from volar.reasoning.language.tuned_model import is_tuned, load_tuned

SAME, GUESSED, REMEMBERED = 3, 12, 4  # tokens that must agree, tokens guessed at once, answers looked through


class LocalModel(LanguageModel):
    """Final. most_tokens: of an answer. longest: tokens of question and answer together; EpisodeError beyond. compact:
    whether it was tuned on `compact_prompts`, and understands nothing else."""

    def __init__(
        self, network: TextNetwork, *, compact: bool = False, most_tokens: int = 400, longest: int = 8192,
        facts: Mapping[str, Any] | None = None, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if most_tokens < 1 or longest < 1:
            raise ConfigError(f"most_tokens and longest must be at least 1; got {most_tokens} and {longest}.")
        self._network, self.compact, self._facts = network, compact, dict(facts or {})
        self._most, self._longest, self._clock = most_tokens, longest, clock
        self._earlier: deque[list[int]] = deque(maxlen=REMEMBERED)
        self._read: list[tuple[list[int], Any]] = []  # questions, and the network's state after each

    def describe(self) -> dict[str, Any]:
        return {"model": self._network.name, "compact": self.compact, "most_tokens": self._most, **self._facts}

    def answer(self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None) -> Answer:
        """With a schema the text is one JSON object in its form, unless most_tokens cut it off."""
        began = self._clock()
        asked = self._network.prompt(messages)
        if len(asked) + self._most > self._longest:
            raise EpisodeError(f"A question of {len(asked)} tokens is too long for {self._longest} with its answer.")
        form = None if schema is None else AnswerForm(schema)
        said = self._say(asked, form)
        self._earlier.appendleft(said)
        seconds = self._clock() - began
        return Answer(text=self._network.text(said), read=len(asked), written=len(said), seconds=seconds)

    def _say(self, asked: Sequence[int], form: AnswerForm | None) -> list[int]:
        network, said = self._network, []
        past, kept = self._resume(asked)
        unread = list(asked[kept:])
        while len(said) < self._most and not self._whole(form, said):
            forced = [] if form is None else self._forced(form, said)
            said += forced
            unread += forced
            if forced:
                continue
            guess = self._guess(said)
            found = network.extend([*unread, *guess], past, last=len(guess) + 1)
            agreed = self._agreed(found.logits, form, said, guess)
            kept += len(unread) + len(agreed) - 1
            past, unread = network.crop(found.past, kept), agreed[-1:]
            said += agreed
            if said[-1] in network.ends:
                said.pop()
                break
        if kept >= len(asked):
            self._read = [*self._read, (list(asked), past)][-REMEMBERED:]
        return said[: self._most]

    def _resume(self, asked: Sequence[int]) -> tuple[Any, int]:
        """The state after as much as an earlier question has in common with this one, and how much that is; nothing
        where it is less than a quarter. Questions about one table share its text, questions of a kind their rules."""
        alike = [_alike(asked, earlier) for earlier, _ in self._read]
        best = max(range(len(alike)), key=alike.__getitem__, default=None)
        if best is None or 4 * alike[best] < len(asked):
            return None, 0
        _, past = self._read.pop(best)
        return self._network.crop(past, alike[best]), alike[best]

    def _agreed(
        self, logits: Float[Tensor, "s k"], form: AnswerForm | None, said: list[int], guess: list[int]
    ) -> list[int]:
        """Tokens that the network says next, one after the other: as many as were guessed right, and one more."""
        agreed: list[int] = []
        for place, chances in enumerate(logits):
            token = int(chances.argmax()) if form is None else self._best(chances, form, [*said, *agreed])
            agreed.append(token)
            wrong = place == len(guess) or token != guess[place]
            if wrong or token in self._network.ends or self._whole(form, [*said, *agreed]):
                break
        return agreed

    def _whole(self, form: AnswerForm | None, said: list[int]) -> bool:
        return form is not None and form.whole(self._network.text(said))

    def _guess(self, said: list[int]) -> list[int]:
        """What came next in an earlier answer after the same few tokens. Answers resemble one another, and reading
        several tokens costs hardly more than reading one; a wrong guess changes nothing but time."""
        for earlier in self._earlier:
            for place in range(len(earlier) - SAME - 1, -1, -1):
                if len(said) >= SAME and earlier[place : place + SAME] == said[-SAME:]:
                    return earlier[place + SAME : place + SAME + GUESSED]
        return []

    def _best(self, logits: Float[Tensor, " k"], form: AnswerForm, said: list[int]) -> int:
        """The likeliest token after which the text still is the beginning of an answer."""
        written = self._network.text(said)
        for token in torch.argsort(logits, descending=True).tolist():
            if token not in self._network.ends:
                text = self._network.text([*said, token])
                if len(text) > len(written) and form.begins(text):
                    return token
        raise EpisodeError(f"{self._network.name} has no token that goes on with {written!r}.")

    def _forced(self, form: AnswerForm, said: list[int]) -> list[int]:
        """Tokens without a choice, all but the last: that one may be written together with what follows."""
        return self._network.ids(form.forced(self._network.text(said)))[:-1]


def _alike(asked: Sequence[int], earlier: Sequence[int]) -> int:
    """How many ids both begin with; the last of `asked` is never among them, for it says what comes next."""
    most = min(len(asked) - 1, len(earlier))
    return next((place for place in range(most) if asked[place] != earlier[place]), most)


def local(*, folder: str | None = None, most_tokens: int = 400) -> LocalModel:
    """folder: of `volar language tune` or of transformers; None for SmolLM2 as it is. Raises ConfigError."""
    if folder is None:
        return LocalModel(load_smol(), most_tokens=most_tokens)
    path = Path(folder)
    if is_tuned(path):
        tuned = load_tuned(path)
        facts = {key: tuned.facts[key] for key in ("config", "step", "commit") if key in tuned.facts}
        return LocalModel(tuned.network, compact=True, most_tokens=most_tokens, facts=facts)
    if is_transformers(path):
        return LocalModel(Transformers(path), most_tokens=most_tokens)
    raise ConfigError(
        f"{folder} holds no language model: neither one that `volar language tune` wrote nor one in the format of "
        f"Hugging Face (config.json, safetensors, tokenizer)."
    )
