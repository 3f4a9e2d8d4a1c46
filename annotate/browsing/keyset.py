"""Pages by the last row's values instead of by number: as quick at row one million, and stable while rows come in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Model, Q, QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from annotate.errors import TouchstoneError

PAGE = 50
COUNTED = 1_000
SEPARATOR = "~"


@dataclass(frozen=True)
class Order:
    """Columns of one direction whose values together name a row, and what is left out where they are unknown."""

    label: str | Promise
    columns: tuple[tuple[str, Callable[[str], Any]], ...]
    descending: bool = False
    only: Q = field(default_factory=Q)

    @property
    def terms(self) -> list[str]:
        return [("-" if self.descending else "") + name for name, _kind in self.columns]

    def values(self, text: str) -> list[Any]:
        """The values that a page's address names; an error if they are none."""
        parts = text.split(SEPARATOR)
        try:
            found = [kind(part) for (_name, kind), part in zip(self.columns, parts, strict=True)]
        except (ValueError, OverflowError):
            found = []
        if not found or any(isinstance(v, float) and not math.isfinite(v) for v in found):
            raise TouchstoneError(_("This page's address does not name a row. Begin at the first page."))
        return found

    def beyond(self, values: Sequence[Any]) -> Q:
        """Rows that come after these values: (a, b) > (x, y), written so that an index on (a, b) serves it."""
        way = "lt" if self.descending else "gt"
        (first, _), *rest = self.columns
        if not rest:
            return Q(**{f"{first}__{way}": values[0]})
        ((second, _),) = rest
        tie = Q(**{first: values[0], f"{second}__{way}": values[1]})
        return Q(**{f"{first}__{way}e": values[0]}) & (Q(**{f"{first}__{way}": values[0]}) | tie)

    def cursor(self, row: Model) -> str:
        return SEPARATOR.join(repr(value_of(row, name)) for name, _kind in self.columns)


def whole(text: str) -> int:
    """A number as a key can be; longer ones would not fit any column."""
    if not text.lstrip("-").isdecimal() or len(text) > 18:
        raise ValueError(text)
    return int(text)


def value_of(row: Model, name: str) -> Any:
    value: Any = row
    for part in name.split("__"):
        value = getattr(value, part)
    return value


@dataclass(frozen=True)
class Page:
    rows: list[Any]
    following: str  # the address of the next page's first row, or nothing
    is_first: bool
    total: int | None  # None: nobody counted that far


def as_it_is(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows


def page_of(
    rows: QuerySet[Any], order: Order, after: str, known: int | None = None, size: int = PAGE, *,
    shown: Callable[[QuerySet[Any]], QuerySet[Any]] = as_it_is,
) -> Page:  # fmt: skip
    """One page. ``known`` is the number of rows if it is kept somewhere; else up to a thousand are counted.

    ``shown`` joins what is shown of a row: to the page's rows alone, so that no join decides how they are found, and
    nothing that was asked of them is asked again.
    """
    rows = rows.filter(order.only)
    wanted = rows.filter(order.beyond(order.values(after))) if after else rows
    keys = list(wanted.order_by(*order.terms).values_list("pk", flat=True)[: size + 1])
    more = len(keys) > size
    page = rows.model._default_manager.filter(pk__in=keys[:size])
    found = list(shown(page).order_by(*order.terms)) if keys else []
    if known is None:
        known = len(found) if not after and not more else capped(rows)
    return Page(found, order.cursor(found[-1]) if more and found else "", not after, known)


def capped(rows: QuerySet[Any]) -> int | None:
    count = rows.order_by().values("pk")[: COUNTED + 1].count()
    return count if count <= COUNTED else None
