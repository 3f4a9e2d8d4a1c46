"""What a row brings: a prompt with responses, and votes on pairs of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from annotate.errors import TouchstoneError
from annotate.importing import conversations, texts
from annotate.importing.conversations import Message
from annotate.importing.strictjson import parse

MOST_RESPONSES = 5_000
UTILITY = ("utility", "quality")
RESPONSE_FIELDS = ("text", "content", "response", "completion")
SOURCE_FIELDS = ("source", "model")


@dataclass(frozen=True)
class Options:
    """What the person who imports decides: which field is the utility, and which column is which."""

    utility_field: str = ""
    utility_scale: str = "raw"  # or logit: the field is a probability
    columns: Mapping[str, str] = field(default_factory=dict)  # our name: the file's name


@dataclass(slots=True)
class PromptIn:
    messages: list[Message]
    digest: str
    external_id: str = ""
    tags: list[str] = field(default_factory=list)
    is_deployment: bool = False


@dataclass(slots=True)
class ResponseIn:
    text: str
    digest: str
    external_id: str = ""
    source: str = ""
    utility: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Vote:
    """One person's answer on the pair (a, b): responses by digest, or by id where the row has no texts."""

    a: str
    b: str
    answer: str
    annotator: str = ""
    gold: bool = False
    strength: int | None = None
    criteria: dict[str, Any] = field(default_factory=dict)
    rationale: str = ""
    flags: list[Any] = field(default_factory=list)
    lead_time: float | None = None
    created_at: datetime | None = None


@dataclass(slots=True)
class Row:
    """A row understood. Without a prompt, its votes name a stored prompt and stored responses by id."""

    number: int
    prompt: PromptIn | None
    responses: list[ResponseIn] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    prompt_id: str = ""
    size: int = 0


def prompt_in(messages: list[Message], row: Mapping[str, Any], id_field: str = "id") -> PromptIn:
    return PromptIn(
        messages=messages,
        digest=texts.digest_of_messages(messages),
        external_id=texts.name_of(row.get(id_field), id_field),
        tags=texts.tags_of(row.get("tags")),
    )


def responses_in(values: Any, options: Options) -> list[ResponseIn]:
    """The responses of a pool row, in order, without nulls; the same text twice is one response (by the writer)."""
    if not isinstance(values, list):
        raise TouchstoneError(f"responses are {texts.kind(values)}, not a list.", code="type")
    if all(value is None for value in values):
        raise TouchstoneError("responses are an empty list.", code="empty")
    if len(values) > MOST_RESPONSES:
        raise TouchstoneError(
            f"there are {len(values):,} responses; the most is {MOST_RESPONSES:,}.", code="long"
        )
    return [
        response_in(value, f"response {i}", options) for i, value in enumerate(values, 1) if value is not None
    ]


def response_in(value: Any, name: str, options: Options) -> ResponseIn:
    """A response that is a text, or an object: what is not a known field is kept as metadata."""
    if not isinstance(value, dict) or "role" in value:
        return plain_response(
            conversations.response_text([value] if isinstance(value, dict) else value, name)
        )
    key = next((key for key in RESPONSE_FIELDS if key in value), "text")
    text = conversations.response_text(value.get(key), name)
    source = next((value[key] for key in SOURCE_FIELDS if value.get(key) is not None), None)
    return ResponseIn(
        text=text,
        digest=texts.digest(text),
        external_id=texts.name_of(value.get("id"), f"the id of {name}"),
        source=texts.source_of(source, f"the source of {name}"),
        utility=utility_in(value, name, options),
        metadata=metadata_in(value, {key, options.utility_field}, source, f"the metadata of {name}"),
    )


def metadata_in(value: dict[str, Any], known: set[str], source: Any, name: str) -> dict[str, Any]:
    """The fields of a response that are no others', with its ``metadata`` (an object, or JSON in a text)."""
    known = known | {"id", "metadata", *SOURCE_FIELDS, *UTILITY}
    extra = {name: part for name, part in value.items() if name not in known and part is not None}
    extra |= object_of(value.get("metadata"), name, dict)
    if isinstance(source, str) and len(source) > texts.LONGEST_NAME:
        extra["full_source"] = source
    return texts.json_of(extra, name) if extra else {}


def object_of(value: Any, name: str, wanted: type) -> Any:
    """A list or an object, given as such or as JSON in a text (as CSV and Parquet have it)."""
    if value in (None, ""):
        return wanted()
    if isinstance(value, str):
        value = parse(value.encode("utf-8", "surrogatepass"))
    if not isinstance(value, wanted):
        raise TouchstoneError(f"{name} is {texts.kind(value)}.", code="type")
    return texts.json_of(value, name)


def plain_response(text: str, external_id: str = "", source: str = "") -> ResponseIn:
    return ResponseIn(text, texts.digest(text), external_id, source)


def utility_in(value: Mapping[str, Any], name: str, options: Options) -> float | None:
    """A response's known worth: the field the person named, else ``utility`` or ``quality``."""
    if options.utility_field:
        number = texts.number_of(value.get(options.utility_field), f"{options.utility_field} of {name}")
    else:
        found = next((value[key] for key in UTILITY if value.get(key) is not None), None)
        number = texts.number_of(found, f"the utility of {name}")
    if number is None or options.utility_scale == "raw":
        return number
    if not 0 <= number <= 1:
        raise TouchstoneError(f"the utility of {name} is {number}, not a probability.", code="number")
    number = min(max(number, 1e-6), 1 - 1e-6)
    return math.log(number / (1 - number))
