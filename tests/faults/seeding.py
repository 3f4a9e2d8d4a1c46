"""Run inside a private installation: a project with people and their sessions."""

from __future__ import annotations

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore

from annotate.models import Membership, Project, Role, User
from tests.conftest import fill


def seed(people: int, prompts: int, responses: int) -> list[str]:
    """Make the project "faults" and its annotators; their session keys."""
    project = Project.objects.create(
        name="Faults", slug="faults", encoder="hashing", dimensions=16, evaluation_prompt_share=0.2
    )
    fill(project, prompts, responses)
    return [sign_in(project, f"annotator-{i}") for i in range(people)]


def sign_in(project: Project, name: str) -> str:
    """A member with a session, as after signing in."""
    user = User.objects.create(username=name)
    user.set_unusable_password()
    user.save()
    Membership.objects.create(project=project, user=user, role=Role.ANNOTATOR)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "allauth.account.auth_backends.AuthenticationBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)
