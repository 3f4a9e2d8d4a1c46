"""A project's webhooks: endpoints, and the log of what each was sent."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotate.access import form_view, project_view
from annotate.errors import TouchstoneError
from annotate.models import Delivery, Endpoint, Project, Role
from annotate.programforms import EndpointForm
from annotate.views.administration import back, get_or_post, person
from annotate.webhooks import endpoints
from annotate.webhooks.signing import secret_of

DELIVERIES_A_PAGE = 50


@get_or_post
@project_view(Role.ADMIN)
def webhooks(request: HttpRequest, project: Project) -> HttpResponseBase:
    """All endpoints, and a form for one more. Its secret is shown in the answer that makes it, and only there."""
    form, made = EndpointForm(request.POST or None, initial={"events": []}), None
    if request.method == "POST" and form.is_valid():
        try:
            made = endpoints.add(
                project, person(request), form.cleaned_data["url"], form.cleaned_data["events"]
            )
            form = EndpointForm()
        except TouchstoneError as error:
            form.add_error(None, str(error))
    context = {"project": project, "form": form, "endpoints": project.endpoints.all()}
    return shown_once(request, "programs/webhooks.html", context, made)


def shown_once(
    request: HttpRequest, template: str, context: dict[str, Any], made: Endpoint | None
) -> HttpResponseBase:
    response = render(request, template, {**context, "secret": secret_of(made) if made else "", "made": made})
    response["Cache-Control"] = "no-store"
    return response


@get_or_post
@project_view(Role.ADMIN)
def webhook(request: HttpRequest, project: Project, endpoint_id: int) -> HttpResponseBase:
    endpoint = get_object_or_404(project.endpoints, pk=endpoint_id)
    now = {"url": endpoint.url, "events": endpoint.events, "is_on": endpoint.is_on}
    form = EndpointForm(request.POST or None, initial=now)
    if request.method == "POST" and form.is_valid():
        try:
            endpoints.change(endpoint, person(request), **form.cleaned_data)
            return back(request, "webhook", project.slug, endpoint.pk, said=_("The webhook was saved."))
        except TouchstoneError as error:
            form.add_error(None, str(error))
    return webhook_page(request, project, endpoint, form)


def webhook_page(
    request: HttpRequest,
    project: Project,
    endpoint: Endpoint,
    form: EndpointForm,
    made: Endpoint | None = None,
) -> HttpResponseBase:
    page = Paginator(endpoint.deliveries.all(), DELIVERIES_A_PAGE).get_page(request.GET.get("page"))
    context = {"project": project, "endpoint": endpoint, "form": form, "page": page}
    return shown_once(request, "programs/webhook.html", context, made)


@form_view(Role.ADMIN, "webhook", "endpoint_id")
def webhook_test(request: HttpRequest, project: Project, endpoint_id: int) -> HttpResponseBase:
    endpoint = get_object_or_404(project.endpoints, pk=endpoint_id)
    endpoints.test(endpoint, person(request))
    said = _("A test message is on its way; the log below says how it went.")
    return back(request, "webhook", project.slug, endpoint.pk, said=said)


@form_view(Role.ADMIN, "webhook", "endpoint_id")
def webhook_secret(request: HttpRequest, project: Project, endpoint_id: int) -> HttpResponseBase:
    """A new secret, shown on this one answer."""
    endpoint = endpoints.renew_secret(get_object_or_404(project.endpoints, pk=endpoint_id), person(request))
    now = {"url": endpoint.url, "events": endpoint.events, "is_on": endpoint.is_on}
    return webhook_page(request, project, endpoint, EndpointForm(initial=now), endpoint)


@get_or_post
@project_view(Role.ADMIN)
def webhook_remove(request: HttpRequest, project: Project, endpoint_id: int) -> HttpResponseBase:
    endpoint = get_object_or_404(project.endpoints, pk=endpoint_id)
    if request.method != "POST":
        return render(request, "programs/webhook_remove.html", {"project": project, "endpoint": endpoint})
    endpoints.remove(endpoint, person(request))
    return back(request, "webhooks", project.slug, said=_("The webhook and its log were removed."))


@require_safe
@project_view(Role.ADMIN)
def delivery(request: HttpRequest, project: Project, delivery_id: int) -> HttpResponseBase:
    found = get_object_or_404(
        Delivery.objects.select_related("endpoint"), pk=delivery_id, endpoint__project=project
    )
    return render(request, "programs/delivery.html", {"project": project, "delivery": found})


@form_view(Role.ADMIN, "delivery", "delivery_id")
def delivery_again(request: HttpRequest, project: Project, delivery_id: int) -> HttpResponseBase:
    found = get_object_or_404(Delivery, pk=delivery_id, endpoint__project=project)
    endpoints.send_again(found)
    said = _("The message is on its way again, with the same id.")
    return back(request, "delivery", project.slug, found.pk, said=said)
