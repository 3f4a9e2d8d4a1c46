"""`manage.py doctor`: each thing that is wrong gets a line that says what to do."""

from __future__ import annotations

import os
import socket
import threading
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from annotate import health
from annotate.management.commands import doctor
from annotate.models import Heartbeat, Project

pytestmark = pytest.mark.django_db


def looks(*only: str) -> dict[str, str]:
    """What needs a hand, with the advice."""
    chosen = [look for look in doctor.LOOKS if look.__name__ in only]
    assert len(chosen) == len(only)
    found = {what: advice for look in chosen for fine, what, advice in look() if not fine}
    assert all(found.values()), "a finding without advice"
    return found


@pytest.fixture
def well(project: Project, settings: Any) -> Any:
    """An installation in order, in production."""
    Project.objects.update(encoder="hashing")
    Heartbeat.objects.create(worker="w", queues="learn,embed,jobs,score", seen_at=timezone.now())
    settings.PRODUCTION, settings.SECRET_KEY = True, "k3" * 25
    settings.ALLOWED_HOSTS = ["touchstone.example.org"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://touchstone.example.org"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    return settings


def test_nothing_needs_a_hand_where_all_is_well(well: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 0)
    said = StringIO()
    call_command("doctor", stdout=said)
    assert "LOOK" not in said.getvalue()


def test_it_ends_with_the_number_of_things_to_do(well: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 0)
    Heartbeat.objects.update(queues="learn,jobs")
    said = StringIO()
    with pytest.raises(CommandError, match="2 things need a hand"):
        call_command("doctor", stdout=said)
    assert "LOOK  queue embed has no worker  -> manage.py work --queues embed" in said.getvalue()


def test_a_database_that_is_away_is_the_only_thing_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "database_answers", lambda: False)
    assert list(looks("database")) == ["database does not answer"]


def test_migrations_to_apply_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.MigrationExecutor, "migration_plan", lambda *_: [1, 2])
    assert looks("database") == {"2 migrations to apply": "manage.py prepare"}


def test_a_broker_and_a_cache_that_are_away(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(health, "broker_answers", lambda: False)
    assert "CELERY_BROKER_URL" in looks("broker")["broker does not answer"]
    gone = "redis://127.0.0.1:1/0"
    settings.CACHES = {"default": {"BACKEND": "annotate.caching.ForgivingRedisCache", "LOCATION": gone}}
    assert "REDIS_URL" in looks("caches")["cache does not answer"]


def test_each_queue_without_a_worker_is_named(well: Any) -> None:
    Heartbeat.objects.update(seen_at=timezone.now() - doctor.timedelta(minutes=5))
    assert list(looks("workers")) == [
        f"queue {name} has no worker" for name in ("learn", "embed", "jobs", "score")
    ]


def test_a_full_disk_and_an_open_key_file(
    monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Any
) -> None:
    settings.DATA = tmp_path
    (tmp_path / "secret_key").write_text("x")
    (tmp_path / "secret_key").chmod(0o644)
    monkeypatch.setattr(doctor, "LEAST_FREE", 2**62)
    found = looks("files")
    assert any("GiB free" in what for what in found)
    assert found["key file has mode 644"] == f"chmod 600 {tmp_path / 'secret_key'}"
    settings.DATA = tmp_path / "gone"
    assert "let this user write there" in looks("files").values()


def test_static_files_not_collected_and_a_storage_that_cannot_be_written(
    settings: Any, tmp_path: Any
) -> None:
    (tmp_path / "file").write_text("not a folder")
    hashed = "whitenoise.storage.CompressedManifestStaticFilesStorage"
    files = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": tmp_path / "file"},
    }
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STORAGES = {"default": files, "staticfiles": {"BACKEND": hashed}}
    found = looks("storage")
    assert any(what.startswith("storage of files") for what in found)
    assert "manage.py collectstatic --noinput" in found.values()


def test_an_encoder_that_is_not_there(project: Project) -> None:
    Project.objects.update(encoder="models/nowhere")
    (what,) = looks("encoder")
    assert what.startswith("encoder models/nowhere")


def test_mail_that_goes_nowhere_and_a_server_that_is_away(well: Any) -> None:
    well.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert "EMAIL_URL" in looks("letters")["e-mail goes to the log"]
    well.PRODUCTION = False
    assert looks("letters") == {}
    well.EMAIL_BACKEND, well.EMAIL_HOST, well.EMAIL_PORT = (
        "django.core.mail.backends.smtp.EmailBackend",
        "127.0.0.1",
        1,
    )
    assert looks("letters") == {
        "e-mail: ConnectionRefusedError": "check EMAIL_URL: host, port, user, password"
    }


def test_a_mail_server_that_answers(well: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        well.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        well.EMAIL_HOST, well.EMAIL_PORT = listener.getsockname()
        well.EMAIL_USE_TLS = well.EMAIL_USE_SSL = False
        threading.Thread(target=greet, args=(listener,), daemon=True).start()
        assert looks("letters") == {}


def greet(listener: socket.socket) -> None:
    """As much of SMTP as a connection needs."""
    here, _ = listener.accept()
    with here:
        here.sendall(b"220 hello\r\n")
        while said := here.recv(1000):
            here.sendall(b"221 bye\r\n" if said.lower().startswith(b"quit") else b"250 yes\r\n")


def test_production_without_hosts_origins_or_a_key(well: Any) -> None:
    assert looks("safety") == {}
    well.ALLOWED_HOSTS, well.CSRF_TRUSTED_ORIGINS, well.SECRET_KEY, well.DEBUG = (
        ["127.0.0.1"],
        [],
        "short",
        True,
    )
    found = looks("safety")
    assert {"no host but this machine is allowed", "forms are refused behind a TLS proxy"} < set(found)
    assert any("SECRET_KEY" in what for what in found)
    assert any("DEBUG" in what for what in found)
    well.CSRF_TRUSTED_ORIGINS = ["http://touchstone.example.org"]
    assert "forms are refused behind a TLS proxy" in looks("safety")


def test_a_worker_asks_only_for_itself() -> None:
    said = StringIO()
    with pytest.raises(CommandError):
        call_command("doctor", "--worker", stdout=said)
    assert "restart it" in said.getvalue()
    Heartbeat.objects.create(worker="w", queues="learn", host=os.uname().nodename, seen_at=timezone.now())
    call_command("doctor", "--worker", stdout=StringIO())
