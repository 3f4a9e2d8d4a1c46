"""Features of what users bring, appended to the live version by the worker that made them to answer.

They are stored when nobody has waited for an answer for a moment, so that storing delays none, and those of a busy
half second together. One small file a batch; they are merged from time to time, so that a pool never consists of
thousands of files. If the worker dies before, the sweep has the responses embedded again.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from django.conf import settings
from django.db import transaction

from annotate.celery import ring
from annotate.models import FeatureVersion, Project, Response
from learner import store
from learner.store.merging import merge_small
from learner.tasks.absorbing import has_work
from learner.tasks.locks import exclusive

logger = logging.getLogger(__name__)

Row = tuple[Response, npt.NDArray[np.float32], npt.NDArray[np.float64]]

QUIET_SECONDS, LATEST_SECONDS = 0.05, 0.5
# While an embed worker is at work on the version: what follows on its rows is ours to store.
PATIENCE_SECONDS = 10.0


@dataclass
class Unstored:
    """Rows of one version that were made to answer; by response, since two requests may bring the same one."""

    version: FeatureVersion
    rows: dict[int, Row] = field(default_factory=dict)
    made: float = field(default_factory=time.monotonic)
    first: float = field(default_factory=time.monotonic)
    last: float = 0.0


_unstored: dict[int, Unstored] = {}


def store_soon(version: FeatureVersion, rows: list[Row]) -> None:
    """Keep the rows in memory until `store_waiting` is called."""
    if rows:
        mine = _unstored.setdefault(version.pk, Unstored(version))
        mine.rows |= {response.pk: (response, raw, phi) for response, raw, phi in rows}
        mine.last = time.monotonic()


def is_due() -> bool:
    """Whether nothing came for a moment, or something has been kept for long enough."""
    now = time.monotonic()
    return any(
        now - one.last > QUIET_SECONDS or now - one.first > LATEST_SECONDS for one in _unstored.values()
    )


def store_waiting() -> None:
    """Store what was kept, and have judgments learned from that came before."""
    for key in list(_unstored):
        one = _unstored.pop(key)
        project_id = one.version.project_id
        if append_users_rows(one.version, list(one.rows.values())):
            if has_work(project_id):
                transaction.on_commit(partial(ring, "absorb", project_id))
        elif time.monotonic() - one.made < PATIENCE_SECONDS and not is_over(one.version):
            one.first = one.last = time.monotonic()
            _unstored[key] = one
        else:
            transaction.on_commit(partial(ring, "embed", project_id))


def is_over(version: FeatureVersion) -> bool:
    """Whether nobody embeds the version now, so that waiting would bring nothing."""
    with exclusive("embed", version.project_id) as held:
        return held


def append_users_rows(version: FeatureVersion, rows: list[Row]) -> bool:
    """Store raw and feature rows, if they are just what the version lacks; False leaves it to the embed worker."""
    with exclusive("embed", version.project_id) as held:
        if not held:
            return False
        try:
            version.refresh_from_db(from_queryset=FeatureVersion.objects.select_related("project"))
        except FeatureVersion.DoesNotExist:  # dropped, or gone with its project
            return True
        rows = sorted(
            (row for row in rows if row[0].position >= version.embedded), key=lambda row: row[0].position
        )
        if not rows:  # an embed worker was quicker
            return True
        if version.state != FeatureVersion.State.LIVE or not is_next(version, rows):
            return False
        write(version, rows)
        with transaction.atomic():
            found = FeatureVersion.objects.filter(pk=version.pk, embedded=version.embedded)
            found.update(embedded=version.embedded + len(rows))
        version.embedded += len(rows)
    if version.embedded < version.project.response_count or others_wait(version.project):
        ring("embed", version.project_id)
    return True


def is_next(version: FeatureVersion, rows: list[Row]) -> bool:
    """Whether the rows follow on what is stored, without a gap."""
    positions = [response.position for response, _raw, _phi in rows]
    return positions == list(range(version.embedded, version.embedded + len(rows)))


def others_wait(project: Project) -> bool:
    """Whether a version beside the live one wants the rows too."""
    return project.feature_versions.filter(state=FeatureVersion.State.READY).exists()


def write(version: FeatureVersion, rows: list[Row]) -> None:
    """The shard of encodings and the shard of features, each whole or not at all; then tidy what has become many."""
    folder, pipeline = Path(settings.DATA) / version.folder, version.config.get("pipeline", "")
    raw, phi = np.stack([row for _, row, _ in rows]), np.stack([row for _, _, row in rows])
    texts = store.texts_digest([f"{one.prompt.text}\0{one.text}" for one, _, _ in rows])
    store.write_shard(folder / "raw", version.embedded, raw, version.encoder_digest, texts)
    store.write_shard(folder / "features", version.embedded, phi, pipeline)
    for name, maker in (("raw", version.encoder_digest), ("features", pipeline)):
        merge_small(folder / name, maker)
