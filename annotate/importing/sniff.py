"""What kind of file this is, from its first bytes; the name decides only where the bytes do not."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from annotate.errors import TouchstoneError
from annotate.importing.lines import unpacked

HEAD = 1 << 18
SEPARATOR = re.compile(
    rb'"?sep=([^\w\s"]|\t)"?\s*', re.IGNORECASE
)  # what Excel is told in a line before the header
UNREADABLE = {
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\x28\xb5\x2f\xfd": "packed with zstandard; pack it with gzip instead",
    b"\xfd7zXZ": "packed with xz; pack it with gzip instead",
    b"BZh": "packed with bzip2; pack it with gzip instead",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}


@dataclass(frozen=True)
class Kind:
    """How to read a file: its format, and whether gzip is around it."""

    format: str  # jsonl, json, csv, parquet
    packed: bool = False
    delimiter: str = ","


def sniff(path: Path | str, name: str = "") -> Kind:
    """Recognise a file, or say in a sentence what it is instead; ``name`` is what its owner calls it."""
    path = Path(path)
    named = Path(name or path.name)
    try:
        with path.open("rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            head = beginning(unpacked(file, packed))
    except (OSError, EOFError, zlib.error) as error:
        raise TouchstoneError(f"{named.name} cannot be read: {error}.", code="file") from None
    if not head.strip():
        raise TouchstoneError(f"{named.name} is empty.", code="file")
    for magic, what in UNREADABLE.items():
        if head.startswith(magic):
            raise TouchstoneError(f"{named.name} is {what}.", code="file")
    if head.startswith(b"PAR1"):
        if packed:
            raise TouchstoneError(f"{named.name} is Parquet inside gzip; unpack it first.", code="file")
        return Kind("parquet")
    return text_kind(named, packed, head.removeprefix(b"\xef\xbb\xbf"))


def beginning(file: BinaryIO) -> bytes:
    """The first bytes; of a file that ends in the middle of its packing, those that can be had."""
    head = b""
    while len(head) < HEAD:
        try:
            piece = file.read1(HEAD)  # type: ignore[attr-defined]
        except (OSError, EOFError, zlib.error):
            if head:
                break
            raise
        if not piece:
            break
        head += piece
    return head


def text_kind(path: Path, packed: bool, head: bytes) -> Kind:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix in (".csv", ".tsv"):
        return Kind("csv", packed, delimiter_of(head))
    by_line = suffix in (".jsonl", ".ndjson")
    if re.match(rb"\s*\[\s*(\{|$)", head):
        return Kind("jsonl" if by_line and first_line_is_a_value(head) else "json", packed)
    if by_line:
        return Kind("jsonl", packed)
    if head.lstrip()[:1] in (b"{", b"["):
        return Kind("jsonl" if first_line_is_a_value(head) else "json", packed)
    return Kind("csv", packed, delimiter_of(head))


def first_line_is_a_value(head: bytes) -> bool:
    """Whether lines are values: the first is one, and another follows, or none and it is no array."""
    line, _, rest = head.lstrip().partition(b"\n")
    if not rest.strip():
        return not line.startswith(b"[")
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def delimiter_of(head: bytes) -> str:
    line = head.partition(b"\n")[0]
    if told := SEPARATOR.fullmatch(line):
        return told[1].decode()
    header = line.decode("utf-8", "replace")
    return max(",;\t", key=header.count)
