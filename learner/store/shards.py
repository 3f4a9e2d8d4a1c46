"""A pool's embeddings: a folder of shards, one file per range of response positions.

Several machines may write shards of one folder at once; what is missing can be asked at any time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from learner.errors import LearnerError
from learner.store.files import read_header, read_metadata, write_atomically

SHARD_SIZE = 4096
"""Rows per shard: 6 MB at 384 dimensions, seconds of work lost when an embedding worker dies."""

_SHARD_NAME = re.compile(r"^shard-(\d{9,})-(\d{9,})\.safetensors$")

Range = tuple[int, int]
FloatArray = npt.NDArray[np.float32]


def shard_path(folder: Path, start: int, stop: int) -> Path:
    """Name of the shard that holds positions start to stop - 1. O(1).

    Examples
    --------
    >>> shard_path(Path("f"), 0, 4096).name
    'shard-000000000-000004096.safetensors'
    """
    return folder / f"shard-{start:09d}-{stop:09d}.safetensors"


def texts_digest(texts: Sequence[str]) -> str:
    """Digest of a shard's inputs, so that a changed text can be told from an embedded one. O(characters).

    Examples
    --------
    >>> texts_digest(["ab", "c"]) == texts_digest(["a", "bc"])
    False
    """
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


def write_shard(
    folder: Path, start: int, rows: npt.NDArray[np.floating], encoder: str = "", texts: str = ""
) -> Path:
    """Write the embeddings of positions start, start + 1, ... as one file. O(n d).

    Parameters
    ----------
    folder : Path
        One folder per pool and encoder.
    start : int
        Position of the first row.
    rows : (n, d) array
        float16 is kept as it is (half the disk); everything else is stored as float32.
    encoder : str
        The encoder's digest; reading can insist on it.
    texts : str
        Digest of the inputs (`texts_digest`).

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    LearnerError
        Rows that are not a finite, non-empty matrix, a negative start, or a disk that refuses.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_shard(folder, 0, np.ones((3, 2)), encoder="abc").name
    'shard-000000000-000000003.safetensors'
    >>> present_ranges(folder)
    [(0, 3)]
    """
    rows = np.asarray(rows)
    if rows.ndim != 2 or 0 in rows.shape or start < 0:
        raise LearnerError(f"a shard is a non-empty matrix from position 0 on, not {rows.shape} from {start}")
    if not np.isfinite(rows).all():
        raise LearnerError(f"embeddings from position {start} on contain NaN or infinity")
    stored = np.ascontiguousarray(rows, dtype=np.float16 if rows.dtype == np.float16 else np.float32)
    stop = start + len(stored)
    metadata = {
        "start": str(start),
        "stop": str(stop),
        "encoder": encoder,
        "texts": texts,
        "sha256": hashlib.sha256(stored.data).hexdigest(),
    }
    path = shard_path(folder, start, stop)
    write_atomically(path, save({"rows": stored}, metadata=metadata))
    return path


def present_ranges(folder: Path, encoder: str | None = None) -> list[Range]:
    """Ranges [start, stop) that have a readable shard, sorted. O(files), reads only headers.

    A truncated shard counts as absent, so that the next embedding job writes it again.

    Raises
    ------
    LearnerError
        When `encoder` is given and a shard was made by another: one folder holds one encoder's rows.

    Examples
    --------
    >>> present_ranges(Path("nowhere-at-all"))
    []
    """
    found = []
    for start, stop, path in _shards(folder):
        try:
            metadata = read_metadata(path)
        except LearnerError:
            continue
        _check_encoder(path, metadata, encoder)
        found.append((start, stop))
    return found


def missing_ranges(
    folder: Path, total: int, shard_size: int = SHARD_SIZE, encoder: str | None = None
) -> list[Range]:
    """Ranges still to embed, cut at multiples of `shard_size`. O(files + total / shard_size).

    Calling it again after a crash gives what is left, whatever had been written.

    Examples
    --------
    >>> missing_ranges(Path("nowhere-at-all"), total=10, shard_size=4)
    [(0, 4), (4, 8), (8, 10)]
    """
    if total < 0 or shard_size < 1:
        raise LearnerError(f"cannot cut {total} rows into shards of {shard_size}")
    missing: list[Range] = []
    for start, stop in _gaps(present_ranges(folder, encoder), total):
        while start < stop:
            cut = min(stop, (start // shard_size + 1) * shard_size)
            missing.append((start, cut))
            start = cut
    return missing


def read_rows(folder: Path, rows: npt.ArrayLike, encoder: str | None = None) -> FloatArray:
    """Embeddings of some positions, in the order asked. O(len(rows) d) after a first check of each shard.

    Use it for a few rows of a large pool: shards are memory-mapped, only the pages asked for are read.

    Raises
    ------
    LearnerError
        A position without a shard, a damaged shard, or one made by another encoder.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = write_shard(folder, 0, np.arange(6.0).reshape(3, 2))
    >>> read_rows(folder, [2, 0])
    array([[4., 5.],
           [0., 1.]], dtype=float32)
    """
    wanted = np.asarray(rows, dtype=np.int64).reshape(-1)
    result: FloatArray | None = None
    pending = np.ones(len(wanted), dtype=bool)
    lowest, highest = int(wanted.min(initial=0)), int(wanted.max(initial=-1))
    for start, stop, path in _shards(folder):
        if start > highest or stop <= lowest:
            continue
        here = pending & (wanted >= start) & (wanted < stop)
        if not here.any():
            continue
        shard = _open_shard(path, encoder)
        result = np.empty((len(wanted), shard.shape[1]), np.float32) if result is None else result
        _check_width(path, shard, result.shape[1])
        result[here] = shard[wanted[here] - start]
        pending &= ~here
    if pending.any():
        raise LearnerError(f"no embedding of position {int(wanted[pending][0])} in {folder}")
    return np.empty((0, 0), np.float32) if result is None else result


def load_all(folder: Path, total: int, encoder: str | None = None) -> FloatArray:
    """Every embedding from position 0 to total - 1 as one (total, d) float32 array. O(total d).

    A float32 shard that holds all is returned memory-mapped and read-only (`merging.merge_all` makes one); several
    are copied into one array.

    Raises
    ------
    LearnerError
        A gap, a damaged shard, shards of different width or, if `encoder` is given, of another encoder.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = write_shard(folder, 0, np.zeros((2, 3)))
    >>> _ = write_shard(folder, 2, np.ones((1, 3)))
    >>> load_all(folder, 3).sum(axis=1).tolist()
    [0.0, 0.0, 3.0]
    """
    shards = [shard for shard in _shards(folder) if shard[0] < total]
    shards = [whole for whole in shards if whole[0] == 0 and whole[1] >= total][:1] or shards
    gaps = _gaps([(start, stop) for start, stop, _ in shards], total)
    if gaps or not shards:
        start, stop = gaps[0] if gaps else (0, total)
        raise LearnerError(f"no embeddings of positions {start} to {stop - 1} in {folder}")
    first = _open_shard(shards[0][2], encoder)
    if len(first) >= total and first.dtype == np.float32:
        return first[:total]
    result = np.empty((total, first.shape[1]), np.float32)
    for start, stop, path in shards:
        shard = _open_shard(path, encoder)
        _check_width(path, shard, result.shape[1])
        result[start:stop] = shard[: total - start]
    return result


def _shards(folder: Path) -> Iterator[tuple[int, int, Path]]:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return
    matches = [match for match in map(_SHARD_NAME.match, names) if match]
    for match in sorted(matches, key=lambda match: (int(match[1]), int(match[2]))):
        yield int(match[1]), int(match[2]), folder / match[0]


def _gaps(ranges: Sequence[Range], total: int) -> list[Range]:
    gaps, covered = [], 0
    for start, stop in [*sorted(ranges), (total, total)]:
        if min(start, total) > covered:
            gaps.append((covered, min(start, total)))
        covered = max(covered, stop)
    return gaps


def _open_shard(path: Path, encoder: str | None) -> npt.NDArray[np.floating]:
    stat = path.stat()
    rows, metadata = _checked_shard(path, (stat.st_ino, stat.st_mtime_ns, stat.st_size))
    _check_encoder(path, dict(metadata), encoder)
    return rows


@lru_cache(maxsize=256)
def _checked_shard(
    path: Path, identity: tuple[int, int, int]
) -> tuple[npt.NDArray[np.floating], tuple[tuple[str, str], ...]]:
    # Hashing a shard costs milliseconds, so it is done once per file and process; `identity` keys the cache.
    header, offset = read_header(path)
    try:
        entry, metadata = header["rows"], header["__metadata__"]
        dtype = {"F32": np.float32, "F16": np.float16}[str(entry["dtype"])]
        rows: npt.NDArray[np.floating] = np.memmap(path, dtype, "r", offset, tuple(entry["shape"]))
    except (KeyError, TypeError, ValueError) as error:
        raise LearnerError(f"{path} is no shard of embeddings: {error}") from error
    if hashlib.sha256(rows.data).hexdigest() != metadata.get("sha256"):
        raise LearnerError(f"{path} is damaged: its rows do not match the digest in its header")
    return rows, tuple((str(name), str(value)) for name, value in metadata.items())


def _check_encoder(path: Path, metadata: Mapping[str, str], encoder: str | None) -> None:
    made_by = metadata.get("encoder", "")
    if encoder is not None and made_by != encoder:
        raise LearnerError(f"{path} was made by encoder {made_by[:12] or '(none)'}, not by {encoder[:12]}")


def _check_width(path: Path, shard: npt.NDArray[np.floating], width: int) -> None:
    if shard.shape[1] != width:
        raise LearnerError(f"{path} has {shard.shape[1]} dimensions where the shards before it have {width}")
