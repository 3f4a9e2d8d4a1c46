"""Cursor pagination: rows after a key, so a page stays the same while new rows come."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Generic, TypeVar

from django.db.models import Model, QuerySet
from ninja import Schema
from pydantic import Field

from annotate.api.problems import Problem

Item = TypeVar("Item")
Row = TypeVar("Row", bound=Model)
MOST = 200


class Paging(Schema):
    limit: int = Field(50, ge=1, le=MOST, description="How many at most.")
    cursor: str = Field(
        "", max_length=100, pattern=r"^[A-Za-z0-9_-]*$", description="What the page before gave as next."
    )


class Page(Schema, Generic[Item]):
    items: list[Item]
    next: str | None = Field(None, description="The cursor of the next page; null on the last.")


def page_of(
    rows: QuerySet[Row], paging: Paging, field: str = "pk", newest_first: bool = False
) -> dict[str, Any]:
    """One page of rows in the order of a unique integer field."""
    if paging.cursor:
        rows = rows.filter(**{f"{field}__{'lt' if newest_first else 'gt'}": key_of(paging.cursor)})
    found = list(rows.order_by(f"-{field}" if newest_first else field)[: paging.limit + 1])
    shown = found[: paging.limit]
    more = len(found) > paging.limit
    return {"items": shown, "next": cursor_of(int(getattr(shown[-1], field))) if more else None}


def cursor_of(key: int) -> str:
    return base64.urlsafe_b64encode(f"k{key}".encode()).decode().rstrip("=")


def key_of(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    if not (text.startswith("k") and text[1:].isdigit() and len(text) < 20):
        raise Problem(422, "invalid", "query.cursor: this is no cursor that a page gave.")
    return int(text[1:])
