"""The dataset card: what is in an export, how it was collected, and what to mind, as Markdown with a YAML header."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from django.db.models import Count, Q
from django.utils import timezone

from annotate.exporting.files import Wanted
from annotate.exporting.kinds import KINDS, LEFT_OUT, Export
from annotate.exporting.labels import one
from annotate.models import Answer, Comparison, Judgment, Project

SIZES = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
TYPES = {"jsonl": "json", "csv": "csv", "parquet": "parquet"}


def card(run: Export, file: Wanted) -> str:
    """The card of an export that has run: its counts are those of the file."""
    project = run.project
    parts = [
        header(run, file),
        f"# {safe(project.name)}",
        f"{run.rows:,} rows: {KINDS[file.kind].words}. The question was: “{safe(project.question)}”",
        "Exported from Touchstone on " + timezone.now().strftime("%d %B %Y, %H:%M UTC") + simulated(project),
        "## How it was collected\n\n" + table(("Arm", "Comparisons", "Judgments"), arms(project)),
        "Pairs of the active arm were chosen because they teach most: they are harder, and not a sample of the "
        "pool. Weighting the rows of all arms together by the inverse of `probability` corrects for that; active "
        "pairs alone cannot be, because their rule leaves nothing to chance. Control and evaluation pairs were drawn "
        "uniformly. Rows with split `test` come from prompts set aside for evaluation.",
        "## Judgments\n\n" + table(("Answer", "Judgments"), answers(project)),
        *agreement(project),
        *weighted(run),
        *left_out(run),
        columns(run, file),
    ]
    return "\n\n".join(parts) + "\n"


def header(run: Export, file: Wanted) -> str:
    size = next((name for limit, name in SIZES if run.rows < limit), "n>1M")
    lines = [
        "---",
        f"pretty_name: {json.dumps(run.project.name)}",
        "tags: [preference, human-feedback, touchstone]",
        f"size_categories: [{json.dumps(size)}]",
        "configs:",
        "- config_name: default",
        f"  data_files: {json.dumps(file.name)}",
        "---",
    ]
    return "\n".join(lines)


def safe(text: str) -> str:
    """A person's text on one line, with nothing in it that Markdown or HTML would act on."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]()!#|>~])", r"\\\1", text)


def table(names: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(names)]
    lines.append(["---"] * len(lines[0]))
    lines += [[f"{value:,}" if isinstance(value, int) else str(value) for value in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def simulated(project: Project) -> str:
    return ". **The judgments are simulated, no person gave them.**" if project.is_simulated else "."


def current(project: Project) -> Q:
    return Q(project=project, replaced_at=None)


def arms(project: Project) -> list[tuple[str, int, int]]:
    judged = Judgment.objects.filter(current(project)).values_list("comparison__arm")
    rows = judged.annotate(Count("comparison", distinct=True), Count("id")).order_by("comparison__arm")
    return list(rows)


def answers(project: Project) -> list[tuple[str, int]]:
    said = dict(Judgment.objects.filter(current(project)).values_list("answer").annotate(Count("id")))
    return [(str(answer.label), said.get(answer, 0)) for answer in Answer]


def agreement(project: Project) -> list[str]:
    """How many people, how often they say the same, and how often the left side wins."""
    rows = Judgment.objects.filter(current(project))
    people = rows.values("annotator", "imported_annotator").distinct().count()
    words = [f"{people:,} annotators (under pseudonyms)."]
    several = Comparison.objects.filter(project=project, judged__gte=2).count()
    if several:
        same, pairs = agreeing_pairs(project)
        words.append(
            f"{several:,} pairs have several votes; two votes on the same pair agree in {same / pairs:.1%} of cases."
        )
    sided = rows.filter(lease__isnull=False, answer__in=("first", "second"))
    if total := sided.count():
        left = sided.filter(
            Q(answer=Answer.FIRST, lease__swapped=False) | Q(answer=Answer.SECOND, lease__swapped=True)
        )
        words.append(f"The left side was chosen in {left.count() / total:.1%} of {total:,} decided votes.")
    return [" ".join(words)]


def agreeing_pairs(project: Project) -> tuple[int, int]:
    """Of all pairs of votes on the same comparison, how many agree, and how many there are."""
    rows = Judgment.objects.filter(current(project), comparison__judged__gte=2)
    same = counted_pairs(
        rows.values("comparison", "answer").annotate(n=Count("id")).values_list("n", flat=True)
    )
    every = counted_pairs(rows.values("comparison").annotate(n=Count("id")).values_list("n", flat=True))
    return same, max(1, every)


def counted_pairs(counts: Iterable[int]) -> int:
    return sum(n * (n - 1) // 2 for n in counts)


def left_out(run: Export) -> list[str]:
    said = [f"{count:,} {LEFT_OUT[name]}" for name, count in run.left_out.items() if count]
    return [f"Left out of the rows: {', '.join(said)}."] if said else []


def weighted(run: Export) -> list[str]:
    words = "In the labels each vote counts by the reliability that was measured of its annotator (1 is the average)."
    return [words] if run.weigh is not one else []


def columns(run: Export, file: Wanted) -> str:
    rows = [(f"`{name}`", str(kind)) for name, kind in KINDS[file.kind].columns(run.conversational).items()]
    return f"## Columns of `{file.name}`\n\n" + table(("Column", "Type"), rows) + f"\n\n{load(file)}"


def load(file: Wanted) -> str:
    # Without these two, pandas takes a text such as "NaN" or "null" for a missing one.
    more = ', keep_default_na=False, na_values=[""]' if file.format == "csv" else ""
    return f'```python\nload_dataset("{TYPES[file.format]}", data_files="{file.name}"{more})\n```'
