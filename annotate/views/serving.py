"""The deployment stage for those who run a project: the policy report, what users were shown, settings, generators."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotate import deploying, generating
from annotate.access import form_view, project_view
from annotate.celery import ring
from annotate.deployforms import DeploymentForm, GeneratorForm
from annotate.errors import TouchstoneError
from annotate.models import Generator, Project, Role
from annotate.progress import policies as reading
from annotate.progress import serving
from annotate.views.administration import back, get_or_post, person


@require_safe
@project_view(Role.REVIEWER)
def policies(request: HttpRequest, project: Project) -> HttpResponseBase:
    return render(request, "serving/policies.html", {"project": project, "report": reading.report(project)})


@form_view(Role.REVIEWER, "policies")
def policies_report(request: HttpRequest, project: Project) -> HttpResponseBase:
    ring("report", project.pk)
    said = _("A worker makes the report anew; reload the page in a moment.")
    return back(request, "policies", project.slug, said=said)


@require_safe
@project_view(Role.REVIEWER)
def deployment(request: HttpRequest, project: Project) -> HttpResponseBase:
    context = {
        "project": project,
        "part": serving.serving(project),
        "deployment": deploying.settings_of(project),
        "generators": project.generators.all(),
    }
    return render(request, "serving/deployment.html", context)


@get_or_post
@project_view(Role.ADMIN)
def deployment_settings(request: HttpRequest, project: Project) -> HttpResponseBase:
    given = deploying.settings_of(project)
    form = DeploymentForm(request.POST or None, instance=given)
    if request.method == "POST" and form.is_valid():
        changes = deploying.change(project, person(request), form.values())
        said = (
            _("Saved. The next request is answered by these settings.")
            if changes
            else _("Nothing was changed.")
        )
        return back(request, "deployment", project.slug, said=said)
    return render(request, "serving/settings.html", {"project": project, "form": form})


@form_view(Role.ADMIN, "deployment")
def deployment_link(request: HttpRequest, project: Project) -> HttpResponseBase:
    deploying.renew_link(project, person(request))
    said = _("The arena has a new address; the old one leads nowhere now.")
    return back(request, "deployment", project.slug, said=said)


@get_or_post
@project_view(Role.ADMIN)
def generator_new(request: HttpRequest, project: Project) -> HttpResponseBase:
    return generator_form(request, project, Generator(project=project))


@get_or_post
@project_view(Role.ADMIN)
def generator_change(request: HttpRequest, project: Project, generator_id: int) -> HttpResponseBase:
    return generator_form(request, project, get_object_or_404(Generator, pk=generator_id, project=project))


def generator_form(request: HttpRequest, project: Project, generator: Generator) -> HttpResponseBase:
    form = GeneratorForm(request.POST or None, instance=generator)
    if request.method == "POST" and form.is_valid():
        key, forget = form.cleaned_data["key"], form.cleaned_data.get("forget_key", False)
        try:
            generating.save(form.save(commit=False), person(request), key, forget)
            return back(request, "deployment", project.slug, said=_("The generator was saved."))
        except TouchstoneError as error:
            form.add_error(None, str(error))
    return render(
        request, "serving/generator.html", {"project": project, "form": form, "generator": generator}
    )


@get_or_post
@project_view(Role.ADMIN)
def generator_remove(request: HttpRequest, project: Project, generator_id: int) -> HttpResponseBase:
    generator = get_object_or_404(Generator, pk=generator_id, project=project)
    if request.method == "POST":
        generating.remove(generator, person(request))
        return back(request, "deployment", project.slug, said=_("The generator was removed."))
    return render(request, "serving/generator_remove.html", {"project": project, "generator": generator})
