"""A project as a file: which kind, which format, written to anything that takes bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from annotate.errors import TouchstoneError
from annotate.exporting.formats import FORMATS, pieces
from annotate.exporting.kinds import KINDS, Export, Kind, Row
from annotate.exporting.labels import Weigh, one
from annotate.exporting.pages import Filters
from annotate.exporting.typed import sometimes_filled, typed_first
from annotate.models import Project, Prompt

NAME = re.compile(r"(?P<kind>[a-z_]+)\.(?P<format>[a-z]+)(?P<packed>\.gz)?\Z")
Progress = Callable[[int], object]  # rows written


class Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True)
class Wanted:
    """What file somebody wants: its kind and format, and whether it is gzipped."""

    kind: str = "trl"
    format: str = "jsonl"
    packed: bool = False

    @property
    def name(self) -> str:
        return f"{self.kind}.{self.format}{'.gz' if self.packed else ''}"

    def check(self) -> None:
        if self.kind not in KINDS:
            raise TouchstoneError(
                f"There is no export {self.kind!r}; there are {', '.join(KINDS)}.", code="gone"
            )
        if self.format not in FORMATS:
            words = f"There is no format {self.format!r}; there are {', '.join(FORMATS)}."
            raise TouchstoneError(words, code="gone")
        if self.packed and self.format == "parquet":
            raise TouchstoneError("Parquet is compressed already; leave .gz out.", code="gone")


def wanted(name: str) -> Wanted:
    """Read a file name such as trl.jsonl, votes.csv.gz or pool.parquet."""
    match = NAME.match(name)
    if match is None:
        raise TouchstoneError(f"{name[:60]!r} is not the name of an export, such as trl.jsonl.", code="gone")
    found = Wanted(match["kind"], match["format"], bool(match["packed"]))
    found.check()
    return found


def begin(project: Project, kind: str, filters: Filters | None = None, weigh: Weigh = one) -> Export:
    """An export that knows whether its prompts are texts or conversations."""
    filters = filters or Filters()
    conversational = KINDS[kind].always_conversational or has_conversations(project)
    return Export(project, filters, weigh, conversational)


def has_conversations(project: Project) -> bool:
    return Prompt.objects.filter(project=project, messages__isnull=False).exists()


def rows(run: Export, file: Wanted) -> Iterator[Row]:
    kind = KINDS[file.kind]
    found = kind.rows(run)
    if file.format == "jsonl":
        found = typed(run, kind)
    for row in found:
        run.rows += 1
        yield row


def typed(run: Export, kind: Kind) -> Iterator[Row]:
    """The rows in an order that gives every column its type at once; what is left out is counted once."""
    names = set(kind.columns(run.conversational))
    if "responses" in names:
        names.add("utility")

    def again() -> Iterator[Row]:
        run.left_out = dict.fromkeys(run.left_out, 0)
        return kind.rows(run)

    return typed_first(again, sometimes_filled(run.project, names))


def stream(run: Export, file: Wanted) -> Iterator[bytes]:
    """The file's bytes, a piece at a time; afterwards ``run`` says how many rows there were and what was left out."""
    file.check()
    columns = KINDS[file.kind].columns(run.conversational)
    return pieces(rows(run, file), columns, file.format, file.packed)


def export(
    project: Project,
    kind: str,
    file: Sink,
    *,
    format: str = "jsonl",
    packed: bool = False,
    filters: Filters | None = None,
    weigh: Weigh = one,
    progress: Progress | None = None,
) -> Export:
    """Write an export to an open binary file; the result has ``rows``, ``left_out`` and ``conversational``."""
    what = Wanted(kind, format, packed)
    what.check()
    run = begin(project, kind, filters, weigh)
    for piece in stream(run, what):
        file.write(piece)
        if progress:
            progress(run.rows)
    return run
