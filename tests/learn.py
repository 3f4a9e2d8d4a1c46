"""Help for tests that learn: features without an encoder's weights, and the worker's tasks run in place."""

from __future__ import annotations

from annotate.models import Project


def embed_and_absorb(project: Project) -> None:
    """What the workers do when their bells ring, with the hashing encoder."""
    from learner.tasks.absorbing import absorb_waiting
    from learner.tasks.embedding import embed_missing

    project.encoder, project.dimensions = "hashing", 8
    project.save()
    embed_missing(project.pk)
    absorb_waiting(project.pk)
