"""What a worker counts: sums in its memory, written with its heartbeat and read by /metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_sums: dict[str, float] = {}
_lock = threading.Lock()


def add(name: str, value: float = 1.0) -> None:
    """Add to a sum that only grows, from the start of this process."""
    with _lock:
        _sums[name] = _sums.get(name, 0.0) + value


def put(name: str, value: float) -> None:
    """A value as it is now."""
    with _lock:
        _sums[name] = value


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Add the seconds inside to ``<name>_seconds`` and one to ``<name>_count``."""
    began = time.perf_counter()
    try:
        yield
    finally:
        add(f"{name}_seconds", time.perf_counter() - began)
        add(f"{name}_count")


def snapshot() -> dict[str, float]:
    with _lock:
        return dict(_sums)
