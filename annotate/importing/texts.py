"""What a text, a name or a number of an imported row may be, and when two texts are the same."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from datetime import date, time
from typing import Any

from annotate.errors import TouchstoneError

LONGEST_TEXT = 1_000_000
LONGEST_NAME = 200
DEEPEST = 24
MOST_VALUES = 10_000
SURROGATE = re.compile("[\ud800-\udfff]")


def canonical(text: str) -> str:
    """The form in which texts are compared: Unicode NFC, line ends as ``\\n``, no space around."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", text).strip()


def digest(text: str) -> str:
    """The identity of a response within its prompt; the stored text stays as it was given."""
    return hashlib.sha256(canonical(text).encode()).hexdigest()


def digest_of_messages(messages: list[dict[str, str]]) -> str:
    """The identity of a prompt: a text is the conversation of one user message."""
    content = [[message["role"], canonical(message["content"])] for message in messages]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def text_of(value: Any, name: str) -> str:
    """A text that can be stored and shown, or an error that says why not."""
    if not isinstance(value, str):
        raise TouchstoneError(f"{name} is {kind(value)}, not a text.", code="type")
    if not value or value.isspace():
        raise TouchstoneError(f"{name} is empty.", code="empty")
    if len(value) > LONGEST_TEXT:
        raise TouchstoneError(
            f"{name} has {len(value):,} characters; the most is {LONGEST_TEXT:,}.", code="long"
        )
    return storable(value, name)


def storable(value: str, name: str) -> str:
    """Refuse what no database keeps: NUL, and halves of surrogate pairs."""
    if "\0" in value:
        raise TouchstoneError(f"{name} contains the character NUL.", code="nul")
    if not value.isascii() and SURROGATE.search(value):
        raise TouchstoneError(f"{name} is not Unicode text (a lone surrogate).", code="encoding")
    return value


def is_storable(value: str) -> bool:
    """Whether a database keeps it."""
    return "\0" not in value and (value.isascii() or not SURROGATE.search(value))


def name_of(value: Any, name: str) -> str:
    """An identifier, a source or a person: short, text or a whole number, empty if missing."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return str(value)
    if not isinstance(value, str):
        raise TouchstoneError(f"{name} is {kind(value)}, not a text or a whole number.", code="type")
    value = value.strip()
    if len(value) > LONGEST_NAME:
        raise TouchstoneError(
            f"{name} has {len(value):,} characters; the most is {LONGEST_NAME}.", code="long"
        )
    return storable(value, name)


def source_of(value: Any, name: str) -> str:
    """A response's source. One that is too long (models joined, say) is cut: it only labels."""
    if isinstance(value, str) and len(value := value.strip()) > LONGEST_NAME:
        return storable(value[: LONGEST_NAME - 1] + "…", name)
    return name_of(value, name)


def number_of(value: Any, name: str) -> float | None:
    """A finite number; None if missing. A text is read as one, because CSV has nothing else."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TouchstoneError(f"{name} is {kind(value)}, not a number.", code="number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise TouchstoneError(f"{name} is {str(value)[:40]!r}, not a number.", code="number") from None
    if not math.isfinite(number):
        raise TouchstoneError(f"{name} is {number}, not a finite number.", code="number")
    return number


def tags_of(value: Any) -> list[str]:
    """Tags as a list of texts, or as one text with commas."""
    if value is None or value == "":
        return []
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or len(parts) > 100:
        raise TouchstoneError(f"tags are {kind(value)}, not a list of at most 100 texts.", code="type")
    return [tag for part in parts if (tag := name_of(part, "a tag"))]


def json_of(value: Any, name: str) -> Any:
    """Any JSON that both databases keep as it is: bounded in depth and size, finite, storable; times as ISO texts."""
    left = MOST_VALUES

    def checked(part: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if depth > DEEPEST or left < 0:
            raise TouchstoneError(f"{name} is nested too deeply or too large.", code="nesting")
        if isinstance(part, str):
            return storable(part, name)
        if isinstance(part, dict):
            return {checked(key, depth + 1): checked(inner, depth + 1) for key, inner in part.items()}
        if isinstance(part, list):
            return [checked(inner, depth + 1) for inner in part]
        if isinstance(part, (date, time)):
            return part.isoformat()
        if isinstance(part, float) and not math.isfinite(part):
            raise TouchstoneError(f"{name} holds {part}, which is not JSON.", code="number")
        if not isinstance(part, (int, float)) and part is not None:
            raise TouchstoneError(f"{name} holds {kind(part)}, which is not JSON.", code="type")
        return part

    return checked(value, 0)


def kind(value: Any) -> str:
    """A value's type in the words of a person."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "true or false"
    names = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
    return names.get(type(value), f"a {type(value).__name__}")
