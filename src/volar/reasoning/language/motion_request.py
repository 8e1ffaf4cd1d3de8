"""What a language model may ask of a motion, in words and metres, and how its answer is read: the semantic counterpart
of the raw weights of Language Movement Primitives (arXiv 2602.02839)."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from volar.core.errors import ConfigError, unknown_name

AxisName = Literal["x", "y", "z"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Checked = TypeVar("Checked")
SHOWN = 8  # wrong places that one complaint names
STRICT: Any = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Via:
    """At that fraction of the straight way be at least `clearance_m` metres off it; the sign is the side."""

    at_fraction: Annotated[float, Field(ge=0.05, le=0.95)]
    axis: AxisName
    clearance_m: Annotated[float, Field(ge=-0.2, le=0.2)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GripperEvent:
    """At that fraction of the motion's time; 1 is after arrival."""

    event: Literal["open", "close"]
    at_fraction: Fraction = 1.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rhythm:
    """A swing around the goal after arrival, such as wiping."""

    axis: AxisName
    amplitude_m: Annotated[float, Field(ge=0.0, le=0.1)]
    period_s: Annotated[float, Field(ge=0.5, le=10.0)]
    cycles: Annotated[int, Field(ge=1, le=20)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MotionRequest:
    """To `goal_object` plus an offset. yaw: by which the hand turns about the vertical from how it faces now,
    counter-clockwise seen from above. speed: the highest, detours included."""

    goal_object: str
    goal_offset_m: tuple[
        Annotated[float, Field(ge=-0.3, le=0.3)],
        Annotated[float, Field(ge=-0.3, le=0.3)],
        Annotated[float, Field(ge=-0.1, le=0.3)],
    ] = (0.0, 0.0, 0.0)
    yaw_rad: Annotated[float, Field(ge=-3.1416, le=3.1416)] = 0.0
    speed_m_s: Annotated[float, Field(ge=0.01, le=0.3)] = 0.15
    vias: Annotated[tuple[Via, ...], Field(max_length=6)] = ()
    gripper: Annotated[tuple[GripperEvent, ...], Field(max_length=4)] = ()
    rhythmic: Rhythm | None = None


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """clamped: numbers that were brought into their range, in words; for the record and for the model."""

    request: MotionRequest
    clamped: tuple[str, ...] = field(default_factory=tuple)


SCHEMA: dict[str, Any] = TypeAdapter(MotionRequest).json_schema()
"""JSON schema of a MotionRequest, for endpoints that hold a model to one."""


def with_names(schema: dict[str, Any], key: str, names: Iterable[str]) -> dict[str, Any]:
    """The schema with `key` held to these names."""
    return {**schema, "properties": {**schema["properties"], key: {"enum": list(names)}}}


def read_request(text: str, objects: Iterable[str]) -> ReadRequest:
    """The first JSON object in a model's answer. Numbers outside their range are clamped and named. Raises ConfigError
    that says everything that is wrong with it, fit to be sent back to the model."""
    values = first_object(text)
    clamped: list[str] = []
    request = validated(MotionRequest, _clamp(values, SCHEMA, "", clamped), "The parameters are")
    known = tuple(objects)
    if request.goal_object not in known:
        raise unknown_name("object", request.goal_object, known)
    return ReadRequest(request=request, clamped=tuple(clamped))


def validated(wanted: type[Checked], values: Mapping[str, Any], subject: str) -> Checked:
    """`values` as the pydantic dataclass `wanted`. subject: of the complaint, such as "The weights are". Raises
    ConfigError that names the first wrong places, fit to be sent back to the model."""
    try:
        return TypeAdapter(wanted).validate_python(values, strict=False)
    except ValidationError as error:
        places = [f"{'.'.join(map(str, each['loc'])) or 'answer'}: {each['msg']}" for each in error.errors()[:SHOWN]]
        raise ConfigError(f"{subject} not as wanted: {'; '.join(places)}.") from error


def first_object(text: str) -> dict[str, Any]:
    """The first JSON object inside a text with prose or code fences around it. Raises ConfigError without one."""
    decoder = json.JSONDecoder()
    for place, letter in enumerate(text):
        if letter == "{":
            try:
                found, _ = decoder.raw_decode(text, place)
            except (ValueError, RecursionError):
                continue
            return found
    raise ConfigError(f"There is no JSON object in the answer {text[:200]!r}. Answer with one JSON object only.")


def _clamp(value: Any, schema: dict[str, Any], path: str, clamped: list[str]) -> Any:
    """`value` with every number inside the bounds that `schema` gives it."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    for option in schema.get("anyOf", ()):
        if isinstance(value, dict) and "$ref" in option:
            return _clamp(value, option, path, clamped)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        return {
            key: _clamp(each, known.get(key, {}), f"{path}.{key}" if path else key, clamped)
            for key, each in value.items()
        }
    if isinstance(value, list):
        ordered = schema.get("prefixItems", [])
        kinds = [ordered[k] if k < len(ordered) else schema.get("items", {}) for k in range(len(value))]
        pairs = zip(value, kinds, strict=True)
        return [_clamp(each, kind or {}, f"{path}.{k}", clamped) for k, (each, kind) in enumerate(pairs)]
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        inside = min(max(value, schema.get("minimum", value)), schema.get("maximum", value))
        if inside != value:
            clamped.append(f"{path} was {value:g}, taken as {inside:g}")
        return inside
    return value
