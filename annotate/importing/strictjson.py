"""JSON read strictly: what a lenient reader would let through in silence is an error with a name."""

from __future__ import annotations

import json
from typing import Any

from annotate.errors import TouchstoneError

MOST_CONTAINERS = 100_000


def parse(data: bytes) -> Any:
    """One JSON value, strictly: no NaN, no key twice, no depth or number of parts that is an attack."""
    if len(data) > MOST_CONTAINERS and data.count(b"[") + data.count(b"{") > MOST_CONTAINERS:
        raise TouchstoneError("the row has too many parts.", code="nesting")
    try:
        return json.loads(data.decode(), object_pairs_hook=unique, parse_constant=refuse)
    except UnicodeDecodeError as error:
        raise TouchstoneError(
            f"the row is not UTF-8 text (byte {error.start + 1}).", code="encoding"
        ) from None
    except RecursionError:
        raise TouchstoneError("the row is nested too deeply.", code="nesting") from None
    except json.JSONDecodeError as error:
        raise TouchstoneError(
            f"the row is not JSON: {error.msg} (character {error.pos + 1}).", code="json"
        ) from None
    except ValueError:
        raise TouchstoneError("the row holds a number with too many digits.", code="number") from None


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen = set[str]()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise TouchstoneError(f"the key {twice[:40]!r} appears twice.", code="duplicate_key")
    return found


def refuse(constant: str) -> Any:
    raise TouchstoneError(f"the row holds {constant}, which is not JSON.", code="number")
