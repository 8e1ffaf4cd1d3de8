"""Messages between the processes of policies, robots and simulators: msgpack with numpy arrays, never pickle.

The framing is openpi's (an array is a map with __ndarray__, data, dtype and shape), so its clients can speak to our
server; keys are accepted as bytes, as openpi writes them, and as text. Says nothing of who sends what: see
core/connection.py and serving/.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from volar.core.errors import ConfigError, EpisodeError
from volar.core.robot import Chunk, Observation
from volar.core.thoughts import Thought

POLICY_PROTOCOL = "volar/1"
ENVIRONMENT_PROTOCOL = "volar-env/1"
LARGEST = 64 * 2**20  # bytes of one message
KINDS = "biuf"  # kinds of numbers that may travel; objects and strings may not


def pack(message: Mapping[str, Any], *, text_keys: bool = False) -> bytes:
    """Texts, numbers, bytes, lists, maps and arrays. TypeError for anything else. text_keys: for readers who know an
    array by keys that are texts, where openpi's are bytes."""
    return msgpack.Packer(default=_array_with_text if text_keys else _array).pack(dict(message))


def unpack(data: str | bytes) -> dict[str, Any]:
    """Raises EpisodeError for what is no message: text, damage, foreign types, an array whose size does not fit its
    bytes."""
    if isinstance(data, str):
        raise EpisodeError(f"Messages are binary msgpack, got the text {data[:200]!r}.")
    if len(data) > LARGEST:
        raise EpisodeError(f"A message has {len(data)} bytes; at most {LARGEST} are taken.")
    try:
        message = msgpack.unpackb(data, object_hook=_object, raw=False)  # keys are texts or bytes
    except EpisodeError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise EpisodeError(f"A message of {len(data)} bytes is not msgpack as agreed ({error}).") from error
    if not isinstance(message, dict):
        raise EpisodeError(f"A message is a map, got {type(message).__name__}.")
    return message


def write_observation(observation: Observation) -> dict[str, Any]:
    return {
        "images": dict(observation.images), "state": observation.proprioception, "prompt": observation.instruction,
        "time": observation.time,
    }  # fmt: skip


def read_observation(message: Mapping[str, Any]) -> Observation:
    """Raises EpisodeError naming the part that is missing or of the wrong type."""
    images, state, prompt = message.get("images", {}), message.get("state"), message.get("prompt")
    if not isinstance(state, np.ndarray) or state.ndim != 1:
        raise EpisodeError(f"An observation has a 'state', a flat array of numbers; got {type(state).__name__}.")
    if not isinstance(prompt, str):
        raise EpisodeError(f"An observation has a 'prompt', the instruction as text; got {type(prompt).__name__}.")
    if not isinstance(images, dict):
        raise EpisodeError(f"An observation's 'images' map camera names to pictures; got {type(images).__name__}.")
    for name, image in images.items():
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise EpisodeError(f"Camera {name!r}: expected a picture uint8 [height width 3].")
    return Observation(
        images=images, proprioception=state.astype(np.float32), instruction=prompt, time=float(message.get("time", 0.0))
    )


def read_seed(message: Mapping[str, Any]) -> int:
    seed = message.get("seed")
    if not isinstance(seed, int) or seed < 0:
        raise EpisodeError(f"A reset has a seed, a whole number from 0 up; got {seed!r}.")
    return seed


def write_chunk(chunk: Chunk) -> dict[str, Any]:
    thought = {} if chunk.thought is None else {"thought": chunk.thought.to_json()}
    return {
        "actions": chunk.actions, "execute": chunk.execute, "evaluations": chunk.evaluations, "latency": chunk.latency,
        **thought,
    }  # fmt: skip


def read_chunk(message: Mapping[str, Any]) -> Chunk:
    """Raises EpisodeError for what is no chunk."""
    actions = message.get("actions")
    if not isinstance(actions, np.ndarray) or actions.ndim != 2:
        raise EpisodeError(f"A chunk has 'actions', an array [steps, numbers]; got {type(actions).__name__}.")
    thought = message.get("thought")
    try:
        return Chunk(
            actions=actions.astype(np.float32), execute=int(message["execute"]),
            evaluations=int(message["evaluations"]), latency=float(message["latency"]),
            thought=None if thought is None else _read_thought(thought),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise EpisodeError(
            f"A chunk has execute, evaluations and latency, all numbers, and perhaps a thought ({error!r})."
        ) from error


def _read_thought(content: Mapping[str, Any]) -> Thought:
    """Of a stranger, whose words are texts and whose counts are numbers from now on."""
    words = {str(name): str(text) for name, text in content["words"].items()}
    ages = {str(name): int(age) for name, age in content["ages"].items()}
    marks = [
        {
            "camera": str(mark["camera"]), "role": str(mark["role"]), "order": int(mark["order"]),
            "done": bool(mark["done"]), "centre": map(float, mark["centre"]), "size": map(float, mark["size"]),
        }
        for mark in content["marks"]
    ]  # fmt: skip
    return Thought.from_json({"words": words, "ages": ages, "marks": marks, "tokens": int(content["tokens"])})


def _array(value: object) -> dict[bytes, Any]:
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in KINDS:
        raise TypeError(f"Cannot send {type(value).__name__}: only texts, numbers, lists, maps and arrays of numbers.")
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": list(value.shape)}


def _array_with_text(value: object) -> dict[str, Any]:
    return {key.decode(): part for key, part in _array(value).items()}


def _object(content: dict[Any, Any]) -> Any:
    named = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
    if "__ndarray__" in named or "__npgeneric__" in named:
        return _read(named.get("dtype"), named.get("data"), named.get("shape", []))
    return named


def _read(dtype: Any, data: Any, shape: Any) -> np.ndarray:
    kind = np.dtype(dtype.decode() if isinstance(dtype, bytes) else str(dtype))
    if kind.kind not in KINDS:
        raise EpisodeError(f"An array of type {kind} may not travel; expected numbers.")
    if not isinstance(shape, list) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise EpisodeError(f"An array's shape is a list of sizes, got {shape!r}.")
    if isinstance(data, int | float) and not shape:
        return np.asarray(data, dtype=kind)
    expected = math.prod(shape) * kind.itemsize
    if not isinstance(data, bytes) or expected != len(data):
        came = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise EpisodeError(f"An array {shape} of {kind} has {expected} bytes, got {came}.")
    return np.frombuffer(data, dtype=kind).reshape(tuple(shape))
