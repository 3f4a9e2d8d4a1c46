"""What may be asked of each listing: allow-listed fields, each checked, every combination a shareable address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import Exists, Func, IntegerField, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Left
from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate import searching
from annotate.browsing.keyset import Order, whole
from annotate.configuring import RULE_NAMES
from annotate.errors import TouchstoneError
from annotate.judging import CORRECTED, EDITED
from annotate.models import Answer, Arm, Comparison, Judgment, Project, Prompt, Response, User

SNIPPET = 280
ANY = ("", gettext_lazy("any"))
SPLITS = [ANY, ("training", gettext_lazy("training")), ("evaluation", gettext_lazy("evaluation"))]
Choices = list[tuple[str, Any]]


class Filter(forms.Form):
    """``q`` and what a listing adds; ``after`` and ``sort`` say where the page begins. Anything else is refused."""

    use_required_attribute = False
    orders: Mapping[str, Order] = {}
    q = forms.CharField(label=gettext_lazy("Search"), required=False, max_length=searching.LONGEST)
    prompt = forms.IntegerField(required=False, widget=forms.HiddenInput, min_value=1, max_value=2**62)
    after = forms.CharField(required=False, widget=forms.HiddenInput, max_length=80)

    def __init__(self, data: QueryDict, project: Project, names: Mapping[int, str]) -> None:
        self.project, self.names = project, names
        super().__init__(data)
        self.fields["sort"] = forms.ChoiceField(
            label=_("Order"),
            required=False,
            choices=[(name if i else "", order.label) for i, (name, order) in enumerate(self.orders.items())],
        )

    def clean_q(self) -> str:
        words = str(self.cleaned_data["q"]).strip()
        if words:
            try:
                searching.terms(words)
            except TouchstoneError as error:
                raise ValidationError(str(error)) from None
        return words

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if unknown := set(self.data) - set(self.fields):
            raise ValidationError(_("There is no filter called “%(name)s”.") % {"name": min(unknown)[:40]})
        if values.get("after") and "sort" in values:
            try:
                self.order.values(values["after"])
            except TouchstoneError as error:
                raise ValidationError(str(error)) from None
        return values

    @property
    def order(self) -> Order:
        return self.orders[self.cleaned_data["sort"] or next(iter(self.orders))]

    @property
    def search(self) -> searching.Search:
        return searching.Search(self.cleaned_data["q"], self.project.pk)

    @property
    def chosen(self) -> dict[str, Any]:
        """The filters that are set, without the place."""
        return {
            k: v
            for k, v in self.cleaned_data.items()
            if v not in (None, "", False) and k not in ("after", "sort")
        }

    def rows(self) -> QuerySet[Any]:
        raise NotImplementedError

    def shown(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of one page with what is shown of them."""
        return rows


def by_key(label: str | Promise, *, descending: bool = False) -> Order:
    return Order(label, (("pk", whole),), descending)


class PromptFilter(Filter):
    orders = {"position": Order(gettext_lazy("as imported"), (("position", whole),))}
    tag = forms.CharField(label=gettext_lazy("Tag"), required=False, max_length=100)
    split = forms.ChoiceField(label=gettext_lazy("Part"), required=False, choices=SPLITS)
    judged = forms.ChoiceField(
        label=gettext_lazy("Judged"),
        required=False,
        choices=[ANY, ("yes", gettext_lazy("at least once")), ("no", gettext_lazy("never"))],
    )

    def rows(self) -> QuerySet[Prompt]:
        given = self.cleaned_data
        rows = Prompt.objects.filter(project=self.project)
        if given["q"]:
            rows = rows.filter(text__found=self.search)
        if given["tag"]:
            rows = tagged(rows, given["tag"])
        if given["split"]:
            rows = rows.filter(is_evaluation=given["split"] == "evaluation")
        if given["judged"]:
            judged = Exists(Comparison.objects.filter(prompt=OuterRef("pk"), judged__gt=0))
            rows = rows.filter(judged if given["judged"] == "yes" else ~judged)
        return rows

    def shown(self, rows: QuerySet[Prompt]) -> QuerySet[Prompt]:
        return rows.defer("text", "messages").annotate(snippet=Left("text", SNIPPET))


def tagged(prompts: QuerySet[Prompt], tag: str) -> QuerySet[Prompt]:
    """Prompts with exactly this tag. SQLite keeps JSON as text, in which the tag stands in its quotation marks."""
    if connection.vendor == "postgresql":
        return prompts.filter(tags__contains=[tag])
    return prompts.alias(
        at=Func("tags", Value(json.dumps(tag)), function="instr", output_field=IntegerField())
    ).filter(at__gt=0)


class ResponseFilter(Filter):
    orders = {
        "position": Order(gettext_lazy("as imported"), (("position", whole),)),
        "best": Order(
            gettext_lazy("highest reward first"),
            (("reward__reward", float), ("reward__response_id", whole)), descending=True,
        ),
        "worst": Order(
            gettext_lazy("lowest reward first"), (("reward__reward", float), ("reward__response_id", whole))
        ),
    }  # fmt: skip
    source = forms.CharField(label=gettext_lazy("Source"), required=False, max_length=200)
    split = forms.ChoiceField(label=gettext_lazy("Part"), required=False, choices=SPLITS)

    def rows(self) -> QuerySet[Response]:
        given = self.cleaned_data
        rows = Response.objects.filter(project=self.project)
        if given["sort"]:
            rows = rows.filter(reward__project=self.project)
        if given["q"]:
            rows = rows.filter(text__found=self.search)
        if given["source"]:
            rows = rows.filter(source=given["source"])
        if given["prompt"]:
            rows = rows.filter(prompt=given["prompt"])
        if given["split"]:
            rows = rows.filter(prompt__is_evaluation=given["split"] == "evaluation")
        return rows

    def shown(self, rows: QuerySet[Response]) -> QuerySet[Response]:
        rows = rows.select_related("prompt", "reward").defer(
            "text", "metadata", "prompt__text", "prompt__messages"
        )
        return rows.annotate(snippet=Left("text", SNIPPET), prompt_snippet=Left("prompt__text", SNIPPET // 2))


class ComparisonFilter(Filter):
    orders = {
        "newest": by_key(gettext_lazy("newest first"), descending=True),
        "oldest": by_key(gettext_lazy("oldest first")),
        "widest": Order(
            gettext_lazy("widest first"), (("width", float), ("pk", whole)), True, Q(width__isnull=False)
        ),
        "narrowest": Order(
            gettext_lazy("narrowest first"), (("width", float), ("pk", whole)), False, Q(width__isnull=False)
        ),
    }
    arm = forms.ChoiceField(label=gettext_lazy("Arm"), required=False, choices=[ANY, *Arm.choices])
    rule = forms.ChoiceField(
        label=gettext_lazy("Rule"),
        required=False,
        choices=[ANY, *((name, name) for name in (*RULE_NAMES, "imported", "gold"))],
    )
    state = forms.ChoiceField(
        label=gettext_lazy("State"), required=False, choices=[ANY, *Comparison.State.choices]
    )
    judged = forms.ChoiceField(
        label=gettext_lazy("Judged"),
        required=False,
        choices=[
            ANY,
            ("no", gettext_lazy("never")),
            ("yes", gettext_lazy("at least once")),
            ("twice", gettext_lazy("twice or more")),
            ("differently", gettext_lazy("differently")),
        ],
    )

    def rows(self) -> QuerySet[Comparison]:
        given = self.cleaned_data
        rows = Comparison.objects.filter(project=self.project)
        if given["q"]:
            rows = rows.filter(prompt__text__found=self.search)
        equal = {name: given[name] for name in ("arm", "rule", "state", "prompt") if given[name]}
        rows = rows.filter(**equal)
        if given["judged"]:
            rows = rows.filter(JUDGED[given["judged"]])
        return rows

    def shown(self, rows: QuerySet[Comparison]) -> QuerySet[Comparison]:
        return paired(rows)


def paired(rows: QuerySet[Comparison]) -> QuerySet[Comparison]:
    """With the beginnings of the three texts, so that a page never reads megabytes."""
    texts = ("prompt__text", "first__text", "second__text")
    joined = rows.select_related("prompt", "first", "second").defer(
        *texts, "prompt__messages", "first__metadata", "second__metadata"
    )
    return joined.annotate(
        prompt_snippet=Left("prompt__text", SNIPPET),
        first_snippet=Left("first__text", SNIPPET // 3),
        second_snippet=Left("second__text", SNIPPET // 3),
    )


CURRENT = Judgment.objects.filter(replaced_at=None)
OTHERWISE = CURRENT.filter(comparison=OuterRef("comparison")).exclude(answer=OuterRef("answer"))
JUDGED = {
    "no": Q(judged=0),
    "yes": Q(judged__gt=0),
    "twice": Q(judged__gt=1),
    "differently": Q(judged__gt=1) & Q(Exists(CURRENT.filter(Exists(OTHERWISE), comparison=OuterRef("pk")))),
}


class JudgmentFilter(Filter):
    orders = {
        "newest": by_key(gettext_lazy("newest first"), descending=True),
        "oldest": by_key(gettext_lazy("oldest first")),
    }
    annotator = forms.CharField(label=gettext_lazy("Annotator"), required=False, max_length=20)
    answer = forms.ChoiceField(label=gettext_lazy("Answer"), required=False, choices=[ANY, *Answer.choices])
    arm = forms.ChoiceField(label=gettext_lazy("Arm"), required=False, choices=[ANY, *Arm.choices])
    status = forms.ChoiceField(
        label=gettext_lazy("Status"),
        required=False,
        choices=[
            ("", gettext_lazy("current")),
            ("edited", gettext_lazy("edited since")),
            ("undone", gettext_lazy("undone")),
            ("corrected", gettext_lazy("corrected by a reviewer")),
            ("withdrawn", gettext_lazy("withdrawn by a reviewer")),
            ("all", gettext_lazy("all, current or not")),
        ],
    )
    flagged = forms.BooleanField(label=gettext_lazy("with a problem reported"), required=False)
    since = forms.DateField(
        label=gettext_lazy("From"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    until = forms.DateField(
        label=gettext_lazy("To"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )

    def __init__(self, data: QueryDict, project: Project, names: Mapping[int, str]) -> None:
        super().__init__(data, project, names)
        people: Choices = [(str(key), name) for key, name in names.items()]
        self.fields["annotator"].widget = forms.Select(
            choices=[ANY, *people, ("imported", _("imported, by nobody here"))]
        )

    def clean_annotator(self) -> int | str:
        text = str(self.cleaned_data["annotator"])
        if text in ("", "imported"):
            return text
        known = text.isdecimal() and int(text) in self.names
        if not known and not (text.isdecimal() and judged_here(self.project, text)):
            raise ValidationError(_("Nobody with this number has judged in this project."))
        return int(text)

    def rows(self) -> QuerySet[Judgment]:
        given = self.cleaned_data
        rows = with_status(Judgment.objects.filter(project=self.project), given["status"])
        if given["q"]:
            rows = rows.filter(rationale__found=self.search)
        if given["annotator"]:
            who = given["annotator"]
            rows = rows.filter(lease=None) if who == "imported" else rows.filter(annotator=who)
        if given["flagged"]:
            rows = rows.exclude(flags=[])
        if given["since"]:
            rows = rows.filter(created_at__gte=midnight(given["since"]))
        if given["until"]:
            rows = rows.filter(created_at__lt=midnight(given["until"]) + timedelta(days=1))
        named = {"answer": "answer", "arm": "comparison__arm", "prompt": "comparison__prompt"}
        return rows.filter(**{lookup: given[name] for name, lookup in named.items() if given[name]})

    def shown(self, rows: QuerySet[Judgment]) -> QuerySet[Judgment]:
        rows = rows.select_related("annotator", "comparison__prompt").defer(
            "comparison__prompt__text", "comparison__prompt__messages"
        )
        return rows.annotate(prompt_snippet=Left("comparison__prompt__text", SNIPPET))


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def judged_here(project: Project, text: str) -> bool:
    return len(text) < 19 and User.objects.filter(pk=int(text), judgments__project=project).exists()


def with_status(rows: QuerySet[Judgment], status: str) -> QuerySet[Judgment]:
    if status == "all":
        return rows
    if not status:
        return rows.filter(replaced_at=None)
    prefix = {"edited": EDITED, "corrected": CORRECTED}.get(status, status)
    return rows.filter(replaced_at__isnull=False, replaced_reason__startswith=prefix)


@dataclass(frozen=True)
class Listing:
    name: str
    title: str | Promise
    filter: type[Filter]
    counter: str = ""  # the project's own count of these rows


LISTINGS = {
    one.name: one
    for one in (
        Listing("prompts", gettext_lazy("Prompts"), PromptFilter, "prompt_count"),
        Listing("responses", gettext_lazy("Responses"), ResponseFilter, "response_count"),
        Listing("comparisons", gettext_lazy("Comparisons"), ComparisonFilter),
        Listing("judgments", gettext_lazy("Judgments"), JudgmentFilter),
    )
}
