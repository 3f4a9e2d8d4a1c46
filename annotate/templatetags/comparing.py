"""The bar of answers below a pair: the same below every pair, but for the lease and the token against forgery."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from secrets import token_hex
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from django import template
from django.template.loader import render_to_string
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language

from annotate.judging import criteria_of

register = template.Library()
LEASE, TOKEN = uuid4(), token_hex(16)  # stand for what is filled in; nobody can write them into a text
BAR = "compare/answer_bar.html"
OF_THE_BAR = ("project", "keys", "choices", "skip_reasons", "flags")


@dataclass(frozen=True)
class Seen:
    """Everything that the bar depends on."""

    language: str | None
    slug: str
    question: str
    criteria: tuple[str, ...]
    graded: bool
    keys: tuple[tuple[str, tuple[str, ...]], ...]
    shown: dict[str, Any] = field(compare=False)


@register.simple_tag(takes_context=True)
def answer_bar(context: template.Context) -> SafeString:
    """Filled in, not rendered again: a template takes longer than all the database does for an answer."""
    project, keys = context["project"], tuple(context["keys"].items())
    shown = {name: context[name] for name in OF_THE_BAR}
    if context["lease"].pk in context["undone"]:
        return as_it_was(context, shown)
    criteria, graded = tuple(project.criteria), project.ask_strength
    html = rendered(Seen(get_language(), project.slug, project.question, criteria, graded, keys, shown))
    html = html.replace(str(LEASE), str(context["lease"].pk)).replace(
        TOKEN, escape(str(context["csrf_token"]))
    )
    return mark_safe(html)  # noqa: S308 - it comes out of the template


def as_it_was(context: template.Context, shown: dict[str, Any]) -> SafeString:
    """With what its annotator wrote beside the answer that they took back; rare enough to be rendered."""
    lease, judgment = context["lease"], context["undone"][context["lease"].pk]
    own = {"judgment": judgment, "given_criteria": criteria_of(judgment, lease.swapped)}
    return render_to_string(BAR, shown | own | {"lease": lease, "csrf_token": context["csrf_token"]})


@lru_cache(maxsize=256)
def rendered(seen: Seen) -> str:
    filled_in = {"lease": SimpleNamespace(pk=LEASE), "csrf_token": TOKEN}
    return render_to_string(BAR, seen.shown | filled_in)
