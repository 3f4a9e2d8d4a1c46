"""A chunk of understood rows written in one transaction: prompts, their responses, votes, and the project's counts.

The project's row is locked first, so positions are dense whoever else imports, and a reader of the counts never
sees rows that are not there. The lock leaves foreign keys to the project alone (no_key): annotators go on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from annotate import draws, statements
from annotate.errors import TouchstoneError
from annotate.importing import conversations
from annotate.importing.ballots import Ballots, Golds
from annotate.importing.rows import PromptIn, ResponseIn, Row
from annotate.models import Project, Prompt, Response

NEEDED = ("seed", "evaluation_prompt_share", "prompt_count", "response_count", "largest_prompt")


@dataclass
class Tally:
    """What a chunk changed, and which of its rows could not be stored."""

    prompts: int = 0
    responses: int = 0
    judgments: int = 0
    gold: int = 0
    duplicates: int = 0  # rows that brought nothing new
    repeats: int = 0  # responses whose text the prompt had already
    problems: list[tuple[int, TouchstoneError]] = field(default_factory=list)


@dataclass
class Entry:
    """A prompt of the project during a chunk, and its responses by digest and by the ids they were given."""

    prompt: Prompt
    by_digest: dict[str, Response] = field(default_factory=dict)
    by_id: dict[str, Response] = field(default_factory=dict)
    grown: bool = False

    def learn(self, response: Response) -> None:
        self.by_digest[response.digest] = response
        for part in ({"id": response.external_id}, *response.metadata.get("also", ())):
            self.by_id.setdefault(part.get("id", ""), response)


def write(project_id: int, rows: list[Row]) -> Tally:
    """Store the rows in one transaction; a row that cannot be stored is a problem of its own only."""
    with transaction.atomic():
        project = Project.objects.select_for_update(no_key=True).get(pk=project_id)
        chunk = Chunk(project, rows)
        chunk.write()
    return chunk.tally


def keep(project_id: int, prompt: PromptIn, responses: list[ResponseIn]) -> Entry:
    """Store one prompt with responses within the caller's transaction; the prompt with all that it has now."""
    project = Project.objects.select_for_update(no_key=True).only(*NEEDED).get(pk=project_id)
    chunk = Chunk(project, [Row(1, prompt, responses)])
    chunk.write()
    return chunk.entries[prompt.digest]


class Chunk:
    """The steps of one transaction, in the order in which each needs the one before."""

    def __init__(self, project: Project, rows: list[Row]) -> None:
        self.project, self.rows, self.tally = project, rows, Tally()
        self.entries: dict[str, Entry] = {}  # by the prompt's digest
        self.added: list[Response] = []
        self.renamed: dict[int, Response] = {}
        self.now = timezone.now()
        self.news: set[int] = set()  # numbers of rows that brought something

    def write(self) -> None:
        self.find_prompts()
        self.add_prompts()
        for row in self.rows:
            if row.prompt:
                self.add_responses(row, self.entries[row.prompt.digest])
        self.save_responses()
        self.save_counts()
        self.add_votes()
        self.tally.duplicates = len(self.rows) - len(
            self.news | {number for number, _ in self.tally.problems}
        )

    def find_prompts(self) -> None:
        """The prompts of this chunk that the project has already, with their responses."""
        digests = {row.prompt.digest for row in self.rows if row.prompt}
        self.load(Prompt.objects.filter(project=self.project, digest__in=digests))

    def load(self, prompts: QuerySet[Prompt]) -> None:
        found = {
            prompt.pk: Entry(prompt)
            for prompt in prompts.only("pk", "digest", "external_id", "response_count")
        }
        fields = ("pk", "prompt_id", "digest", "external_id", "source", "metadata")
        for response in Response.objects.filter(prompt__in=found).only(*fields).order_by("position"):
            found[response.prompt_id].learn(response)
        self.entries.update({entry.prompt.digest: entry for entry in found.values()})

    def add_prompts(self) -> None:
        new: dict[str, Prompt] = {}
        for row in self.rows:
            if row.prompt and row.prompt.digest not in self.entries and row.prompt.digest not in new:
                new[row.prompt.digest] = self.prompt(row.prompt, self.project.prompt_count + len(new))
                self.news.add(row.number)
        statements.insert_all(list(new.values()))
        self.entries.update({digest: Entry(prompt) for digest, prompt in new.items()})
        self.project.prompt_count += len(new)
        self.tally.prompts = len(new)

    def prompt(self, given: PromptIn, position: int) -> Prompt:
        return Prompt(
            project_id=self.project.pk,
            position=position,
            external_id=given.external_id,
            text=conversations.as_text(given.messages),
            messages=conversations.stored(given.messages),
            digest=given.digest,
            is_evaluation=not given.is_deployment and draws.is_evaluation_prompt(self.project, given.digest),
            is_deployment=given.is_deployment,
            tags=given.tags,
            created_at=self.now,
        )

    def add_responses(self, row: Row, entry: Entry) -> None:
        for given in row.responses:
            known = entry.by_digest.get(given.digest)
            if known is None:
                self.add_response(entry, given)
                self.news.add(row.number)
            else:
                self.tally.repeats += 1
                self.remember(known, given, entry)

    def add_response(self, entry: Entry, given: ResponseIn) -> None:
        response = Response(
            project_id=self.project.pk,
            prompt_id=entry.prompt.pk,
            position=self.project.response_count + len(self.added),
            external_id=given.external_id,
            text=given.text,
            source=given.source,
            digest=given.digest,
            utility=given.utility,
            metadata=given.metadata,
            created_at=self.now,
        )
        entry.learn(response)
        entry.prompt.response_count += 1
        entry.grown = True
        self.added.append(response)

    def remember(self, known: Response, given: ResponseIn, entry: Entry) -> None:
        """The same text under another id: keep the id, so that votes which name it find the response."""
        if not given.external_id or given.external_id in entry.by_id:
            return
        also = {"id": given.external_id, "source": given.source}
        known.metadata = {**known.metadata, "also": [*known.metadata.get("also", []), also]}
        entry.by_id[given.external_id] = known
        if known.pk:
            self.renamed[known.pk] = known

    def save_responses(self) -> None:
        """In order of position, so that ids ascend with positions: a pair's first has the smaller of both."""
        statements.insert_all(self.added)
        Response.objects.bulk_update(self.renamed.values(), ["metadata"], batch_size=100)
        self.project.response_count += len(self.added)
        self.tally.responses = len(self.added)

    def save_counts(self) -> None:
        grown = [entry.prompt for entry in self.entries.values() if entry.grown]
        by_count: dict[int, list[int]] = defaultdict(list)
        for prompt in grown:
            by_count[prompt.response_count].append(prompt.pk)
        for count, keys in by_count.items():
            Prompt.objects.filter(pk__in=keys).update(response_count=count)
        self.project.largest_prompt = max([self.project.largest_prompt, *by_count])
        if self.added or self.tally.prompts:
            self.project.save(update_fields=["prompt_count", "response_count", "largest_prompt"])

    def add_votes(self) -> None:
        ballots, golds = Ballots(self.project), Golds(self.project)
        self.load_by_id()
        for row in self.rows:
            try:
                for vote in row.votes:
                    cast = golds if vote.gold else ballots
                    cast.add(row.number, vote, *self.pair(row, vote.a, vote.b))
            except TouchstoneError as error:
                self.tally.problems.append((row.number, error))
        self.tally.problems += golds.save() + ballots.save()
        self.tally.judgments, self.tally.gold = ballots.added, golds.added
        self.news |= ballots.rows | golds.rows

    def load_by_id(self) -> None:
        """Index prompts by the ids that rows without texts use, with those of earlier imports."""
        wanted = {row.prompt_id for row in self.rows if not row.prompt}
        self.by_id: dict[str, list[Entry]] = defaultdict(list)
        if not wanted:
            return
        stored = Prompt.objects.filter(project=self.project, external_id__in=wanted)
        self.load(stored.exclude(digest__in=self.entries.keys()))
        for entry in self.entries.values():
            self.by_id[entry.prompt.external_id].append(entry)

    def pair(self, row: Row, a: str, b: str) -> list[Response]:
        if row.prompt:
            known = self.entries[row.prompt.digest].by_digest
            return [known[a], known[b]]
        entries = self.by_id.get(row.prompt_id)
        if not entries:
            words = f"no prompt has the id {row.prompt_id[:60]!r}; import the pool before its votes."
            raise TouchstoneError(words, code="reference")
        return [response_by_id(entries, row.prompt_id, name) for name in (a, b)]


def response_by_id(entries: list[Entry], prompt_id: str, name: str) -> Response:
    for entry in entries:
        if name in entry.by_id:
            return entry.by_id[name]
    raise TouchstoneError(
        f"prompt {prompt_id[:60]!r} has no response with the id {name[:60]!r}.", code="reference"
    )
