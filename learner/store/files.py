"""Files written whole or not at all and checked when read; a learner's state is one of them."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from learner.errors import LearnerError

_HEADER_LIMIT = 1 << 24
_ABANDONED_AFTER_S = 3600.0

State = dict[str, npt.NDArray[np.generic]]


def write_atomically(path: Path, payload: bytes) -> None:
    """Write a file so that readers see the old content or the new, even after a power cut.

    Use it for every file whose loss would matter. Cost: O(bytes) and two fsyncs.

    Parameters
    ----------
    path : Path
        Where the file will be; its folder is made when missing.
    payload : bytes
        The whole content.

    Raises
    ------
    LearnerError
        When the system refuses (full disk, no permission). The old file, if any, is untouched.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> write_atomically(path, b"kept")
    >>> path.read_bytes()
    b'kept'
    """
    with new_file(path) as stream:
        stream.write(payload)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes its place only when all went well, as in `write_atomically`."""
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_abandoned(path)
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        _discard(temporary)
        reason = error.strerror or error
        raise LearnerError(f"could not write {path}: {reason}; what was there is unchanged") from error
    except BaseException:
        _discard(temporary)
        raise


def _discard(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return  # the error already on its way up says more than this one would


def _sync_folder(folder: Path) -> None:
    # A rename is only durable once the folder that holds the name is on disk.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep_abandoned(path: Path) -> None:
    # kill -9 between write and rename leaves a temporary file; an hour later nobody can still be writing it.
    now = time.time()
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        if now - leftover.stat().st_mtime > _ABANDONED_AFTER_S:
            leftover.unlink(missing_ok=True)


def state_digest(state: Mapping[str, npt.ArrayLike]) -> str:
    """sha256 over sorted names, dtypes, shapes and bytes: equal exactly when two states are bit-identical.

    Cost: O(bytes).

    Examples
    --------
    >>> one, two = {"theta": np.zeros(2)}, {"theta": np.array([0.0, 1e-300])}
    >>> state_digest(one) == state_digest(two)
    False
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        array = np.asarray(state[name], order="C")
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_state(
    path: Path, state: Mapping[str, npt.ArrayLike], metadata: Mapping[str, str] | None = None
) -> str:
    """Write a learner's state and return its digest, to be kept where the file is named. O(bytes).

    Parameters
    ----------
    path : Path
        Usually ends in ``.safetensors``.
    state : mapping of name to array
        Numbers and booleans of any shape; no objects, no strings.
    metadata : mapping of str to str
        Carried in the file's header (`read_metadata`).

    Raises
    ------
    LearnerError
        An array that is no number, or a disk that refuses (then the old file stays).

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "state.safetensors"
    >>> digest = write_state(path, {"theta": np.arange(3.0)}, {"step": "7"})
    >>> read_state(path, digest)["theta"], read_metadata(path)["step"]
    (array([0., 1., 2.]), '7')
    """
    arrays = {name: np.asarray(value, order="C") for name, value in state.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise LearnerError(f"{name} in the state for {path} is {array.dtype}: only numbers are stored")
    digest = state_digest(arrays)
    write_atomically(path, save(arrays, metadata={**(metadata or {}), "digest": digest}))
    return digest


def read_state(path: Path, expected_digest: str | None = None) -> State:
    """Read a state and prove that it is the one that was written. O(bytes).

    Raises
    ------
    LearnerError
        A missing, truncated or changed file, or one whose digest is not `expected_digest`.

    Examples
    --------
    >>> read_state(Path("nowhere.safetensors"))
    Traceback (most recent call last):
    learner.errors.LearnerError: could not read nowhere.safetensors: No such file or directory
    """
    try:
        state: State = load(path.read_bytes())
    except OSError as error:
        raise LearnerError(f"could not read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, KeyError) as error:
        raise LearnerError(f"{path} is damaged: {error}") from error
    digest = state_digest(state)
    if digest != read_metadata(path).get("digest"):
        raise LearnerError(f"{path} is damaged: its content does not match the digest in its header")
    if expected_digest is not None and digest != expected_digest:
        raise LearnerError(f"{path} holds state {digest[:12]}, not {expected_digest[:12]}")
    return state


def read_metadata(path: Path) -> dict[str, str]:
    """Texts in a file's header, after checking that the file is as long as the header says. O(header).

    Raises
    ------
    LearnerError
        A missing or truncated file.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "state.safetensors"
    >>> _ = write_state(path, {"step": np.array(7)}, {"estimator": "OnePass"})
    >>> read_metadata(path)["estimator"]
    'OnePass'
    """
    header, _ = read_header(path)
    return {str(name): str(value) for name, value in header.get("__metadata__", {}).items()}


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            fits = 8 + length <= size and length < _HEADER_LIMIT
            header = json.loads(stream.read(length)) if fits else None
    except OSError as error:
        raise LearnerError(f"could not read {path}: {error.strerror or error}") from error
    except ValueError:
        header = None
    if not isinstance(header, dict) or 8 + length + _data_bytes(header) != size:
        raise LearnerError(f"{path} is damaged: it is {size} bytes, not what its header says")
    return header, 8 + length


def _data_bytes(header: Mapping[str, object]) -> int:
    entries = [entry for name, entry in header.items() if name != "__metadata__" and isinstance(entry, dict)]
    return max((int(entry["data_offsets"][1]) for entry in entries), default=0)
