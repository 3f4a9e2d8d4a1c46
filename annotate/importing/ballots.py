"""Votes on pairs, in the file's order: stored as imported judgments, one per pair and annotator, or as gold pairs."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from django.db.models import Exists, OuterRef
from django.utils import timezone

from annotate.errors import TouchstoneError
from annotate.importing.rows import Vote
from annotate.models import Answer, Arm, Comparison, Judgment, Lease, Project, Response
from annotate.serving import EVERYBODY

ASKED = (Arm.ACTIVE, Arm.CONTROL, Arm.EVALUATION)
FLIPPED = {Answer.FIRST.value: Answer.SECOND.value, Answer.SECOND.value: Answer.FIRST.value}
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote, its row, and its answer in terms of the ordered pair."""

    row: int
    pair: Pair
    prompt_id: int
    vote: Vote
    answer: str


@dataclass
class Cast:
    """Votes of a chunk on pairs of stored responses. The project's row is locked: nobody else imports meanwhile."""

    project: Project
    cast: list[Ballot] = field(default_factory=list)
    rows: set[int] = field(default_factory=set)
    added: int = 0

    def add(self, row: int, vote: Vote, a: Response, b: Response) -> None:
        if a.pk == b.pk:
            raise TouchstoneError("the two responses are the same text.", code="same")
        pair = (a.pk, b.pk) if a.pk < b.pk else (b.pk, a.pk)
        answer = vote.answer if a.pk < b.pk else FLIPPED.get(vote.answer, vote.answer)
        self.cast.append(Ballot(row, pair, a.prompt_id, vote, answer))

    def comparisons(self) -> dict[Pair, Comparison]:
        """What is stored about these pairs, once those that only wait in the queue have left it."""
        known = self.stored()
        pairs = {ballot.pair for ballot in self.cast}
        waiting = [known[pair].pk for pair in pairs & known.keys() if not known[pair].taken]
        return self.stored() if withdraw_waiting(waiting) else known

    def stored(self) -> dict[Pair, Comparison]:
        firsts, seconds = ({ballot.pair[side] for ballot in self.cast} for side in (0, 1))
        found = Comparison.objects.filter(first__in=firsts, second__in=seconds).exclude(arm=Arm.DEPLOYMENT)
        return {(comparison.first_id, comparison.second_id): comparison for comparison in found}


def withdraw_waiting(keys: list[int]) -> int:
    """Take pairs that nobody was given yet out of the queue: no arm has asked about them, so votes may say it."""
    given = Lease.objects.filter(comparison=OuterRef("pk"))
    waiting = Comparison.objects.filter(~Exists(given), pk__in=keys, arm__in=ASKED, taken=0, judged=0)
    waiting = waiting.filter(state=Comparison.State.OPEN)
    return waiting._raw_delete(waiting.db) if keys else 0  # in one statement: a claim comes before or after


class Golds(Cast):
    """Pairs whose answer is known: open to every annotator, and nobody's judgment yet."""

    def save(self) -> list[tuple[int, TouchstoneError]]:
        comparisons = self.comparisons() if self.cast else {}
        problems, new = [], []
        for ballot in self.cast:
            known = comparisons.get(ballot.pair)
            if known is None:
                comparisons[ballot.pair] = self.comparison(ballot)
                new.append(ballot)
            elif known.arm != Arm.GOLD:
                words = f"the pair is here already (arm: {known.arm}), so it cannot be gold."
                problems.append((ballot.row, TouchstoneError(words, code="asked_here")))
            elif known.gold_answer != ballot.answer:
                words = "the pair is gold already, with another answer; the first one stands."
                problems.append((ballot.row, TouchstoneError(words, code="contradiction")))
        Comparison.objects.bulk_create([comparisons[ballot.pair] for ballot in new], batch_size=500)
        self.rows = {ballot.row for ballot in new}
        self.added = len(new)
        return problems

    def comparison(self, ballot: Ballot) -> Comparison:
        first, second = ballot.pair
        return Comparison(
            project=self.project,
            prompt_id=ballot.prompt_id,
            first_id=first,
            second_id=second,
            arm=Arm.GOLD,
            rule="gold",
            gold_answer=ballot.answer,
            wanted=EVERYBODY,
        )


class Ballots(Cast):
    """Votes that become judgments."""

    def save(self) -> list[tuple[int, TouchstoneError]]:
        """Store the votes that are new; return the rows whose vote cannot stand, with why."""
        if not self.cast:
            return []
        comparisons = self.comparisons()
        known = self.answers(comparisons)
        problems, new = [], []
        for ballot in self.cast:
            try:
                if is_new(ballot, comparisons.get(ballot.pair), known[ballot.pair]):
                    new.append(ballot)
            except TouchstoneError as error:
                problems.append((ballot.row, error))
        self.store(new, comparisons)
        return problems

    def answers(self, comparisons: dict[Pair, Comparison]) -> dict[Pair, dict[str, set[str]]]:
        """What each imported annotator has said about each pair, taken back or not: so no import says it again."""
        known: dict[Pair, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        judgments = Judgment.objects.filter(comparison__in=[c.pk for c in comparisons.values()], lease=None)
        columns = ("comparison__first_id", "comparison__second_id", "imported_annotator", "answer")
        for first, second, annotator, answer in judgments.values_list(*columns):
            known[first, second][annotator].add(answer)
        return known

    def store(self, new: list[Ballot], comparisons: dict[Pair, Comparison]) -> None:
        votes = Counter(ballot.pair for ballot in new)
        self.extend({pair: count for pair, count in votes.items() if pair in comparisons}, comparisons)
        made = {
            ballot.pair: self.comparison(ballot, votes[ballot.pair])
            for ballot in new
            if ballot.pair not in comparisons
        }
        Comparison.objects.bulk_create(made.values(), batch_size=500)
        comparisons |= made
        Judgment.objects.bulk_create(
            [self.judgment(ballot, comparisons[ballot.pair]) for ballot in new], batch_size=500
        )
        self.rows = {ballot.row for ballot in new}
        self.added = len(new)

    def extend(self, votes: dict[Pair, int], comparisons: dict[Pair, Comparison]) -> None:
        for pair, count in votes.items():
            comparison = comparisons[pair]
            comparison.wanted += count
            comparison.taken += count
            comparison.judged += count
        grown = [comparisons[pair] for pair in votes]
        Comparison.objects.bulk_update(grown, ["wanted", "taken", "judged"], batch_size=100)

    def comparison(self, ballot: Ballot, votes: int) -> Comparison:
        first, second = ballot.pair
        return Comparison(
            project=self.project,
            prompt_id=ballot.prompt_id,
            first_id=first,
            second_id=second,
            state=Comparison.State.DONE,
            arm=Arm.IMPORTED,
            rule="imported",
            wanted=votes,
            taken=votes,
            judged=votes,
        )

    def judgment(self, ballot: Ballot, comparison: Comparison) -> Judgment:
        vote = ballot.vote
        return Judgment(
            project=self.project,
            comparison=comparison,
            imported_annotator=vote.annotator,
            answer=ballot.answer,
            strength=vote.strength,
            criteria=vote.criteria,
            rationale=vote.rationale,
            flags=vote.flags,
            lead_time=vote.lead_time,
            created_at=vote.created_at or timezone.now(),
        )


def is_new(ballot: Ballot, comparison: Comparison | None, said: dict[str, set[str]]) -> bool:
    """Whether to store the vote; False if it is stored already, an error if it cannot stand beside what is."""
    if comparison and comparison.arm != Arm.IMPORTED:
        words = f"the pair was put to annotators here already (arm: {comparison.arm}); votes from outside do not mix."
        raise TouchstoneError(words, code="asked_here")
    answers = said[ballot.vote.annotator]
    if answers and ballot.answer not in answers:
        who = ballot.vote.annotator or "the same unnamed annotator"
        raise TouchstoneError(
            f"{who} gave another answer on this pair before; the first one stands.", code="contradiction"
        )
    if answers:
        return False
    answers.add(ballot.answer)
    return True
