"""Running the place: jobs, the audit log, and who is alive."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Job(models.Model):
    """Long work with progress: import, embed, refit, export, simulate."""

    class Kind(models.TextChoices):
        IMPORT = "import", _("Import")
        EMBED = "embed", _("Embed")
        REFIT = "refit", _("Refit")
        EXPORT = "export", _("Export")
        SIMULATE = "simulate", _("Simulate")
        DRY_RUN = "dry_run", _("Dry run")

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    project = models.ForeignKey(
        "annotate.Project", models.CASCADE, null=True, blank=True, related_name="jobs"
    )
    kind = models.CharField(max_length=16, choices=Kind.choices)
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    arguments = models.JSONField(default=dict, blank=True)
    done = models.PositiveBigIntegerField(default=0)
    total = models.PositiveBigIntegerField(null=True, blank=True)
    rate = models.FloatField(null=True, blank=True, help_text="Items a second.")
    message = models.TextField(blank=True)
    result = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey("annotate.User", models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(total__isnull=True) | Q(total__gte=0), name="job_total"),
        ]
        indexes = [models.Index(fields=["state", "kind"], name="job_state")]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}: {self.state}"


class AuditEvent(models.Model):
    """Who did what to a project's settings, people and data. Rows are only ever added."""

    project = models.ForeignKey(
        "annotate.Project", models.SET_NULL, null=True, blank=True, related_name="events"
    )
    actor = models.ForeignKey("annotate.User", models.SET_NULL, null=True, blank=True, related_name="+")
    verb = models.CharField(max_length=40)
    subject = models.CharField(max_length=200, blank=True)
    details = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["project", "-id"], name="audit_project")]

    def __str__(self) -> str:
        return f"{self.verb} {self.subject}"


class Heartbeat(models.Model):
    """A worker that was alive when last heard."""

    worker = models.CharField(max_length=200, unique=True)
    queues = models.CharField(max_length=200)
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.worker
