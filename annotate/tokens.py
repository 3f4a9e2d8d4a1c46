"""Tokens of the API: made once, shown once, found by their digest; never more than their owner may do."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import auditing
from annotate.access import visible_projects
from annotate.errors import TouchstoneError
from annotate.models import Project, Token, User, Verb

MARK = "tst_"
DAYS = (7, 30, 90, 365)
MOST_TOKENS = 100
USE_IS_NOTED_EVERY = timedelta(minutes=1)


def make(
    user: User, name: str, verbs: Sequence[str], projects: Sequence[Project] | None, days: int
) -> tuple[Token, str]:
    """A new token and its text, which is stored nowhere; ``projects`` of None: every project the owner is in."""
    check(user, name, verbs, projects, days)
    text, now = MARK + secrets.token_urlsafe(32), timezone.now()
    with transaction.atomic():
        token = Token.objects.create(
            user=user,
            name=name.strip(),
            start=text[:8],
            digest=digest_of(text),
            verbs=[verb for verb in Verb.values if verb in verbs],
            every_project=projects is None,
            created_at=now,
            expires_at=now + timedelta(days=days),
        )
        token.projects.set(projects or [])
        noted(token, user, "made a token", verbs=token.verbs, days=days)
    return token, text


def check(user: User, name: str, verbs: Sequence[str], projects: Sequence[Project] | None, days: int) -> None:
    if not name.strip():
        raise TouchstoneError(_("Give the token a name, such as what will use it."))
    if not verbs or not {*verbs} <= {*Verb.values}:
        raise TouchstoneError(_("Choose what the token may do."))
    if days not in DAYS:
        raise TouchstoneError(_("A token holds for {days} days.").format(days=", ".join(map(str, DAYS))))
    if projects is not None:
        mine = set(visible_projects(user).values_list("pk", flat=True))
        if not projects or not {project.pk for project in projects} <= mine:
            raise TouchstoneError(_("Choose projects of yours, or all of them."))
    if living(user, timezone.now()).count() >= MOST_TOKENS:
        raise TouchstoneError(_("You have {most} tokens; revoke some first.").format(most=MOST_TOKENS))


def living(user: User, now: datetime) -> QuerySet[Token]:
    return user.tokens.filter(revoked_at=None, expires_at__gt=now)


def revoke(user: User, token_id: int) -> Token:
    """Dead from this moment; revoking twice is revoking once. Somebody else's token does not exist."""
    token = user.tokens.filter(pk=token_id).first()
    if token is None:
        raise TouchstoneError(_("There is no such token of yours."), code="gone")
    with transaction.atomic():
        if user.tokens.filter(pk=token_id, revoked_at=None).update(revoked_at=timezone.now()):
            noted(token, user, "revoked a token")
    return token


def noted(token: Token, user: User, verb: str, **details: Any) -> None:
    """A line in the audit log of every project that the token names; one for all of them has a line of no project."""
    named: list[Project | None] = [*token.projects.all()]
    for project in named or [None]:
        auditing.record(project, user, verb, token.name, **details)


def digest_of(text: str) -> str:
    """Of 256 random bits, so a plain hash is enough: there is nothing to guess."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def found(text: str) -> Token | None:
    """The living token with this text, its use noted (to the minute: a busy token does not write at every call)."""
    now = timezone.now()
    living_tokens = Token.objects.filter(revoked_at=None, expires_at__gt=now, user__is_active=True)
    token = living_tokens.select_related("user").filter(digest=digest_of(text)).first()
    if token is not None and (token.used_at is None or token.used_at < now - USE_IS_NOTED_EVERY):
        stale = Q(used_at=None) | Q(used_at__lt=now - USE_IS_NOTED_EVERY)
        Token.objects.filter(stale, pk=token.pk).update(used_at=now)
    return token


def reaches(token: Token, project: Project) -> bool:
    """Whether the token names the project, or is for all of its owner's."""
    return token.every_project or token.projects.filter(pk=project.pk).exists()


def projects_of(token: Token) -> QuerySet[Project]:
    """What the token reaches now: its projects, of those that its owner is in at this moment."""
    mine = visible_projects(token.user)
    return mine if token.every_project else mine.filter(tokens=token)
