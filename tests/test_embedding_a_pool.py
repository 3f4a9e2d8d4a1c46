"""Embedding: shards, resumption after a kill, growth of the pool, and errors that name what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from annotate.models import EmbeddingShard, FeatureVersion, Job, Project, Setback
from learner.encoders import HashingEncoder
from learner.tasks import embedding, encoding, shards
from tests.conftest import fill

pytestmark = pytest.mark.django_db(transaction=True)


class Counting(HashingEncoder):
    """Counts the texts it encodes, and dies like a killed process after so many calls."""

    def __init__(self, calls_to_live: int = 1_000) -> None:
        super().__init__(64)
        self.texts, self.calls_to_live = 0, calls_to_live

    def encode(self, texts: Sequence[str], progress: Any = None) -> Any:
        if self.calls_to_live == 0:
            raise KeyboardInterrupt
        self.calls_to_live -= 1
        self.texts += len(texts)
        return super().encode(texts, progress)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch, project: Project) -> Counting:
    encoder = Counting()
    monkeypatch.setattr(shards, "SMALLEST", 16)
    monkeypatch.setattr(encoding, "_encoders", {"hashing": encoder})
    Project.objects.filter(pk=project.pk).update(encoder="hashing", dimensions=8)
    return encoder


def test_a_killed_job_continues_at_the_next_shard(project: Project, encoder: Counting) -> None:
    encoder.calls_to_live = 1
    with pytest.raises(KeyboardInterrupt):
        embedding.embed_missing(project.pk)
    assert not FeatureVersion.objects.filter(state="live").exists()
    encoder.calls_to_live = 1_000
    embedding.embed_missing(project.pk)
    assert encoder.texts == 48
    version = FeatureVersion.objects.get()
    assert (version.state, version.embedded) == ("live", 48)
    assert [job.state for job in Job.objects.order_by("pk")] == ["failed", "done"]


def test_a_worker_that_is_asked_to_end_gives_its_shard_back_and_another_goes_on(
    project: Project, encoder: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as ending:
        ending.setattr("annotate.alive.is_stopping", lambda: True)
        assert embedding.embed_missing(project.pk) == 0
    shard = EmbeddingShard.objects.order_by("start")[0]
    assert (shard.claimed_at, shard.finished_at) == (None, None)
    assert not Setback.objects.exists()
    assert embedding.embed_missing(project.pk) == 48


def test_rows_that_are_there_keep_their_bits_when_the_pool_grows(project: Project, encoder: Counting) -> None:
    embedding.embed_missing(project.pk)
    before = embedding.load_features(FeatureVersion.objects.get())
    project.refresh_from_db()
    fill(project, prompts=3, responses=4, start=100)
    embedding.embed_missing(project.pk)
    after = embedding.load_features(FeatureVersion.objects.get())
    assert len(after) == 60
    assert np.array_equal(after[:48], before)


def test_the_version_records_encoder_and_pipeline(project: Project, encoder: Counting) -> None:
    embedding.embed_missing(project.pk)
    version = FeatureVersion.objects.get()
    assert version.encoder_digest == encoder.digest
    assert version.encoder_dimension == 64
    assert version.dimension
    assert len(version.digest) == 64
    assert Job.objects.get().rate


def test_another_encoder_under_the_same_name_is_refused_with_a_reason(
    project: Project, encoder: Counting
) -> None:
    embedding.embed_missing(project.pk)
    FeatureVersion.objects.update(encoder_digest="0" * 64, embedded=0)
    embedding.embed_missing(project.pk)
    job = Job.objects.order_by("-pk").first()
    assert job is not None
    assert job.state == "failed"
    assert "Start a new feature version" in job.message
