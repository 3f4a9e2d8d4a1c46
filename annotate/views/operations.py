"""What load balancers, monitors and browsers ask by themselves."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.templatetags.static import static
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from annotate import health, metrics


@never_cache
@require_safe
def alive(request: HttpRequest) -> HttpResponse:
    """The process answers; nothing else is asked."""
    return HttpResponse("ok", content_type="text/plain")


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """503 when the database or the broker is away; the learner's lag is told, and does not stop judgments."""
    report = health.report()
    return JsonResponse(report, status=200 if report["ready"] else 503)


@never_cache
@require_safe
def version(request: HttpRequest) -> JsonResponse:
    """Which Touchstone this is."""
    return JsonResponse({"name": "touchstone", "version": settings.VERSION})


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """What a browser asks for on a page that names no icon."""
    return redirect(static("icon.svg"))


@never_cache
@require_safe
def metrics_page(request: HttpRequest) -> HttpResponse:
    """For Prometheus. Whoever may not read it is not told more."""
    if not metrics.may_read(request):
        return HttpResponse("Forbidden\n", status=403, content_type="text/plain")
    return HttpResponse(metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")
