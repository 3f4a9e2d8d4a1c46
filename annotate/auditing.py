"""The audit log: who did what to a project's settings, people and data, and how a line of it is read aloud."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from annotate.models import AuditEvent, Job, Project, User

VERBS: dict[str, str | Promise] = {
    "created": gettext_lazy("created the project"),
    "duplicated": gettext_lazy("made a copy of the project"),
    "changed": gettext_lazy("changed the settings"),
    "archived": gettext_lazy("archived the project"),
    "unarchived": gettext_lazy("took the project out of the archive"),
    "deleted": gettext_lazy("deleted the project"),
    "invited": gettext_lazy("invited"),
    "revoked": gettext_lazy("withdrew the invitation of"),
    "joined": gettext_lazy("joined by an invitation"),
    "role": gettext_lazy("changed the role of"),
    "removed": gettext_lazy("removed"),
    "released": gettext_lazy("took a lease back from"),
    "started": gettext_lazy("started the job"),
    "added the generator": gettext_lazy("added the generator"),
    "changed the generator": gettext_lazy("changed the generator"),
    "removed the generator": gettext_lazy("removed the generator"),
    "renewed the arena's address": gettext_lazy("gave the arena a new address"),
    "deployment": gettext_lazy("changed how users are answered"),
    "cancelled": gettext_lazy("cancelled the job"),
    "imported": gettext_lazy("imported"),
    "exported": gettext_lazy("exported"),
    "versioned": gettext_lazy("asked for the feature version"),
    "switched": gettext_lazy("switched to the feature version"),
    "dropped": gettext_lazy("dropped the feature version"),
    "drifted": gettext_lazy("found the one-pass estimate behind its refit in"),
    "settled": gettext_lazy("settled"),
    "corrected": gettext_lazy("corrected"),
    "withdrew": gettext_lazy("withdrew"),
    "retook training": gettext_lazy("took the training round once more"),
    "made gold": gettext_lazy("gave the known answer of"),
    "made a token": gettext_lazy("made the API token"),
    "revoked a token": gettext_lazy("revoked the API token"),
    "added a webhook": gettext_lazy("added the webhook to"),
    "changed a webhook": gettext_lazy("changed the webhook to"),
    "removed a webhook": gettext_lazy("removed the webhook to"),
    "renewed the secret of a webhook": gettext_lazy("renewed the secret of the webhook to"),
    "turned a webhook off": gettext_lazy("turned off the webhook to"),
}
LABELS: dict[str, str | Promise] = {
    "job": gettext_lazy("Job"),
    "role": gettext_lazy("Role"),
    "prompts": gettext_lazy("Prompts"),
    "responses": gettext_lazy("Responses"),
    "judgments": gettext_lazy("Judgments"),
    "gold": gettext_lazy("Gold"),
    "bad": gettext_lazy("Bad rows"),
    "again": gettext_lazy("Once more"),
    "right": gettext_lazy("As known"),
    "pairs": gettext_lazy("Pairs"),
    "needed": gettext_lazy("Needed"),
    "days": gettext_lazy("Days"),
    "kind": gettext_lazy("Kind"),
    "model": gettext_lazy("Model"),
    "url": gettext_lazy("Address"),
    "events": gettext_lazy("Told of"),
    "is_on": gettext_lazy("On"),
}
ANYONE = gettext_noop("anyone with the link")  # whom an invitation without an address is for, as rows keep it
CHANGES = {"changed", "role", "corrected", "deployment"}  # Their details are {field: [before, after]}.


def record(
    project: Project | None, actor: User | None, verb: str, subject: str = "", **details: Any
) -> AuditEvent:
    """Add a line. Call it in the transaction of what it tells of, so that neither is there without the other."""
    return AuditEvent.objects.create(
        project=project, actor=actor, verb=verb[:40], subject=subject[:200], details=details
    )


def sentence(event: AuditEvent) -> str:
    """What was done, after the name of who did it."""
    subject = event.subject
    if event.verb in ("started", "cancelled") and subject in Job.Kind.values:
        subject = str(Job.Kind(subject).label)
    elif subject == ANYONE:
        subject = _(ANYONE)
    elif event.verb == "joined":
        subject = ""  # whoever joins is named before the sentence already
    return f"{VERBS.get(event.verb, event.verb)} {subject}".strip()


def details(event: AuditEvent) -> Iterator[tuple[str, str, str]]:
    """(what, before, after) of each detail; something that was not a change has no before."""
    given = event.details if isinstance(event.details, dict) else {"": event.details}
    for name, value in given.items():
        if event.verb in CHANGES and isinstance(value, list) and len(value) == 2:
            yield label(name), shown(name, value[0]), shown(name, value[1])
        else:
            yield label(name), "", shown(name, value)


def label(name: str) -> str:
    """A setting's name as the settings page has it."""
    if name in LABELS:
        return str(LABELS[name])
    fields = {field.name: field for field in Project._meta.fields}
    return capfirst(str(fields[name].verbose_name)) if name in fields else name.replace("_", " ")


def shown(name: str, value: Any) -> str:
    if value is None or value in ("", [], {}):
        return _("none")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, float) and (name.endswith("_share") or name == "norm_cap"):
        return f"{100 * value:.6g} %"
    if isinstance(value, list):
        return ", ".join(str(part) for part in value)
    return str(value)
