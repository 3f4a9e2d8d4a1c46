"""The write path of generators and of what they are asked: rows, which the worker's generating thread answers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate import auditing, deploying, outbound, scoring, sealing
from annotate.errors import TouchstoneError
from annotate.importing import conversations
from annotate.models import DeploymentRequest, Generation, Generator, Project, User

MOST_GENERATORS = 16
MOST_OPEN = 32
MOST_AT_ONCE = deploying.MOST_CANDIDATES
FOLDER = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95}){0,2}", re.ASCII)


def check(kind: str, model: str, url: str) -> None:
    """Refuse an endpoint that the installation does not list, and a model that is no folder of the models folder."""
    if kind == Generator.Kind.LOCAL:
        if not FOLDER.fullmatch(model) or ".." in model:
            raise TouchstoneError(_("A model on a worker is the name of a folder in its models folder."))
        return
    if not settings.GENERATOR_HOSTS:
        raise TouchstoneError(
            _("This installation lists no host of generators. Its operator sets GENERATOR_HOSTS."),
            code="refused",
        )
    outbound.target(url, settings.GENERATOR_HOSTS)


def save(generator: Generator, actor: User, key: str = "", forget: bool = False) -> Generator:
    """Store a generator; its key only if a new one was given. The log has neither the old key nor the new."""
    check(generator.kind, generator.model, generator.url)
    if key or forget:
        generator.sealed_key = sealing.seal(key)
    with transaction.atomic():
        project = Project.objects.select_for_update(no_key=True).get(pk=generator.project_id)
        others = project.generators.exclude(pk=generator.pk)
        if others.count() >= MOST_GENERATORS:
            raise TouchstoneError(_("A project has at most {most} generators.").format(most=MOST_GENERATORS))
        if others.filter(source=generator.source).exists():
            raise TouchstoneError(_("Another generator of this project has that source."))
        verb = "changed the generator" if generator.pk else "added the generator"
        generator.save()
        about = {"kind": generator.kind, "model": generator.model, "url": generator.url, "new key": bool(key)}
        auditing.record(project, actor, verb, generator.source, **about)
    return generator


def remove(generator: Generator, actor: User) -> None:
    with transaction.atomic():
        auditing.record(generator.project, actor, "removed the generator", generator.source)
        generator.delete()


def ask(
    project: Project,
    prompt: object,
    user: User | None = None,
    visitor: str = "",
    parent: DeploymentRequest | None = None,
) -> DeploymentRequest:
    """A request whose candidates the project's generators write."""
    given = deploying.refuse_off(project)
    scoring.refuse_unready(project, learned=False)
    generators = list(project.generators.filter(is_on=True))
    if not generators:
        raise TouchstoneError(
            _("This project has no generators: send the responses to choose from."), code="unready"
        )
    refuse_too_many(project)
    messages = conversations.prompt_messages(prompt)
    with transaction.atomic():
        request = deploying.new_request(project, given, messages, user, visitor, parent)
        request.state = DeploymentRequest.State.GENERATING
        request.save()
        Generation.objects.bulk_create(generations(request, generators))
    return request


def generations(request: DeploymentRequest, generators: Sequence[Generator]) -> list[Generation]:
    """K samples of each, in an order that says nothing about who wrote what once sides are drawn."""
    samples = [one for one in generators for _sample in range(one.samples)][:MOST_AT_ONCE]
    return [
        Generation(request=request, generator=one, source=one.source, place=place)
        for place, one in enumerate(samples)
    ]


def refuse_too_many(project: Project) -> None:
    """A flood of prompts must not queue up for hours, nor cost without bound."""
    busy = DeploymentRequest.objects.filter(project=project, state=DeploymentRequest.State.GENERATING).count()
    if busy >= MOST_OPEN:
        raise TouchstoneError(
            ngettext(
                "{n} answer is being written; ask again in a moment.",
                "{n} answers are being written; ask again in a moment.",
                busy,
            ).format(n=busy),
            code="limit",
        )
