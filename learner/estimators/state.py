"""State of an estimator as named arrays: what is saved, compared by digest (`learner.store`) and restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from learner.errors import LearnerError
from learner.store import state_digest as state_digest

VERSION = 1
State = dict[str, npt.NDArray[np.generic]]
Saved = Mapping[str, npt.NDArray[np.generic]]


def header(kind: str, dimension: int) -> State:
    """First entries of every state: which estimator, version of the format, dimension."""
    return {
        "kind": np.frombuffer(kind.encode(), dtype=np.uint8),
        "version": np.array(VERSION, dtype=np.int64),
        "dimension": np.array(dimension, dtype=np.int64),
    }


def check_header(state: Saved, kind: str) -> int:
    """Dimension named in a state, after checking that the state is of this kind and version."""
    try:
        found = np.asarray(state["kind"], dtype=np.uint8).tobytes().decode()
        version, dimension = int(state["version"]), int(state["dimension"])
    except (KeyError, TypeError, ValueError) as error:
        raise LearnerError(f"state of a {kind}: no readable kind, version and dimension ({error})") from error
    if found != kind:
        raise LearnerError(f"state of a {found} given to {kind}.from_state")
    if version != VERSION:
        raise LearnerError(f"state of a {kind} has version {version}, this code reads {VERSION}")
    return dimension


def entry(state: Saved, name: str, shape: tuple[int, ...], *, finite: bool = True) -> npt.NDArray[Any]:
    """An array of a state, checked for presence, shape and finiteness."""
    if name not in state:
        raise LearnerError(f"state has no entry {name!r}")
    array = np.asarray(state[name])
    if array.shape != shape:
        raise LearnerError(f"state entry {name!r} has shape {array.shape}, expected {shape}")
    if finite and np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise LearnerError(f"state entry {name!r} is not finite")
    return array
