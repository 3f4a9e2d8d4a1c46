"""Rows as bytes: JSON Lines, CSV and Parquet, plain or gzipped, a piece at a time."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
BATCH = 500
ROW_GROUP = 5_000
FORMULA = re.compile(r"'*[=+\-@\t\r]")


class Writer(Protocol):
    def write(self, rows: list[Row]) -> None: ...
    def close(self) -> None: ...


class JsonLines:
    def __init__(self, out: BinaryIO, columns: dict[str, pa.DataType]) -> None:
        self.out = out

    def write(self, rows: list[Row]) -> None:
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
        self.out.write("".join(line + "\n" for line in lines).encode())

    def close(self) -> None:
        """Nothing is held back."""


class Csv:
    """Lists are JSON in their cell. A text that a spreadsheet would take for a formula gets an apostrophe before
    it, as does one that has an apostrophe there already: so an import can take exactly one off."""

    def __init__(self, out: BinaryIO, columns: dict[str, pa.DataType]) -> None:
        self.out, self.text = out, io.StringIO()
        self.csv = csv.DictWriter(self.text, list(columns))
        self.csv.writeheader()

    def write(self, rows: list[Row]) -> None:
        self.csv.writerows({name: cell(value) for name, value in row.items()} for row in rows)
        self.flush()

    def flush(self) -> None:
        self.out.write(self.text.getvalue().encode())
        self.text.seek(0)
        self.text.truncate()

    def close(self) -> None:
        self.flush()


def cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if FORMULA.match(value) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


class Parquet:
    def __init__(self, out: BinaryIO, columns: dict[str, pa.DataType]) -> None:
        self.schema = pa.schema(list(columns.items()))
        self.writer = pq.ParquetWriter(out, self.schema, compression="zstd")
        self.held: list[pa.RecordBatch] = []

    def write(self, rows: list[Row]) -> None:
        self.held.append(pa.RecordBatch.from_pylist(rows, self.schema))
        if sum(map(len, self.held)) >= ROW_GROUP or sum(batch.nbytes for batch in self.held) > 64 << 20:
            self.flush()

    def flush(self) -> None:
        if self.held:
            self.writer.write_table(pa.Table.from_batches(self.held, self.schema))
            self.held = []

    def close(self) -> None:
        self.flush()
        self.writer.close()


FORMATS: dict[str, Callable[[BinaryIO, dict[str, pa.DataType]], Writer]] = {
    "jsonl": JsonLines,
    "csv": Csv,
    "parquet": Parquet,
}
MEDIA = {"jsonl": "application/jsonl", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


class Pieces(io.RawIOBase):
    """A file to write to whose bytes are taken away piece by piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self.pieces.append(piece)
        self.size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self.size

    def take(self) -> bytes:
        taken, self.pieces = b"".join(self.pieces), []
        return taken


def pieces(
    rows: Iterable[Row], columns: dict[str, pa.DataType], form: str, packed: bool = False
) -> Iterator[bytes]:
    """The file's bytes as the rows come, in constant memory."""
    target = Pieces()
    out: Any = gzip.GzipFile(fileobj=target, mode="wb", compresslevel=6, mtime=0) if packed else target
    writer = FORMATS[form](out, columns)
    rows = iter(rows)
    while batch := list(islice(rows, BATCH)):
        writer.write(batch)
        if piece := target.take():
            yield piece
    writer.close()
    if packed:
        out.close()
    yield target.take()
