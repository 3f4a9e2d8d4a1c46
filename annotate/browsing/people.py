"""What annotators are called: by their names for admins, by a number for reviewers, so that reviews are blind."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext as _

from annotate.models import Arm, Judgment, Project, User

MOST = 200


def names(project: Project, is_admin: bool) -> dict[int, str]:
    """The members of the project, as many as a list can hold."""
    members = project.memberships.select_related("user").order_by("user__username")[:MOST]
    return {member.user_id: called(member.user, is_admin) for member in members}


def called(user: User, is_admin: bool) -> str:
    return user.name if is_admin else user.pseudonym


def who(judgment: Judgment, known: Mapping[int, str], is_admin: bool) -> str:
    """Who judged. Somebody who left the project is still known by the judgment."""
    if judgment.lease_id is None:
        if is_admin and judgment.imported_annotator:
            return _("%(name)s (imported)") % {"name": judgment.imported_annotator}
        return _("a user") if judgment.comparison.arm == Arm.DEPLOYMENT else str(Arm.IMPORTED.label)
    if judgment.annotator_id is None:
        return _("somebody whose account is gone")
    return known.get(judgment.annotator_id) or called(judgment.annotator, is_admin)  # type: ignore[arg-type]
