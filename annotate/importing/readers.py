"""Files as numbered rows. A row that cannot be read is a row with a problem; what follows it is read on."""

from __future__ import annotations

import csv
import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from annotate.errors import TouchstoneError
from annotate.importing.lines import LONGEST_ROW, PIECE, lines, unpacked, values
from annotate.importing.sniff import SEPARATOR, Kind, sniff
from annotate.importing.strictjson import parse
from annotate.importing.texts import SURROGATE

TOO_LONG = TouchstoneError(f"the row is longer than {LONGEST_ROW >> 20} MiB.", code="long")
NOT_UTF8 = TouchstoneError(
    "the file is not UTF-8 text here; save it as UTF-8 (in Excel: “CSV UTF-8”) and import that.",
    code="encoding",
)
PARQUET_BYTES = 256 << 20
LARGEST_CHUNK = 1 << 30
FORMULA = re.compile(r"'+[=+\-@\t\r]")
MESSAGES = re.compile(r'\[\s*\{\s*"(role|content|from|value)"')
JSON_COLUMNS = {
    "responses",
    "completions",
    "candidates",
    "answers",
    "outputs",
    "generations",
    "tags",
    "messages",
    "conversation_a",
    "conversation_b",
}
JSON_COLUMNS |= {
    "criteria",
    "flags",
    "metadata",
    "annotations",
    "data",
    "comparison",
    "pairwise",
    "preference",
}


@dataclass(frozen=True, slots=True)
class Raw:
    """A row as the file has it: its number (a text file's line, a CSV row with the header as 1), or its problem."""

    number: int
    value: Any = None
    problem: TouchstoneError | None = None
    size: int = 0


@dataclass
class Source:
    """An open file, and how far into it the reader is: in bytes, or in rows of a Parquet file."""

    kind: Kind
    file: BinaryIO
    total: int
    passed: int = 0

    def position(self) -> int:
        return self.passed if self.kind.format == "parquet" else min(self.file.tell(), self.total)

    def rows(self) -> Iterator[Raw]:
        """Every row; damage to the file itself ends the reading and is the last row's problem."""
        number = 0
        try:
            for raw in READERS[self.kind.format](self):
                number = raw.number
                yield raw
        except TouchstoneError as error:
            yield Raw(number + 1, problem=error)
        except (EOFError, zlib.error, gzip.BadGzipFile, OSError, pa.ArrowException) as error:
            yield Raw(
                number + 1,
                problem=TouchstoneError(f"the file is damaged: {str(error).rstrip('.')}.", code="damaged"),
            )


def opened(path: Path) -> Source:
    """Recognise the file and open it; close ``.file`` when done."""
    kind = sniff(path)
    file = BufferedReader(FileIO(path), PIECE)
    if kind.format == "parquet":
        try:
            return Source(kind, file, pq.ParquetFile(path).metadata.num_rows)
        except (pa.ArrowException, OSError) as error:
            file.close()
            raise TouchstoneError(f"{path.name} is damaged: {str(error).rstrip('.')}.", code="file") from None
    return Source(kind, file, path.stat().st_size)


def jsonl_rows(source: Source) -> Iterator[Raw]:
    for number, line in enumerate(lines(unpacked(source.file, source.kind.packed)), 1):
        if line is None:
            yield Raw(number, problem=TOO_LONG)
        elif line.strip():
            yield json_row(number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)


def json_rows(source: Source) -> Iterator[Raw]:
    file = unpacked(source.file, source.kind.packed)
    for number, value in enumerate(values(file), 1):
        yield Raw(number, problem=TOO_LONG) if value is None else json_row(number, value)


def json_row(number: int, data: bytes) -> Raw:
    try:
        return Raw(number, parse(data), size=len(data))
    except TouchstoneError as error:
        return Raw(number, problem=error)


def csv_rows(source: Source) -> Iterator[Raw]:
    csv.field_size_limit(LONGEST_ROW)
    reader = csv.reader(
        CsvLines(unpacked(source.file, source.kind.packed)), delimiter=source.kind.delimiter, strict=True
    )
    try:
        header = header_of(reader)
    except (StopIteration, csv.Error) as error:
        raise TouchstoneError(f"the header cannot be read: {error}.", code="csv") from None
    if not is_unicode(header):
        raise NOT_UTF8
    names = [name for name in header if name]
    if len(set(names)) != len(names):
        raise TouchstoneError("two columns have the same name.", code="duplicate_key")
    yield from csv_records(reader, header)


def header_of(reader: Any) -> list[str]:
    """The columns' names, after a line that tells spreadsheets the separator, without empty ones at the end."""
    header = [name.strip().removeprefix("\ufeff") for name in next(reader)]
    if SEPARATOR.fullmatch(reader.dialect.delimiter.join(header).encode("utf-8", "surrogateescape")):
        header = [name.strip() for name in next(reader)]
    while header and not header[-1]:
        header.pop()
    return header


def is_unicode(cells: list[str]) -> bool:
    return all(cell.isascii() or not SURROGATE.search(cell) for cell in cells)


class CsvLines:
    """Lines for the CSV reader. One that is too long is an error of its row only: the next call goes on.

    Bytes that are not UTF-8 become lone surrogates: so the row is named, and its neighbours are read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.lines = lines(file)

    def __iter__(self) -> CsvLines:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        if line is None:
            raise TOO_LONG
        return line.decode("utf-8", "surrogateescape")


def csv_records(reader: Any, header: list[str]) -> Iterator[Raw]:
    number = 1
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Raw(number, problem=TouchstoneError(f"the row is not CSV: {error}.", code="csv"))
            continue
        except TouchstoneError as error:
            yield Raw(number, problem=error)
            continue
        if not any(cells[len(header) :]):
            del cells[len(header) :]  # a spreadsheet writes cells as far as any row ever had them
        if not is_unicode(cells):
            yield Raw(number, problem=NOT_UTF8)
        elif len(cells) == len(header):
            yield Raw(number, csv_row(header, cells), size=sum(map(len, cells)))
        elif cells:
            words = f"the row has {len(cells)} cells where the header has {len(header)}."
            yield Raw(number, problem=TouchstoneError(words, code="csv"))


def csv_row(header: list[str], cells: list[str]) -> dict[str, Any]:
    """A record without its empty cells, and without columns that have no name."""
    named = zip(header, cells, strict=True)
    return {name: cell_value(name, cell) for name, cell in named if name and cell != ""}


def cell_value(name: str, cell: str) -> Any:
    """A cell without an export's guard against formulas; as JSON where the column or the content says so."""
    return cell[1:] if FORMULA.match(cell) else json_value(name, cell)


def json_value(name: str, value: Any) -> Any:
    """What a text says that is JSON by its column's name or by its beginning; anything else as it is."""
    if isinstance(value, str) and (
        (name in JSON_COLUMNS and value.startswith(("[", "{"))) or MESSAGES.match(value)
    ):
        with suppress(TouchstoneError):
            return parse(value.encode("utf-8", "surrogatepass"))
    return value


def parquet_rows(source: Source) -> Iterator[Raw]:
    file = pq.ParquetFile(source.file, pre_buffer=False, buffer_size=1 << 20)
    for batch in file.iter_batches(batch_size=batch_size(file.metadata)):
        step = 1 if batch.nbytes > PARQUET_BYTES else max(1, len(batch))
        for begin in range(0, len(batch), step):
            yield from parquet_part(source, batch.slice(begin, step))


def batch_size(metadata: Any) -> int:
    """So few rows at once that even a column whose every value is as large as its chunk stays in memory.

    A page of a chunk is unpacked whole, so a chunk that is larger than memory allows is refused beforehand.
    """
    largest = largest_column(metadata)
    if largest > LARGEST_CHUNK:
        words = (
            f"a column holds {largest >> 20:,} MiB in one row group; write the file with smaller row groups."
        )
        raise TouchstoneError(words, code="bomb")
    return max(1, min(256, PARQUET_BYTES // max(1, largest)))


def largest_column(metadata: Any) -> int:
    """Bytes of the largest column chunk, unpacked."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    chunks = (group.column(k).total_uncompressed_size for group in groups for k in range(group.num_columns))
    return max(chunks, default=1)


def largest_chunk(file: BinaryIO) -> int:
    """The same of an open file, which is left as it was."""
    found = largest_column(pq.ParquetFile(file).metadata)
    file.seek(0)
    return found


def parquet_part(source: Source, part: pa.RecordBatch) -> Iterator[Raw]:
    if len(part) == 1 and part.nbytes > LONGEST_ROW:
        source.passed += 1
        yield Raw(source.passed, problem=TOO_LONG)
        return
    size = part.nbytes // max(1, len(part))
    for row in part.to_pylist():
        source.passed += 1
        yield Raw(
            source.passed, {name: value for name, value in row.items() if not missing(value)}, size=size
        )


def missing(value: Any) -> bool:
    """Parquet written by pandas has NaN where nothing is."""
    return value is None or (isinstance(value, float) and math.isnan(value))


READERS: dict[str, Callable[[Source], Iterator[Raw]]] = {
    "jsonl": jsonl_rows,
    "json": json_rows,
    "csv": csv_rows,
    "parquet": parquet_rows,
}
