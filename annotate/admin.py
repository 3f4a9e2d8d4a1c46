"""Django's admin for support: everything can be looked at, next to nothing changed.

The same permissions hold as on the pages: a superuser sees every project, other staff the projects that they are
admin of. Rows that the write paths keep consistent (leases, judgments, counters, the log) are read-only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allauth.account.admin import EmailAddress, EmailAddressAdmin
from allauth.account.decorators import secure_admin_login
from allauth.mfa.admin import Authenticator, AuthenticatorAdmin
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from annotate import auditing, models, serving
from annotate.access import visible_projects
from annotate.models import Lease, Project, Role, User

if TYPE_CHECKING:
    Anything = admin.ModelAdmin[Any]
    Accounts = UserAdmin[User]
else:  # Django's own classes take no parameters.
    Anything, Accounts = admin.ModelAdmin, UserAdmin

admin.site.site_header = admin.site.site_title = "Touchstone"
admin.site.index_title = _("Support")
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
OnlySeen = admin.RelatedOnlyFieldListFilter  # A filter's list of names is a list of projects, too.


def administered(request: HttpRequest) -> QuerySet[Project]:
    user: User = request.user  # type: ignore[assignment]
    projects = visible_projects(user)
    return (
        projects
        if user.is_superuser
        else projects.filter(memberships__user=user, memberships__role=Role.ADMIN)
    )


class ReadOnly(Anything):
    """Rows of the projects that the person is admin of, to look at."""

    project_path = "project"
    list_per_page = 50
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        if request.user.is_superuser:
            return rows
        return rows.filter(**{f"{self.project_path}__in": administered(request).values("pk")})

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.is_staff

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        seen = request.user.is_active and request.user.is_staff
        return seen and (obj is None or self.get_queryset(request).filter(pk=obj.pk).exists())

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class OfTheInstallation(ReadOnly):
    """Rows that belong to no project: a superuser's."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.is_superuser

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_module_permission(request)


@admin.register(models.Project)
class Projects(ReadOnly):
    project_path = "pk"
    list_display = ("name", "slug", "rule", "prompt_count", "response_count", "created_at", "archived_at")
    search_fields = ("name", "slug")
    exclude = ("seed",)  # Who knows it can tell arms and sides beforehand.


@admin.register(models.Membership)
class Memberships(ReadOnly):
    list_display = ("user", "project", "role", "created_at")
    list_filter = ("role", ("project", OnlySeen))
    list_select_related = ("user", "project")
    search_fields = ("user__username", "user__email")


@admin.register(models.Invitation)
class Invitations(ReadOnly):
    list_display = ("__str__", "project", "role", "email", "expires_at", "accepted_at", "revoked_at")
    list_filter = ("role", ("project", OnlySeen))
    list_select_related = ("project",)
    search_fields = ("email",)
    exclude = ("token_digest",)


@admin.register(models.Prompt)
class Prompts(ReadOnly):
    list_display = ("__str__", "project", "position", "response_count", "is_evaluation")
    list_filter = (("project", OnlySeen), "is_evaluation")
    list_select_related = ("project",)
    search_fields = ("=external_id",)


@admin.register(models.Response)
class Responses(ReadOnly):
    list_display = ("__str__", "project", "prompt_id", "position", "source")
    list_filter = (("project", OnlySeen),)
    list_select_related = ("project",)
    search_fields = ("=external_id",)
    raw_id_fields = ("prompt",)


@admin.register(models.Comparison)
class Comparisons(ReadOnly):
    list_display = ("id", "project", "arm", "rule", "state", "wanted", "taken", "judged", "created_at")
    list_filter = (("project", OnlySeen), "arm", "state")
    list_select_related = ("project",)
    search_fields = ("=id",)


@admin.register(models.Lease)
class Leases(ReadOnly):
    list_display = ("id", "project", "annotator", "comparison_id", "outcome", "created_at", "expires_at")
    list_filter = ("outcome", ("project", OnlySeen))
    list_select_related = ("project", "annotator")
    search_fields = ("=id", "annotator__username")
    actions = ("release",)

    @admin.action(description=_("Give the chosen open pairs back to the others"), permissions=["view"])
    def release(self, request: HttpRequest, chosen: QuerySet[Lease]) -> None:
        actor: User = request.user  # type: ignore[assignment]
        with transaction.atomic():
            held = list(
                chosen.filter(outcome=Lease.Outcome.OPEN).select_for_update(of=("self",)).order_by("id")
            )
            for lease in held:
                serving.close(lease, Lease.Outcome.EXPIRED, timezone.now(), "released")
                auditing.record(lease.project, actor, "released", lease.annotator.name, lease=str(lease.pk))
        said = ngettext("{n} pair was given back.", "{n} pairs were given back.", len(held))
        self.message_user(request, said.format(n=len(held)), messages.SUCCESS)


@admin.register(models.Judgment)
class Judgments(ReadOnly):
    list_display = (
        "id",
        "project",
        "annotator",
        "answer",
        "lead_time",
        "created_at",
        "absorbed_step",
        "replaced_at",
    )
    list_filter = (("project", OnlySeen), "answer")
    list_select_related = ("project", "annotator")
    search_fields = ("=id", "annotator__username")


@admin.register(models.FeatureVersion)
class FeatureVersions(ReadOnly):
    list_display = ("id", "project", "encoder", "state", "dimension", "embedded", "created_at", "live_at")
    list_filter = (("project", OnlySeen), "state")
    list_select_related = ("project",)


@admin.register(models.Estimator)
class Estimators(ReadOnly):
    list_display = (
        "id",
        "project",
        "role",
        "feature_version",
        "step",
        "judgments",
        "generation",
        "updated_at",
    )
    list_filter = (("project", OnlySeen), "role")
    list_select_related = ("project", "feature_version")


@admin.register(models.Checkpoint)
class Checkpoints(ReadOnly):
    project_path = "estimator__project"
    list_display = ("id", "estimator", "step", "bytes", "created_at")
    list_select_related = ("estimator",)


@admin.register(models.Job)
class Jobs(ReadOnly):
    list_display = ("id", "kind", "project", "state", "done", "total", "message", "created_at", "finished_at")
    list_filter = ("state", "kind", ("project", OnlySeen))
    list_select_related = ("project",)


@admin.register(models.AuditEvent)
class AuditEvents(ReadOnly):
    list_display = ("created_at", "actor", "verb", "subject", "project")
    list_filter = ("verb", ("project", OnlySeen))
    list_select_related = ("project", "actor")
    search_fields = ("subject", "actor__username")


@admin.register(models.Heartbeat)
class Heartbeats(OfTheInstallation):
    list_display = ("worker", "queues", "started_at", "seen_at")


@admin.register(models.User)
class Users(Accounts):
    """A superuser opens and closes accounts and sets passwords. Nobody is deleted: their leases and judgments stay."""

    list_display = (
        "username",
        "email",
        "is_active",
        "is_staff",
        "is_superuser",
        "is_synthetic",
        "last_login",
    )
    list_filter = ("is_active", "is_staff", "is_superuser", "is_synthetic")
    filter_horizontal = ()
    readonly_fields = ("is_synthetic", "last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password", "first_name", "last_name", "email")}),
        (_("Rights"), {"fields": ("is_active", "is_staff", "is_superuser", "is_synthetic")}),
        (_("Dates"), {"fields": ("last_login", "date_joined")}),
    )

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.is_superuser

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_module_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_module_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


# Roles are of projects here; groups mean nothing. Addresses and second factors are shown to superusers alone.
admin.site.unregister(Group)
for model, theirs in ((EmailAddress, EmailAddressAdmin), (Authenticator, AuthenticatorAdmin)):
    shown = ("user", "email", "primary", "verified") if model is EmailAddress else theirs.list_display
    admin.site.unregister(model)
    admin.site.register(model, OfTheInstallation, list_display=shown, fields=shown)


# What the parts of the product keep: to look at. What opens something (keys, links, salts, digests) is shown to nobody.
LOOKED_AT: list[tuple[type[Model], str, tuple[str, ...], tuple[str, ...]]] = [
    (models.TrainingAnswer, "project", ("annotator", "comparison_id", "answer", "created_at"), ()),
    (models.Reliability, "project", ("annotator", "judgments", "estimate", "side_bias", "updated_at"), ()),
    (models.Agreement, "project", ("project", "criterion", "alpha", "pairs", "judgments"), ()),
    (models.Evaluation, "estimator__project", ("estimator", "judgments", "held_out", "created_at"), ()),
    (models.Refit, "feature_version__project", ("feature_version", "step", "is_alarming", "created_at"), ()),
    (
        models.EmbeddingShard,
        "feature_version__project",
        ("feature_version", "start", "stop", "worker", "done"),
        (),
    ),
    (models.Scoring, "project", ("id", "project", "kind", "state", "message", "created_at"), ()),
    (models.Deployment, "project", ("project", "is_on", "is_public"), ("link",)),
    (models.Generator, "project", ("project", "source", "kind", "is_on"), ("sealed_key", "url")),
    (models.DeploymentRequest, "project", ("id", "project", "state", "message", "created_at"), ("visitor",)),
    (models.Generation, "request__project", ("id", "request_id", "source", "state", "message"), ()),
    (models.Endpoint, "project", ("id", "project", "is_on", "off_reason"), ("salt", "url")),
    (models.Delivery, "endpoint__project", ("endpoint", "event", "state", "attempts", "tried_at"), ()),
    (models.Setback, "project", ("task", "subject", "project", "failures", "message", "next_at"), ()),
]
# Where Django guesses the plural wrong. In a model's Meta it would take a migration that changes no table.
models.Delivery._meta.verbose_name_plural = "deliveries"
models.Reliability._meta.verbose_name_plural = "reliabilities"
for looked_at, path, columns, hidden in LOOKED_AT:
    admin.site.register(looked_at, ReadOnly, project_path=path, list_display=columns, exclude=hidden)
admin.site.register(
    models.Token,
    OfTheInstallation,
    list_display=("user", "name", "start", "created_at", "expires_at", "revoked_at", "used_at"),
    exclude=("digest",),
)
