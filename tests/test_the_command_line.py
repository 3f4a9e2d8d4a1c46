"""What the commands say when something is wrong, and what they do when it is not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from annotate.accounts import first_accounts
from annotate.models import Estimator, Project, User
from tests.learn import embed_and_absorb

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("port", ["eighty", "0", "70000"])
def test_a_wrong_port_gets_a_sentence(port: str) -> None:
    with pytest.raises(CommandError, match="PORT is a number from 1 to 65535"):
        call_command("up", port=port)


def test_a_taken_port_gets_a_sentence_with_a_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CommandError, match="PORT=8001 make run"):
            call_command("up", port=str(taken.getsockname()[1]))


def test_a_data_folder_that_cannot_be_written_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    environment = os.environ | {"TOUCHSTONE_DATA": str(tmp_path / "file" / "data")}
    command = [sys.executable, str(ROOT / "manage.py"), "check"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "cannot be written" in result.stderr
    assert "Set TOUCHSTONE_DATA" in result.stderr
    assert "Traceback" not in result.stderr


def test_production_without_a_secret_key_does_not_start() -> None:
    environment = {**os.environ, "PRODUCTION": "1", "SECRET_KEY": ""}
    command = [sys.executable, str(ROOT / "manage.py"), "check"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "SECRET_KEY" in result.stderr


@pytest.mark.django_db
def test_the_first_accounts_are_made_once_with_passwords_that_work() -> None:
    made = first_accounts(demo=True)
    assert [account.role for account in made] == ["admin", "annotator"]
    for account in made:
        assert User.objects.get(username=account.username).check_password(account.password)
    assert first_accounts(demo=True) == []


@pytest.mark.django_db
def test_admin_email_and_password_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_EMAIL", "boss@example.org")
    monkeypatch.setenv("ADMIN_PASSWORD", "a long enough secret")
    (account,) = first_accounts(demo=False)
    assert account.username == "boss@example.org"
    assert "a long enough secret" not in account.password
    assert User.objects.get(email="boss@example.org").check_password("a long enough secret")


@pytest.mark.django_db
def test_the_admin_password_comes_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a long enough secret\n")
    monkeypatch.setenv("ADMIN_PASSWORD_FILE", str(tmp_path / "password"))
    first_accounts(demo=False)
    assert User.objects.get().check_password("a long enough secret")


def test_a_secret_from_a_file_is_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a-secret\n")
    names = ("METRICS_TOKEN", "SEALING_KEY", "HF_TOKEN")
    files = {f"{name}_FILE": str(tmp_path / "secret") for name in names}
    code = """
import os
from annotate import settings
print([settings.METRICS_TOKEN, settings.SEALING_KEY, os.environ["HF_TOKEN"]])
"""
    environment = {name: value for name, value in os.environ.items() if name not in names} | files
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(["a-secret"] * 3)


@pytest.mark.django_db
def test_a_weak_admin_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_PASSWORD", "password")
    with pytest.raises(CommandError, match="too weak"):
        first_accounts(demo=False)


@pytest.mark.django_db
def test_replay_of_an_unknown_project_lists_those_there_are(project: Project) -> None:
    with pytest.raises(CommandError, match="Projects: tides"):
        call_command("replay", "no-such-project")


@pytest.mark.django_db(transaction=True)
def test_replay_compares_every_stored_state(project: Project) -> None:
    embed_and_absorb(project)
    output = StringIO()
    call_command("replay", project.slug, stdout=output)
    assert "all the same bits" in output.getvalue()
    Estimator.objects.filter(role="production").update(digest="0" * 64)
    with pytest.raises(CommandError, match="not what the log gives"):
        call_command("replay", project.slug, stdout=output)
