"""Keyed draws: every random choice that must be reproducible is a hash of the project's seed and what is drawn."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from annotate.models import Project


def uniform(seed: str, *what: object) -> float:
    """A number in [0, 1) that depends on the seed and on what is drawn, and on nothing else."""
    message = "/".join(str(part) for part in what).encode()
    return int.from_bytes(hmac.digest(seed.encode(), message, "sha256")[:7], "big") / 2**56


def arm(project: Project, draw: int) -> tuple[str, float]:
    """The arm of the draw with this index, and the probability with which it was drawn."""
    point = uniform(project.seed, "arm", draw)
    if point < project.evaluation_share:
        return "evaluation", project.evaluation_share
    if point < project.evaluation_share + project.control_share:
        return "control", project.control_share
    return "active", project.active_share


def wanted(project: Project, draw: object) -> int:
    """How many annotators judge the comparison of this draw: the overlap is drawn at random, never by difficulty."""
    return project.overlap if uniform(project.seed, "overlap", draw) < project.overlap_share else 1


def is_evaluation_prompt(project: Project, digest: str) -> bool:
    """Whether a prompt is set aside for evaluation: a property of its content, so that it never changes."""
    return uniform(project.seed, "evaluation prompt", digest) < project.evaluation_prompt_share


def is_swapped(project: Project, comparison_id: int, annotator_id: int) -> bool:
    """Whether the second response is shown on the left to this annotator."""
    return uniform(project.seed, "side", comparison_id, annotator_id) < 0.5


def is_gold(project: Project, annotator_id: int, number: int) -> bool:
    """Whether the pair that this annotator draws as their so-many-th is one whose answer is known."""
    return uniform(project.seed, "gold", annotator_id, number) < project.gold_share


def which_gold(project: Project, annotator_id: int, number: int, of: int) -> int:
    """Which of the gold comparisons they have not seen yet."""
    return int(uniform(project.seed, "which gold", annotator_id, number) * of)
