"""What a job says about how it goes and went, in the reader's language: sentences, and counts from its result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop, ngettext

from annotate.exporting import LEFT_OUT
from annotate.models import Job

# What a job's row says, in English; shown in the reader's language by finding the sentence again.
HANDED_BACK = gettext_noop("Its worker ended; another goes on.")
NEVER_STARTED = gettext_noop("It was never started.")
SILENT = gettext_noop("Its worker ended {n} times without a word; was there too little memory?")
MADE_WAY = gettext_noop("Stopped; the next job went on.")
REPLAYING = gettext_noop("Replaying the judgments.")
REPLAYED = gettext_noop("Replaying the judgments: step {n} of {total}.")
COMPARING = gettext_noop("Comparing on the evaluation arm.")
READY = gettext_noop("Ready after {n} steps of the log; compared on {judged} evaluation judgments.")
LIVE = gettext_noop("This version is live.")
LIVE_NOW = gettext_noop("This version is live now: queue, scores and curves are its own.")
NOT_BUILT = gettext_noop("Cancelled. What is embedded stays, and building can go on.")
LEARNER_BUSY = gettext_noop("Waiting for the learner to finish its batch.")
FITTING = gettext_noop("Fitting to the whole log.")
FITTED = gettext_noop("Fitted to {n} judgments; measured on {judged}.")
NOT_TUNED = gettext_noop("Cancelled. Nothing was kept.")
NO_GAIN = gettext_noop(
    "Nothing was gained: validation log-loss {start} before training, {best} at best on {n} judgments. No version was "
    "made."
)
TUNED = gettext_noop(
    "Validation log-loss fell from {start} to {best}. A feature version with the tuned encoder is being built."
)
WRITING_MODEL = gettext_noop("Writing the model and comparing its scores.")
PACKING = gettext_noop("Packing.")
TRIED = gettext_noop("{n} of {total} labels were tried.")
TRYING = gettext_noop("{rule}, seed {n} of {total}.")
COMPARED = gettext_noop("{rules} rules, {seeds} seeds, {n} labels each.")
ANSWERING = gettext_noop("{n} of {total} judgments.")
ANSWERED = gettext_noop("{n} judgments by {people} synthetic annotators.")
EMBEDDING_FIRST = gettext_noop("Waiting for the responses to be embedded.")
SENTENCES = (
    HANDED_BACK, NEVER_STARTED, SILENT, MADE_WAY, REPLAYING, REPLAYED, COMPARING, READY, LIVE, LIVE_NOW, NOT_BUILT,
    LEARNER_BUSY, FITTING, FITTED, NOT_TUNED, NO_GAIN, TUNED, WRITING_MODEL, PACKING, TRIED, TRYING, COMPARED,
    ANSWERING, ANSWERED, EMBEDDING_FIRST,
)  # fmt: skip


# What is wrong with a row that an import skips, by the problem's code; the reason itself quotes the row, in English.
BAD_ROWS = {
    "answer": gettext_lazy("the answer is not clear"),
    "asked_here": gettext_lazy("a pair that annotators here were asked about"),
    "bomb": gettext_lazy("too large when unpacked"),
    "contradiction": gettext_lazy("contradicts another row"),
    "conversation": gettext_lazy("not a conversation that can be compared"),
    "csv": gettext_lazy("not CSV"),
    "damaged": gettext_lazy("the file is damaged here"),
    "database": gettext_lazy("refused by the database"),
    "duplicate_key": gettext_lazy("a name that appears twice"),
    "empty": gettext_lazy("something is empty"),
    "encoding": gettext_lazy("not Unicode text"),
    "json": gettext_lazy("not JSON"),
    "long": gettext_lazy("too long"),
    "nesting": gettext_lazy("nested too deeply, or too many parts"),
    "nul": gettext_lazy("a character that no text may have"),
    "number": gettext_lazy("not a number that can be used"),
    "reference": gettext_lazy("names a prompt or response that is not there"),
    "same": gettext_lazy("both responses are the same"),
    "shape": gettext_lazy("fields of no known shape"),
    "time": gettext_lazy("not a time"),
    "type": gettext_lazy("a value of the wrong kind"),
}


def message(job: Job) -> str:
    """The job's message as its page shows it; what is no sentence of these stays as it was written."""
    if known := sentence_of(job.message):
        return known
    if job.state != Job.State.FAILED and job.message:
        if job.kind == Job.Kind.IMPORT and "prompts_added" in job.result:
            return imported(job.result)
        if job.kind == Job.Kind.EXPORT and "rows" in job.result:
            return exported(job.result["rows"], job.result["left_out"])
    return job.message


def sentence_of(said: str) -> str | None:
    """A sentence of these, with its values, in the reader's language; None if it is none."""
    for sentence, pattern in patterns():
        if found := pattern.fullmatch(said):
            return _(sentence).format(**found.groupdict())
    return None


@cache
def patterns() -> list[tuple[str, re.Pattern[str]]]:
    """What each sentence looks like when its values are in it; a value has no space."""
    return [
        (sentence, re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\S+)", re.escape(sentence))))
        for sentence in SENTENCES
    ]


def says(sentence: str, **values: object) -> str:
    """A sentence with its values, whole numbers with their thousands marked, as a row keeps it."""
    shown = {name: f"{value:,}" if isinstance(value, int) else value for name, value in values.items()}
    return sentence.format(**shown)


def imported(result: Mapping[str, Any]) -> str:
    """What an import did, from its counts."""
    prompts, responses, judgments = (
        result[f"{what}_added"] for what in ("prompts", "responses", "judgments")
    )
    added = _("{prompts}, {responses} and {judgments} added").format(
        prompts=counted(ngettext("{n} prompt", "{n} prompts", prompts), prompts),
        responses=counted(ngettext("{n} response", "{n} responses", responses), responses),
        judgments=counted(ngettext("{n} judgment", "{n} judgments", judgments), judgments),
    )
    return "; ".join([added, *further(result)]) + "."


def brings(responses: int, votes: int) -> str:
    """What the first rows of a file would bring."""
    return _("They bring {responses} and {votes}.").format(
        responses=counted(ngettext("{n} response", "{n} responses", responses), responses),
        votes=counted(ngettext("{n} vote", "{n} votes", votes), votes),
    )


def further(result: Mapping[str, Any]) -> list[str]:
    """What else an import found, left out where it is nothing."""
    gold, known = result["gold_added"], result["duplicates"]
    repeats, bad = result["repeats"], result["bad"]
    said = (
        (gold, ngettext("{n} gold pair", "{n} gold pairs", gold)),
        (known, ngettext("{n} row there already", "{n} rows there already", known)),
        (repeats, ngettext("{n} response that its prompt had already, kept once",
                           "{n} responses that their prompts had already, kept once", repeats)),
        (bad, ngettext("{n} bad row skipped", "{n} bad rows skipped", bad)),
    )  # fmt: skip
    return [counted(words, number) for number, words in said if number]


def exported(rows: int, left_out: Mapping[str, int]) -> str:
    """How many rows an export has, and what it left out."""
    written = counted(ngettext("{n} row", "{n} rows", rows), rows)
    left = [f"{intcomma(count)} {_(LEFT_OUT[name])}" for name, count in left_out.items() if count]
    return written + (_("; left out: {what}.").format(what=", ".join(left)) if left else ".")


def counted(words: str, number: int) -> str:
    return words.format(n=intcomma(number))
