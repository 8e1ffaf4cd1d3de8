"""A language model in this process: greedy, held to the form of the answer, the same every time. No server, no network.

Additions of `volar language tune`, plain SmolLM2, or any folder of transformers. Servers: `language_model`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from volar.core.errors import ConfigError, EpisodeError
from volar.reasoning.answer_form import AnswerForm
from volar.reasoning.language_model import Answer, LanguageModel, Message
from volar.reasoning.text_network import TextNetwork, Transformers, is_transformers, load_smol
from volar.reasoning.tuned_model import is_tuned, load_tuned


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
        seconds = self._clock() - began
        return Answer(text=self._network.text(said), read=len(asked), written=len(said), seconds=seconds)

    def _say(self, asked: Sequence[int], form: AnswerForm | None) -> list[int]:
        network, said, unread, past = self._network, [], list(asked), None
        while len(said) < self._most:
            new = [] if form is None else self._forced(form, said)
            if not new:
                found = network.extend(unread, past)
                past, unread = found.past, []
                best = int(found.logits.argmax()) if form is None else self._best(found.logits, form, said)
                if best in network.ends:
                    break
                new = [best]
            said += new
            unread += new
            if form is not None and form.whole(network.text(said)):
                break
        return said

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
