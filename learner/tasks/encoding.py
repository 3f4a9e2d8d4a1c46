"""The encoder of a feature version, loaded once per process, and the same for every worker."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import transaction

from annotate.models import FeatureVersion
from learner.encoders import ENCODERS, Encoder, load_encoder
from learner.encoders.base import FloatArray, Progress
from learner.errors import LearnerError

_encoders: dict[str, Encoder] = {}
_one_at_a_time = threading.Lock()


def encoder_named(name: str, options: dict[str, Any] | None = None) -> Encoder:
    """The encoder, kept until another is asked for: two large models rarely fit side by side.

    One thread at a time: importing transformers twice at once fails.
    """
    key = f"{name} {json.dumps(options, sort_keys=True)}" if options else name
    with _one_at_a_time:
        if key not in _encoders:
            _encoders.clear()
            _encoders[key] = load_encoder(place_of(name), **named(name, options or {}))
        return _encoders[key]


def named(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options, with the name by which a folder is shown."""
    return options if name in ENCODERS else options | {"name": name}


def place_of(name: str) -> str:
    """What `load_encoder` takes: a name as it is; for ``models/NAME``, that folder of the models folder."""
    if not name.startswith("models/"):
        return name
    folder = (settings.MODELS / name.removeprefix("models/")).resolve()
    if not folder.is_relative_to(settings.MODELS) or not folder.is_dir():
        raise LearnerError(
            f"There is no folder {name.removeprefix('models/')!r} in this worker's models folder."
        )
    return str(folder)


def encoder_of(version: FeatureVersion) -> Encoder:
    """The version's encoder, refusing one that would give other vectors than those that are stored.

    The first worker to load it pins what was left open (revision, precision) in the version's row.
    """
    encoder = encoder_named(version.encoder, version.config.get("encoder_options"))
    if not version.encoder_digest:
        pin(version, encoder)
        encoder = encoder_named(version.encoder, version.config.get("encoder_options"))
    if version.encoder_digest != encoder.digest:
        raise LearnerError(
            f"The encoder {version.encoder} is not the one that this feature version was made with. "
            "Start a new feature version; the old embeddings cannot be mixed with new ones."
        )
    return encoder


def pin(version: FeatureVersion, encoder: Encoder) -> None:
    """Keep the choices that this machine made, unless another worker kept its own first."""
    with transaction.atomic():
        row = FeatureVersion.objects.select_for_update().get(pk=version.pk)
        if not row.encoder_digest:
            pinned = getattr(encoder, "pinned", {})
            row.config = row.config | {"encoder_options": (row.config.get("encoder_options") or {}) | pinned}
            row.encoder_digest, row.encoder_dimension = encoder.digest, encoder.dimension
            row.save(update_fields=["config", "encoder_digest", "encoder_dimension"])
            if pinned:  # the same encoder by its pinned name: it need not be loaded again
                _encoders[f"{row.encoder} {json.dumps(row.config['encoder_options'], sort_keys=True)}"] = (
                    encoder
                )
    version.config, version.encoder_digest = row.config, row.encoder_digest
    version.encoder_dimension = row.encoder_dimension


def encode(encoder: Encoder, texts: Sequence[str], progress: Progress | None = None) -> FloatArray:
    """Encode, one pool at a time: two at once would only share the same processors."""
    with _one_at_a_time:
        return encoder.encode(texts, progress)
