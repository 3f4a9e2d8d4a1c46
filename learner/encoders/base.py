"""What every encoder shares: the interface, the text made of prompt and response, batches, digests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from learner.errors import LearnerError

FloatArray = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]

COMPOSE_VERSION = 1
"""Part of every encoder's digest: raise it when `compose` gives another text."""

CHARACTERS_PER_TOKEN = 8
"""More than texts have, so that the token limit cuts, not this."""


class Encoder(Protocol):
    """What the rest of the program needs of an encoder."""

    @property
    def name(self) -> str:
        """As it is chosen and shown."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    @property
    def digest(self) -> str:
        """Changes whenever the same text could give another vector."""

    def compose(self, prompt: str, response: str) -> str:
        """Make the text that stands for a prompt and a response."""

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> FloatArray:
        """Return one row per text, in order; `progress(done, total)` is called as batches finish."""


def compose(prompt: str, response: str, tokens: int = 256) -> str:
    """Join the end of the prompt, a blank line and the start of the response. O(characters).

    Encoders read a limited number of tokens; this way neither side is lost at the limit. The prompt's share
    is counted in UTF-8 bytes, since scripts that take more bytes a character also take more tokens.

    Parameters
    ----------
    prompt, response : str
    tokens : int
        What the encoder reads; the prompt gets at most 300 bytes per 256 tokens.

    Examples
    --------
    >>> compose("Why is the sky blue?", "Because of scattering.")
    'Why is the sky blue?\\n\\nBecause of scattering.'
    >>> compose("one two three", "four", tokens=5)
    'three\\n\\nfour'
    """
    encoded = prompt.encode("utf-8", "replace")
    end = encoded[-max(tokens * 300 // 256, 1) :].decode("utf-8", "ignore")
    return f"{end}\n\n{response[: tokens * CHARACTERS_PER_TOKEN]}"


def batches_by_length(lengths: Sequence[int], token_budget: int) -> Iterator[npt.NDArray[np.intp]]:
    """Group texts of like length so that little is padded; longest first, so that memory runs out early or never.

    Cost: O(n log n). Every index comes exactly once; a batch's count times its longest length stays within
    `token_budget` unless it holds one text.

    Examples
    --------
    >>> [batch.tolist() for batch in batches_by_length([3, 9, 4, 3], token_budget=9)]
    [[1], [2, 0], [3]]
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        stop = start + max(token_budget // longest, 1)
        yield order[start:stop]
        start = stop


def file_sha256(path: Path) -> str:
    """sha256 of a file's content. O(bytes), constant memory.

    Raises
    ------
    LearnerError
        A file that cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise LearnerError(f"could not read {path}: {error.strerror or error}") from error


def digest_of(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
