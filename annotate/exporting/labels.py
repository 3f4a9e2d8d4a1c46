"""One label from several votes: the majority's, with how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from annotate.models import Answer, Judgment

Weigh = Callable[[Judgment], float]
Z95 = 1.959964


@dataclass(frozen=True)
class Label:
    """What the votes on a comparison say. ``answer`` is first or second, or tie or both bad: then none is chosen."""

    answer: str
    votes: int
    p_chosen: float  # share of the votes for the chosen response; a tie is half a vote for each
    low: float  # Wilson's 95 % interval of that share
    high: float
    agreement: float  # share of the votes that say what the label says
    margin: float  # share for the chosen response minus share for the other

    @property
    def is_decided(self) -> bool:
        return self.answer in (Answer.FIRST, Answer.SECOND)


def one(judgment: Judgment) -> float:
    return 1.0


def label(judgments: Iterable[Judgment], weigh: Weigh = one, word: str = "") -> Label:
    """The label by majority of the current judgments, each with its weight (its annotator's reliability, say).

    A response is chosen if it has more than the other, and no less than ties and "both bad" have. An answer that is
    known, or that a reviewer settled on (``word``), stands above the votes; these still say how many agree.
    """
    current = [judgment for judgment in judgments if judgment.replaced_at is None]
    said = dict.fromkeys(Answer.values, 0.0)
    for judgment in current:
        said[judgment.answer] += weigh(judgment)
    answer = word or majority(said)
    total = sum(said.values()) or 1.0
    ahead, behind = ("second", "first") if answer == Answer.SECOND else ("first", "second")
    compared = said["first"] + said["second"] + said["tie"]
    share = (said[ahead] + said["tie"] / 2) / compared if compared else 0.5
    low, high = wilson(share, compared)
    return Label(
        answer=answer,
        votes=len(current),
        p_chosen=share,
        low=low,
        high=high,
        agreement=said[answer] / total,
        margin=(said[ahead] - said[behind]) / total,
    )


def majority(said: dict[str, float]) -> str:
    first, second, tie, bad = (said[answer] for answer in ("first", "second", "tie", "both_bad"))
    if bad > max(first, second, tie):
        return Answer.BOTH_BAD
    if first != second and max(first, second) >= max(tie, bad):
        return Answer.FIRST if first > second else Answer.SECOND
    return Answer.TIE


def wilson(share: float, votes: float) -> tuple[float, float]:
    """Wilson's score interval of a share, clipped to [0, 1]; no votes say nothing."""
    if votes <= 0:
        return 0.0, 1.0
    scale = 1 + Z95**2 / votes
    centre = (share + Z95**2 / (2 * votes)) / scale
    half = Z95 / scale * math.sqrt(share * (1 - share) / votes + Z95**2 / (4 * votes**2))
    return max(0.0, centre - half), min(1.0, centre + half)
