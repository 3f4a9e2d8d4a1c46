"""The broker of an installation without services: messages are files in a folder, each there whole or not at all.

Kombu's own transport of this name opens a message and then writes it, so a worker that looks in between reads
nothing, takes that for damage, and ends.
"""

from __future__ import annotations

import time
import uuid
from json import dumps, loads
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem


class Channel(filesystem.Channel):
    """Messages are written beside their place and renamed into it; taking one is renaming it, too."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]
        name = f"{time.monotonic_ns():019d}_{uuid.uuid4()}"
        unfinished = Path(self.data_folder_out) / f"{name}.part"
        unfinished.write_text(dumps(payload))
        unfinished.rename(unfinished.with_name(f"{name}.{queue}.msg"))

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        """The oldest message of the queue; one that cannot be read (the disk was full) is dropped, as a bell may be."""
        for place in sorted(Path(self.data_folder_in).glob(f"*.{queue}.msg")):
            taken = place.with_suffix(".taken")
            try:
                place.rename(taken)
                payload = taken.read_bytes()
                taken.unlink()
                return loads(payload)
            except (OSError, ValueError):
                continue  # another worker took it
        raise Empty


class Transport(filesystem.Transport):
    Channel = Channel
