"""Running the place: jobs, the audit log, and who is alive."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Job(models.Model):
    """Long work with progress. Whoever claims its row runs it; see annotate/jobs.py for the write path."""

    class Kind(models.TextChoices):
        IMPORT = "import", _("Import")
        EMBED = "embed", _("Embed")
        REFIT = "refit", _("Refit")
        EXPORT = "export", _("Export")
        SIMULATE = "simulate", _("Simulate")
        DRY_RUN = "dry_run", _("Dry run")
        BUILD = "build", _("New feature version")
        FINE_TUNE = "fine_tune", _("Fine-tune")
        MODEL = "model", _("Reward model")
        GENERATE = "generate", _("Generate responses")

    class State(models.TextChoices):
        DRAFT = "draft", _("Not started")
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
    attempts = models.PositiveSmallIntegerField(default=0, help_text="How often a worker claimed it.")
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

    @property
    def is_open(self) -> bool:
        """Whether something may still happen to it without anybody asking again."""
        return self.state in (self.State.WAITING, self.State.RUNNING)

    @property
    def seconds_left(self) -> float | None:
        if self.state != self.State.RUNNING or not self.total or not self.rate:
            return None
        return max(0, self.total - self.done) / self.rate


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
    """A worker that was alive when last heard, and what it was doing."""

    worker = models.CharField(max_length=200, unique=True)
    queues = models.CharField(max_length=200)
    host = models.CharField(max_length=200, blank=True)
    doing = models.JSONField(default=list, blank=True, help_text='[{"task", "of", "since"}], one a thread.')
    done = models.PositiveBigIntegerField(default=0, help_text="Tasks since it started.")
    measures = models.JSONField(
        default=dict, blank=True, help_text="Sums since it started: annotate/measures.py."
    )
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    swept_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["-seen_at"], name="heartbeat_seen")]

    def __str__(self) -> str:
        return self.worker


class Setback(models.Model):
    """A task that failed for one row, how often, and when it is tried again; gone once it succeeds."""

    task = models.CharField(max_length=40)
    subject = models.PositiveBigIntegerField(help_text="Key of the row that it was about.")
    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="setbacks")
    failures = models.PositiveIntegerField(default=1)
    message = models.TextField()
    failed_at = models.DateTimeField(default=timezone.now)
    next_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "subject"], name="setback_once")]

    def __str__(self) -> str:
        return f"{self.task} {self.subject}: {self.message}"
