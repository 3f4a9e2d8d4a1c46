"""The cast: Ada runs the project, Ben and Cho annotate, Dan is a stranger."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connections
from django.test import Client
from django.utils import translation

from annotate.models import Membership, Project, Prompt, Response, Role, User

PASSWORD = "correct horse battery"


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """SQLite's test database is a file: threads and processes of one test share it, as in real life."""
    database = connections["default"].settings_dict
    if "sqlite" in database["ENGINE"]:
        database["TEST"]["NAME"] = str(Path(django_settings.DATA) / "tests.sqlite3")


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    """Hashing slowly is for real passwords."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def no_language_of_other_tests() -> Iterator[None]:
    """A request in Arabic leaves its language with the thread, as the next request would set its own."""
    yield
    translation.deactivate()


@pytest.fixture(autouse=True)
def no_files_of_other_tests() -> Iterator[None]:
    """Rows are rolled back and their ids come again; files are not, so they go with the test that made them."""
    data = Path(os.environ["TOUCHSTONE_DATA"])
    yield
    for folder in (data / "projects", data / "files" / "projects", data / "files" / "exports"):
        shutil.rmtree(folder, ignore_errors=True)


def person(name: str, **fields: Any) -> User:
    return User.objects.create_user(name, f"{name}@example.org", PASSWORD, **fields)


@pytest.fixture
def ada(db: None) -> User:
    return person("ada")


@pytest.fixture
def ben(db: None) -> User:
    return person("ben")


@pytest.fixture
def cho(db: None) -> User:
    return person("cho")


@pytest.fixture
def dan(db: None) -> User:
    return person("dan")


@pytest.fixture
def project(ada: User, ben: User, cho: User) -> Project:
    """A project of 12 prompts with 4 responses each, run by Ada, annotated by Ben and Cho; no overlap."""
    project = Project.objects.create(
        name="Tides", slug="tides", seed="00" * 16, created_by=ada, overlap_share=0.0
    )
    Membership.objects.create(project=project, user=ada, role=Role.ADMIN)
    for user in (ben, cho):
        Membership.objects.create(project=project, user=user, role=Role.ANNOTATOR)
    fill(project, prompts=12, responses=4)
    return project


@pytest.fixture
def eve(db: None) -> User:
    """Admin of another project."""
    user = person("eve")
    other = Project.objects.create(name="Other", slug="other", created_by=user)
    Membership.objects.create(project=other, user=user, role=Role.ADMIN)
    return user


@pytest.fixture
def root(db: None) -> User:
    return person("root", is_superuser=True, is_staff=True)


@pytest.fixture
def staff_ada(ada: User) -> User:
    ada.is_staff = True
    ada.save()
    return ada


def fill(project: Project, prompts: int, responses: int, start: int = 0) -> None:
    """Give a project prompts and responses without going through an import; every sixth prompt evaluates."""
    for n in range(prompts):
        i = start + n
        text = f"Question {i}: why does the tide turn?"
        prompt = Prompt.objects.create(
            project=project,
            position=project.prompt_count + n,
            text=text,
            digest=hashlib.sha256(text.encode()).hexdigest(),
            is_evaluation=i % 6 == 5,
            response_count=responses,
        )
        for k in range(responses):
            answer = f"Answer {k} to question {i}: " + "the moon pulls the sea. " * (k + 1)
            Response.objects.create(
                project=project,
                prompt=prompt,
                position=project.response_count + n * responses + k,
                text=answer,
                source=f"source-{k}",
                digest=hashlib.sha256(answer.encode()).hexdigest(),
                utility=float(k),
            )
    project.prompt_count += prompts
    project.response_count += prompts * responses
    project.largest_prompt = max(project.largest_prompt, responses)
    project.save()


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
    return client


@pytest.fixture
def as_ada(ada: User) -> Client:
    return signed_in(ada)


@pytest.fixture
def as_ben(ben: User) -> Client:
    return signed_in(ben)


@pytest.fixture
def as_cho(cho: User) -> Client:
    return signed_in(cho)


@pytest.fixture
def as_dan(dan: User) -> Client:
    return signed_in(dan)
