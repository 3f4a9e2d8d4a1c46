"""Files cut into lines and JSON values in bounded memory, whatever the file holds."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from annotate.errors import TouchstoneError

LONGEST_ROW = 16 << 20
LONGEST_SKIPPED = 1 << 30
LARGEST_UNPACKED = 32 << 30
PIECE = 1 << 20
OUTSIDE = re.compile(rb'["\[\]{},]')
INSIDE = re.compile(rb'["\\\n]')  # a line end inside quotes is an error, and a chance to find back


class Unpacked(io.RawIOBase):
    """A gzip stream that stops with a sentence when it unpacks to more than any real file would."""

    def __init__(self, packed: BinaryIO) -> None:
        self.stream, self.size = gzip.GzipFile(fileobj=packed), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = self.stream.readinto1(buffer)  # what there is, so that damage later on costs nothing before it
        self.size += size
        if self.size > LARGEST_UNPACKED:
            raise TouchstoneError(
                f"the file unpacks to more than {LARGEST_UNPACKED >> 30} GiB; the rest was not read.",
                code="bomb",
            )
        return size


def unpacked(file: BinaryIO, packed: bool) -> BinaryIO:
    """The plain bytes of a file that may be packed; the file stays open when this is let go."""
    return io.BufferedReader(Unpacked(file), PIECE) if packed else file


def lines(file: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a file; None stands for one that is too long to be read."""
    while line := file.readline(LONGEST_ROW + 1):
        if len(line) > LONGEST_ROW:
            skip_line(file, line)
            yield None
        else:
            yield line


def skip_line(file: BinaryIO, piece: bytes) -> None:
    """Pass over the rest of a line, but not over gigabytes of it."""
    skipped = len(piece)
    while piece and not piece.endswith(b"\n"):
        piece = file.readline(PIECE)
        skipped += len(piece)
        if skipped > LONGEST_SKIPPED:
            raise TouchstoneError(
                f"one line is longer than {LONGEST_SKIPPED >> 30} GiB; the rest was not read.", code="bomb"
            )


def values(file: BinaryIO) -> Iterator[bytes | None]:
    """The JSON values of a file that is one array, several values, or both; None for one that is too long.

    Only quotes and brackets are looked at, so a value that is broken inside does not take its neighbours along.
    """
    cutter = Cutter()
    cutter.held += file.read(3).removeprefix(b"\xef\xbb\xbf")
    while piece := file.read(PIECE):
        yield from cutter.feed(piece)
    yield from cutter.end()


class Cutter:
    """Finds where values end: at a comma or bracket in an outermost array, at the last bracket elsewhere."""

    def __init__(self) -> None:
        self.held = bytearray()
        self.position = self.depth = self.base = 0
        self.quoted = self.too_long = False

    def feed(self, piece: bytes) -> Iterator[bytes | None]:
        self.held += piece
        while match := (INSIDE if self.quoted else OUTSIDE).search(self.held, self.position):
            mark, end = match.group(), match.end()
            if mark == b"\\" and end == len(self.held):
                self.position = match.start()
                break
            self.position = end + (mark == b"\\")
            if cut := self.step(mark, match.start()):
                yield from self.take(*cut)
        else:
            self.position = max(self.position, len(self.held))
        self.shorten()

    def step(self, mark: bytes, start: int) -> tuple[int, int] | None:
        """Follow one mark; where a value ends with it, the value's end and the next one's start."""
        if mark in b'"\n':
            self.quoted = not self.quoted
        elif mark in b"[{":
            if mark == b"[" and self.base == self.depth == 0 and not self.held[:start].strip():
                self.base = 1
                del self.held[: start + 1]
                self.position = 0
            self.depth += 1
        elif mark in b"]}":
            return self.close(mark, start)
        elif mark == b"," and self.depth == self.base:
            return start, start + 1
        return None

    def close(self, mark: bytes, start: int) -> tuple[int, int] | None:
        self.depth = max(0, self.depth - 1)
        if self.base and self.depth == 0:
            self.base = 0
            return start, start + 1
        if self.depth == self.base:
            return start + 1, start + 1
        return None

    def take(self, end: int, begin: int) -> Iterator[bytes | None]:
        value = bytes(self.held[:end])
        del self.held[:begin]
        self.position -= begin
        if self.too_long or len(value) > LONGEST_ROW:
            yield None
        elif value.strip():
            yield value
        self.too_long = False

    def shorten(self) -> None:
        """Let go of a value that is too long already, but go on looking for its end."""
        if len(self.held) > LONGEST_ROW and self.position:
            del self.held[: self.position]
            self.position, self.too_long = 0, True

    def end(self) -> Iterator[bytes | None]:
        yield from self.take(len(self.held), len(self.held))
