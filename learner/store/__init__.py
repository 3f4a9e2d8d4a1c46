"""Embeddings and learner states on disk: safetensors, atomic, checked when read; never unpickled."""

from learner.store.files import read_metadata, read_state, state_digest, write_atomically, write_state
from learner.store.shards import (
    SHARD_SIZE,
    load_all,
    missing_ranges,
    present_ranges,
    read_rows,
    shard_path,
    texts_digest,
    write_shard,
)

__all__ = [
    "SHARD_SIZE",
    "load_all",
    "missing_ranges",
    "present_ranges",
    "read_metadata",
    "read_rows",
    "read_state",
    "shard_path",
    "state_digest",
    "texts_digest",
    "write_atomically",
    "write_shard",
    "write_state",
]
