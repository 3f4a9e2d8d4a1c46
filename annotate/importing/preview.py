"""What a file would bring, from its first rows: for the page that asks before it imports."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from annotate.errors import TouchstoneError
from annotate.importing.conversations import as_text
from annotate.importing.readers import Raw, opened
from annotate.importing.rows import Options, Row
from annotate.importing.shapes import shape_of, understand
from annotate.importing.sniff import Kind

ROWS = 100
SAMPLES = 5


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
                self.columns += [name for name in raw.value if name not in self.columns]
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
        for raw in islice(source.rows(), ROWS):
            found.take(raw, options or Options())
    return found


def sample(row: Row) -> dict[str, Any]:
    """A row in short, for a table."""
    return {
        "row": row.number,
        "prompt": as_text(row.prompt.messages)[:300] if row.prompt else row.prompt_id,
        "responses": [(response.source, response.text[:300]) for response in row.responses[:SAMPLES]],
        "votes": [(vote.annotator, vote.answer) for vote in row.votes[:SAMPLES]],
    }
