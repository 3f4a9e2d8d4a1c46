"""Merging shards: the small ones of a pool that grows a few rows at a time, and all of a large one into one file."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from learner.errors import LearnerError
from learner.store import shards
from learner.store.files import new_file

FEW = 64
SMALL = 512
LARGEST = 8192
GRACE_SECONDS = 120.0


def merge_small(folder: Path, encoder: str, few: int = FEW) -> int:
    """Write one shard in the place of many small neighbours; how many files went. O(rows merged).

    What a merged shard covers is removed minutes later, when nobody who listed the folder before can still want it.

    Parameters
    ----------
    folder : Path
        One folder of shards.
    encoder : str
        The digest that all of them carry.
    few : int
        So many small neighbours are left as they are.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for start in range(4):
    ...     _ = shards.write_shard(folder, start, np.full((1, 2), float(start)), "abc")
    >>> merge_small(folder, "abc", few=2), len(list(folder.iterdir()))
    (0, 5)
    >>> shards.load_all(folder, 4, "abc")[:, 0].tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    found = sorted(_ranges(folder))
    covered = [one for one in found if any(_inside(one, other) for other in found)]
    removed = sum(_remove_old(folder, *one) for one in covered)
    run = _last_run([one for one in found if one not in covered])
    if len(run) > few:
        start, stop = run[0][0], run[-1][1]
        rows = shards.read_rows(folder, np.arange(start, stop), encoder)
        shards.write_shard(folder, start, rows, encoder)
    return removed


def _ranges(folder: Path) -> list[shards.Range]:
    matches = (shards._SHARD_NAME.match(path.name) for path in folder.iterdir())
    return [(int(match[1]), int(match[2])) for match in matches if match]


def _inside(one: shards.Range, other: shards.Range) -> bool:
    return one != other and other[0] <= one[0] and one[1] <= other[1]


def _last_run(ranges: list[shards.Range]) -> list[shards.Range]:
    """The small neighbours at the end of the pool, at most as many rows as one shard may have."""
    run: list[shards.Range] = []
    for start, stop in reversed(ranges):
        if stop - start >= SMALL or (run and (run[0][0] != stop or run[-1][1] - start > LARGEST)):
            break
        run.insert(0, (start, stop))
    return run


def _remove_old(folder: Path, start: int, stop: int) -> bool:
    path = shards.shard_path(folder, start, stop)
    if time.time() - path.stat().st_mtime < GRACE_SECONDS:
        return False
    path.unlink(missing_ok=True)
    return True


def merge_all(
    folder: Path, total: int, encoder: str, *, in_use: bool = True, smallest: int = 32 << 20
) -> Path | None:
    """Make one file of positions 0 to total - 1, so that `load_all` maps it instead of copying it. O(total d) of disk.

    Memory stays at one shard. None when that is not worth it: fewer than `smallest` bytes, which cost nothing to
    copy, or a file of more than half of the rows with few others beside it (so the work is amortised as a pool grows).

    Parameters
    ----------
    in_use : bool
        Others may read the folder now: what is covered stays until `merge_small` removes it, minutes later.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for start in (0, 2):
    ...     _ = shards.write_shard(folder, start, np.full((2, 3), float(start)), "abc")
    >>> merge_all(folder, 4, "abc", in_use=False, smallest=0).name
    'shard-000000000-000000004.safetensors'
    >>> shards.load_all(folder, 4)[:, 0].tolist(), shards.present_ranges(folder)
    ([0.0, 0.0, 2.0, 2.0], [(0, 4)])
    """
    found = list(shards._shards(folder))
    if shards._gaps([(start, stop) for start, stop, _ in found], total):
        raise LearnerError(f"{folder} has no embeddings of some of its {total} positions")
    largest = max((stop - start for start, stop, _ in found), default=0)
    if largest >= total or (2 * largest > total and len(found) <= FEW):
        return None
    if sum(path.stat().st_size for *_, path in found) < smallest:
        return None
    whole = shards.shard_path(folder, 0, total)
    _write_whole(whole, found, total, encoder)
    if not in_use:
        for *_, path in found:
            path.unlink(missing_ok=True)
    return whole


def _write_whole(whole: Path, found: Sequence[tuple[int, int, Path]], total: int, encoder: str) -> None:
    width = shards._open_shard(found[0][2], encoder).shape[1]
    digest, covered = hashlib.sha256(), 0
    with new_file(whole) as stream:
        stream.write(_header(total, width, encoder, "0" * 64))
        for start, stop, path in found:
            if min(stop, total) <= covered:
                continue
            shard = shards._open_shard(path, encoder)
            shards._check_width(path, shard, width)
            rows = np.ascontiguousarray(shard[covered - start : total - start], dtype=np.float32)
            digest.update(rows.data)
            stream.write(rows.data)
            covered += len(rows)
        stream.seek(0)
        stream.write(_header(total, width, encoder, digest.hexdigest()))


def _header(total: int, width: int, encoder: str, sha256: str) -> bytes:
    """A safetensors header of one float32 matrix; its length does not depend on the digest."""
    metadata = {"start": "0", "stop": str(total), "encoder": encoder, "texts": "", "sha256": sha256}
    rows = {"dtype": "F32", "shape": [total, width], "data_offsets": [0, 4 * total * width]}
    text = json.dumps({"__metadata__": metadata, "rows": rows}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
