"""Language models as functions of messages: any endpoint that speaks OpenAI's chat completions. The door to HTTP.

What an endpoint sends is text to be read, never anything to be run.
"""

import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import httpx

from volar.core.errors import ConfigError, EpisodeError, unknown_name

RETRIED = (408, 409, 429, 500, 502, 503, 504)
LARGEST = 1 << 20  # bytes of an answer; parameters take a few hundred


@dataclass(frozen=True, kw_only=True)
class Message:
    """images: data URLs, for models that see."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """read, written: tokens that it cost; None where nobody says. seconds: waiting and retries included. attempts:
    requests that were sent for it. cut: whether it ends where no more tokens were allowed."""

    text: str
    read: int | None
    written: int | None
    seconds: float
    attempts: int = 1
    cut: bool = False


class LanguageModel(ABC):
    """Whoever answers. compact: it was tuned on `compact_prompts` and understands nothing else."""

    compact: bool = False

    @abstractmethod
    def answer(self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None) -> Answer:
        """schema: of the JSON object that is wanted. Raises EpisodeError when there is no answer."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What to write beside a result: model, endpoint, settings; no secrets."""


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """timeout: seconds for a whole answer, however slowly it comes. retries: after the first attempt, on errors that
    pass. structured: ask for output held to the schema; endpoints that refuse it are asked again without."""

    temperature: float = 0.0
    most_tokens: int = 800
    timeout: float = 60.0
    retries: int = 3
    structured: bool = True

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.retries < 0 or self.most_tokens < 1 or self.temperature < 0:
            raise ConfigError(
                f"An endpoint needs timeout > 0, retries >= 0, most_tokens >= 1 and temperature >= 0; got {self}."
            )


@dataclass
class Endpoint(LanguageModel):
    """Final. base_url: for example `http://127.0.0.1:8080/v1`; key: None where none is asked for. sleep, clock: of the
    waits between attempts."""

    base_url: str
    model: str
    key: str | None = field(default=None, repr=False)
    config: EndpointConfig = field(default_factory=EndpointConfig)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ConfigError(f"base_url begins with http:// or https://, got {self.base_url!r}.")
        self._structured = self.config.structured

    def describe(self) -> dict[str, Any]:
        return {"model": self.model, "endpoint": self.base_url, **vars(self.config), "structured": self._structured}

    def answer(self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None) -> Answer:
        began, attempt, trouble = self.clock(), 0, ""
        while attempt <= self.config.retries:
            attempt += 1
            left = self.config.timeout - (self.clock() - began)
            if left <= 0:
                break
            reply = self._ask(messages, schema if self._structured else None, left)
            if reply.text is not None:
                return Answer(text=reply.text, read=reply.read, written=reply.written,
                              seconds=self.clock() - began, attempts=attempt, cut=reply.cut)  # fmt: skip
            trouble = reply.trouble
            if reply.unstructured:
                self._structured = False
                continue
            if not reply.passing:
                break
            # Half a second, one, two ...; a share at random, so that many workers do not come back at once.
            pause = max(reply.wait, 0.5 * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))
            if pause > self.config.timeout - (self.clock() - began):
                break
            self.sleep(pause)
        raise EpisodeError(f"{self.model} at {self.base_url} gave no answer in {attempt} attempts: {trouble}")

    def _ask(self, messages: Sequence[Message], schema: Mapping[str, Any] | None, seconds: float) -> "_Reply":
        body: dict[str, Any] = {
            "model": self.model, "temperature": self.config.temperature, "max_tokens": self.config.most_tokens,
            "messages": [{"role": each.role, "content": _content(each)} for each in messages],
        }  # fmt: skip
        if schema is not None:
            body["response_format"] = {
                "type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema)}
            }  # fmt: skip
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        try:
            return self._send(body, headers, seconds)
        except httpx.HTTPError as error:
            return _Reply(trouble=f"{type(error).__name__}: {error}", passing=True)

    def _send(self, body: dict[str, Any], headers: dict[str, str], seconds: float) -> "_Reply":
        until, parts, size = self.clock() + seconds, [], 0
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        with httpx.stream("POST", url, json=body, headers=headers, timeout=seconds, follow_redirects=False) as response:
            # A timeout of the library starts anew with every byte; a slow stream must not outlast the whole.
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > LARGEST or self.clock() > until:
                    return _Reply(trouble="the answer is too long" if size > LARGEST else "the answer is too slow")
            return _read(response.status_code, b"".join(parts), response.headers.get("retry-after", ""), body)


def endpoint(*, base_url: str, model: str, key: str | None = None, **settings: Any) -> Endpoint:
    """An Endpoint from plain values. settings: of EndpointConfig; ConfigError names the closest one."""
    known = [each.name for each in fields(EndpointConfig)]
    for name in settings:
        if name not in known:
            raise unknown_name("setting of an endpoint", name, ["base_url", "model", "key", *known])
    return Endpoint(base_url, model, key=key, config=EndpointConfig(**settings))


@dataclass(frozen=True, kw_only=True)
class _Reply:
    """text: None for trouble. passing: worth another attempt, after `wait` seconds. unstructured: refuses schemas."""

    text: str | None = None
    read: int | None = None
    written: int | None = None
    trouble: str = ""
    passing: bool = False
    unstructured: bool = False
    wait: float = 0.0
    cut: bool = False


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.text
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in message.images]
    return [{"type": "text", "text": message.text}, *pictures]


def _read(status: int, content: bytes, retry_after: str, body: Mapping[str, Any]) -> _Reply:
    shown = content[:300].decode(errors="replace")
    if status != 200:
        refuses = status in (400, 422) and "response_format" in body and b"response_format" in content
        wait = float(retry_after) if retry_after.replace(".", "", 1).isdigit() else 0.0
        passing = status in RETRIED
        return _Reply(trouble=f"HTTP {status}: {shown}", passing=passing, unstructured=refuses, wait=wait)
    try:
        data = json.loads(content)
        choice = data["choices"][0]
        message, usage = choice["message"], data.get("usage") or {}
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return _Reply(trouble=f"no chat completion: {shown}", passing=True)
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str):
        refusal = message.get("refusal") if isinstance(message, dict) else None
        return _Reply(trouble=f"the model refuses: {refusal}" if refusal else f"no text in {shown}")
    counts = [usage.get(key) if isinstance(usage, dict) else None for key in ("prompt_tokens", "completion_tokens")]
    read, written = (count if isinstance(count, int) else None for count in counts)
    return _Reply(text=text, read=read, written=written, cut=choice.get("finish_reason") == "length")
