"""Data going out of the browser: an export as a download that streams."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_safe

from annotate.access import project_view
from annotate.errors import TouchstoneError
from annotate.exporting import MEDIA, Filters, begin, stream, wanted
from annotate.exporting.asking import weigh_by
from annotate.importing.texts import json_of
from annotate.models import Arm, AuditEvent, Project, Role


@require_safe
@project_view(Role.ADMIN)
def export_download(request: HttpRequest, project: Project, name: str) -> HttpResponseBase:
    file, asked = wanted(name), json_of(dict(request.GET.lists()), "The address")
    weigh = weigh_by(project, request.GET.get("weigh", ""))
    run = begin(project, file.kind, filters_of(request), weigh)
    pieces: Iterator[bytes] = iter(())
    if request.method != "HEAD":
        pieces = stream(run, file)
        AuditEvent.objects.create(
            project=project,
            actor=request.user,  # type: ignore[misc]
            verb="exported",
            subject=name,
            details=asked,
        )
    media = "application/gzip" if file.packed else MEDIA[file.format]
    response = StreamingHttpResponse(pieces, content_type=media)
    response["Content-Disposition"] = f'attachment; filename="{project.slug}-{file.name}"'
    return response


def filters_of(request: HttpRequest) -> Filters:
    """The part of the project that the address names: ?arm=control&split=train&tag=code&min_votes=2."""
    arms, splits = (tuple(request.GET.getlist(name)) for name in ("arm", "split"))
    if not {*arms} <= {*Arm.values} or not {*splits} <= {"train", "test"}:
        raise TouchstoneError("There is no such arm or split to filter by.")
    try:
        votes = int(request.GET.get("min_votes", "1"))
        agreement = float(request.GET.get("min_agreement", "0"))
        since = parse_datetime(request.GET["since"]) if "since" in request.GET else None
    except ValueError:
        raise TouchstoneError("min_votes and min_agreement are numbers, since is a time.") from None
    return Filters(arms, splits, tuple(request.GET.getlist("tag")), votes, agreement, aware(since))


def aware(time: datetime | None) -> datetime | None:
    return timezone.make_aware(time) if time and timezone.is_naive(time) else time
