"""What a file would bring, from its first rows: for the page that asks before it imports."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from annotate.errors import TouchstoneError
from annotate.importing import texts
from annotate.importing.conversations import as_text
from annotate.importing.readers import Raw, Source, largest_chunk, opened
from annotate.importing.rows import Options, Row
from annotate.importing.shapes import shape_of, understand
from annotate.importing.sniff import Kind

ROWS = 100
SAMPLES = 5
SECONDS = 3.0  # a page waits for this
BYTES = 16 << 20
LARGEST_CHUNK = 256 << 20  # of a Parquet column: this runs beside the pages that annotators wait for


@dataclass
class Preview:
    """The first rows of a file: which shapes they have, what the first few bring, and what is wrong with others."""

    kind: Kind
    columns: list[str] = field(default_factory=list)
    shapes: Counter[str] = field(default_factory=Counter)
    samples: list[dict[str, Any]] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    prompts: int = 0
    responses: int = 0
    votes: int = 0
    read: int = 0
    is_whole: bool = False

    def take(self, raw: Raw, options: Options) -> None:
        try:
            if raw.problem:
                raise raw.problem
            row = understand(raw.number, raw.value, options)
        except TouchstoneError as problem:
            self.problems.append((raw.number, str(problem)))
            return
        finally:
            if isinstance(raw.value, dict):
                known = set(self.columns)  # a name that no page can show cannot be chosen on one
                self.columns += [name for name in raw.value if name not in known and texts.is_storable(name)]
        self.shapes[shape_of(raw.value, options)] += 1
        self.prompts += row.prompt is not None
        self.responses += len(row.responses)
        self.votes += len(row.votes)
        if len(self.samples) < SAMPLES:
            self.samples.append(sample(row))


def preview(path: Path | str, options: Options | None = None) -> Preview:
    """Read the first rows without storing anything; what they show is data, to be escaped like any other."""
    source = opened(Path(path))
    found = Preview(source.kind)
    with source.file:
        if source.kind.format == "parquet" and largest_chunk(source.file) > LARGEST_CHUNK:
            words = "its row groups are too large to look at here; the import itself reads them."
            found.problems.append((1, words))
            return found
        look(source, found, options or Options())
    return found


def look(source: Source, found: Preview, options: Options) -> None:
    """The first rows, as many as there is time and room for."""
    began, size = time.monotonic(), 0
    rows = source.rows()
    for raw in islice(rows, ROWS):
        found.take(raw, options)
        found.read += 1
        size += raw.size
        if size > BYTES or time.monotonic() - began > SECONDS:
            return
    found.is_whole = next(rows, None) is None


def sample(row: Row) -> dict[str, Any]:
    """A row in short, for a table."""
    return {
        "row": row.number,
        "prompt": as_text(row.prompt.messages)[:300] if row.prompt else row.prompt_id,
        "responses": [(response.source, response.text[:300]) for response in row.responses[:SAMPLES]],
        "votes": [(vote.annotator, vote.answer) for vote in row.votes[:SAMPLES]],
    }
