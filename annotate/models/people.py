"""Who works here: users, their membership of projects, and invitations."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


class Role(models.TextChoices):
    ADMIN = "admin", _("Admin")
    REVIEWER = "reviewer", _("Reviewer")
    ANNOTATOR = "annotator", _("Annotator")


class User(AbstractUser):
    """A person, or a synthetic annotator of a simulated project (which can never sign in)."""

    email = models.EmailField(_("e-mail address"), blank=True)
    is_synthetic = models.BooleanField(default=False)
    keys = models.JSONField(default=dict, blank=True, help_text="Remapped keys: action to key.")

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(fields=["email"], condition=~Q(email=""), name="user_email_unique"),
        ]

    @property
    def name(self) -> str:
        return self.get_full_name() or self.username

    @property
    def pseudonym(self) -> str:
        """What reviewers call an annotator, so that reviews are blind."""
        return gettext("Annotator %(number)d") % {"number": self.pk}


class Membership(models.Model):
    """One person's role in one project."""

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="memberships")
    user = models.ForeignKey("annotate.User", models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices)
    guidelines_seen = models.PositiveIntegerField(
        default=0, help_text="Version of the guidelines acknowledged."
    )
    trained_at = models.DateTimeField(null=True, blank=True, help_text="When the training round was passed.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "user"], name="membership_once"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.role}"


class Invitation(models.Model):
    """A single-use way into a project, bound to a role; only the digest of its token is kept."""

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="invitations")
    role = models.CharField(max_length=16, choices=Role.choices)
    email = models.EmailField(blank=True)
    token_digest = models.CharField(max_length=64, unique=True, editable=False)
    created_by = models.ForeignKey("annotate.User", models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    accepted_by = models.ForeignKey("annotate.User", models.SET_NULL, null=True, blank=True, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(role__in=Role.values), name="invitation_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.role} of {self.project_id}"
