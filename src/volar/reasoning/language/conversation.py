"""Asks a language model until an answer can be used, and tells what every exchange cost."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from volar.core.errors import ConfigError, EpisodeError
from volar.reasoning.language.language_model import LanguageModel, Message

Read = TypeVar("Read")


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One question to the model. tokens: None where nobody counted. complaint: what was wrong with the answer.
    instruction, seed, scene: of the episode; scene is the digest of its first state."""

    asked: str
    answer: str
    read: int | None
    written: int | None
    seconds: float
    complaint: str = ""
    clamped: tuple[str, ...] = ()
    instruction: str = ""
    seed: int = 0
    scene: str = ""


@dataclass(frozen=True)
class Journal:
    """One line of JSON per exchange, appended as it happens; processes may share the file."""

    path: Path

    def __call__(self, exchange: Exchange) -> None:
        line = json.dumps(asdict(exchange), ensure_ascii=False).encode() + b"\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line)  # a single call, so that lines of several processes stay whole
        finally:
            os.close(file)


@dataclass(frozen=True, kw_only=True)
class Understood(Generic[Read]):
    """value: what was made of the answer. said: all messages up to it, for a next turn."""

    value: Read
    said: list[Message]


@dataclass(frozen=True, kw_only=True)
class Reading(Generic[Read]):
    """value: what an answer means. clamped: what was brought into its range, in words."""

    value: Read
    clamped: tuple[str, ...] = ()


class Conversation:
    """calls, written: questions and tokens of answers since `look`; a model that does not count writes 0."""

    def __init__(
        self, model: LanguageModel, *, attempts: int, journal: Callable[[Exchange], None] | None = None
    ) -> None:
        self._model, self._attempts, self._journal = model, attempts, journal
        self.begin(0)
        self.look("")

    def begin(self, seed: int, scene: str = "") -> None:
        self._seed, self._scene = seed, scene

    def look(self, instruction: str) -> None:
        self.calls, self.written, self._instruction = 0, 0, instruction

    def ask(
        self, asked: Sequence[Message], schema: Mapping[str, Any] | None, read: Callable[[str], Reading[Read]]
    ) -> Understood[Read]:
        """What `read` makes of the answer; what is wrong with one goes back to the model. Raises EpisodeError when
        there is no usable one."""
        said, complaint = list(asked), ""
        for _ in range(self._attempts):
            self.calls += 1
            answer = self._model.answer(said, schema=schema)
            self.written += answer.written or 0
            found = None
            try:
                found, complaint = read(answer.text), ""
            except ConfigError as error:
                cut = " The answer was cut off because it was too long; be brief." if answer.cut else ""
                complaint = f"{error}{cut}"
            if self._journal is not None:
                self._journal(
                    Exchange(
                        asked=said[-1].text, answer=answer.text, read=answer.read, written=answer.written,
                        seconds=answer.seconds, complaint=complaint, clamped=() if found is None else found.clamped,
                        instruction=self._instruction, seed=self._seed, scene=self._scene,
                    )
                )  # fmt: skip
            said.append(Message(role="assistant", text=answer.text))
            if found is not None:
                return Understood(value=found.value, said=said)
            said.append(Message(role="user", text=complaint))
        raise EpisodeError(f"No usable answer in {self._attempts} attempts; the last one: {complaint}")
