"""Another front end annotates by the API: the same leases, the same checks, the same rows as the page."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from django.db import connections

from annotate.models import Comparison, Judgment, Lease, Membership, Project, User
from tests.programs import Program

pytestmark = pytest.mark.django_db


def next_lease(program: Program) -> dict[str, Any]:
    return dict(program.post("/projects/tides/next", {}).json()["leases"][0])


def judge(program: Program, lease: dict[str, Any], **answer: Any) -> Any:
    return program.post(f"/projects/tides/leases/{lease['id']}/judgment", {"answer": "left"} | answer)


def test_a_pair_is_taken_answered_and_the_next_one_comes(project: Project, ben: User) -> None:
    program = Program(ben)
    lease = next_lease(program)
    assert next_lease(program)["id"] == lease["id"]
    assert set(lease) == {"id", "prompt", "messages", "left", "right", "expires_at"}
    answer = judge(program, lease, lead_time=0.001)
    assert (answer.status_code, answer.json()["answer"]) == (201, "left")
    row = Judgment.objects.get()
    assert (row.annotator, str(row.lease_id)) == (ben, lease["id"])
    assert row.lead_time == pytest.approx(0.001)
    assert next_lease(program)["id"] != lease["id"]


def test_the_same_pair_answered_again_keeps_its_first_answer(project: Project, ben: User) -> None:
    program = Program(ben)
    lease = next_lease(program)
    judge(program, lease)
    again = judge(program, lease, answer="right")
    assert (again.status_code, again.json()["answer"]) == (200, "left")
    assert Judgment.objects.count() == 1


def test_two_pairs_may_be_held_and_no_more(project: Project, ben: User) -> None:
    program = Program(ben)
    assert len(program.post("/projects/tides/next", {"count": 2}).json()["leases"]) == 2
    assert program.post("/projects/tides/next", {"count": 3}).status_code == 422
    assert Lease.objects.count() == 2


def test_anothers_pair_an_unknown_pair_and_another_projects_pair_are_not_there(
    project: Project, ben: User, cho: User
) -> None:
    lease = next_lease(Program(ben))
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=ben, role="annotator")
    assert judge(Program(cho), lease).status_code == 404
    assert judge(Program(ben), {"id": uuid.uuid4()}).status_code == 404
    assert (
        Program(ben).post(f"/projects/other/leases/{lease['id']}/judgment", {"answer": "left"}).status_code
        == 404
    )
    assert Program(cho).post(f"/projects/tides/leases/{lease['id']}/skip", {}).status_code == 404
    assert not Judgment.objects.exists()


FORGED: list[dict[str, Any]] = [
    {"annotator": 1}, {"arm": "gold"}, {"created_at": "2020-01-01T00:00:00Z"}, {"probability": 1.0}, {"project": 1},
    {"absorbed_step": 1}, {"role": "admin"}, {"answer": "both"}, {"answer": ["left"]}, {"strength": 4},
    {"lead_time": -1}, {"lead_time": "1"}, {"criteria": {"x": "left"}}, {"flags": ["evil"]}, {"rationale": "x" * 5_001},
    {"rationale": "\0"}, {"rationale": "\ud800"}, {"strength": 2, "answer": "tie"}, {"lead_time": 1e400},
    {"flags": [{}]}, {"strength": "2"},
]  # fmt: skip


@pytest.mark.parametrize("more", FORGED)
def test_what_a_caller_may_not_say_is_refused(project: Project, ben: User, more: dict[str, Any]) -> None:
    program = Program(ben)
    lease = next_lease(program)
    assert judge(program, lease, **more).status_code in (400, 422)
    assert not Judgment.objects.exists()


def test_an_absurd_lead_time_is_cut_to_the_time_that_the_pair_was_held(project: Project, ben: User) -> None:
    program = Program(ben)
    answer = judge(program, next_lease(program), lead_time=1e9)
    assert 0 <= answer.json()["lead_time"] < 60


def test_an_expired_pair_that_somebody_else_has_is_refused(project: Project, ben: User, cho: User) -> None:
    program = Program(ben)
    lease = next_lease(program)
    Lease.objects.update(outcome="expired")
    Comparison.objects.update(taken=1, wanted=1, judged=1, state="done")
    answer = judge(program, lease)
    assert (answer.status_code, answer.json()["code"]) == (409, "expired")


def test_skip_and_undo(project: Project, ben: User) -> None:
    program = Program(ben)
    assert program.post("/projects/tides/undo").status_code == 409
    skipped = next_lease(program)
    answer = program.post(f"/projects/tides/leases/{skipped['id']}/skip", {"reason": "language"})
    assert answer.json() == {"id": skipped["id"], "outcome": "skipped"}
    assert program.post(f"/projects/tides/leases/{skipped['id']}/skip", {"reason": "x"}).status_code == 422
    assert program.post("/projects/tides/undo").json()["id"] == skipped["id"]
    program.post(f"/projects/tides/leases/{skipped['id']}/skip", {"reason": "language"})
    lease = next_lease(program)
    judge(program, lease)
    returned = program.post("/projects/tides/undo").json()
    assert (returned["id"], returned["left"]) == (lease["id"], lease["left"])
    assert not Judgment.objects.filter(replaced_at=None).exists()


def test_new_guidelines_come_first(project: Project, ben: User) -> None:
    Project.objects.update(guidelines="Look twice.", guidelines_version=3)
    program = Program(ben)
    assert program.post("/projects/tides/next", {}).json() == {"leases": [], "nothing": "guidelines"}
    program.post("/projects/tides/guidelines/seen", {"version": 3})
    assert program.post("/projects/tides/next", {}).json()["leases"]


def test_an_archived_project_gives_no_pair(project: Project, ben: User) -> None:
    project.archived_at = project.created_at
    project.save()
    assert Program(ben).post("/projects/tides/next", {}).json()["nothing"] == "archived"


def test_renewing_keeps_what_is_held(project: Project, ben: User) -> None:
    program = Program(ben)
    before = next_lease(program)["expires_at"]
    assert program.post("/projects/tides/renew").json() == {"leases": 1}
    assert next_lease(program)["expires_at"] > before


@pytest.mark.django_db(transaction=True)
def test_fifty_answers_at_once_are_one_judgment(project: Project, ben: User) -> None:
    program = Program(ben)
    lease, codes = next_lease(program), []

    def send() -> None:
        for _ in range(5):
            codes.append(judge(program, lease).status_code)
        connections.close_all()

    threads = [threading.Thread(target=send) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Judgment.objects.count() == 1
    assert set(codes) <= {200, 201}
    assert len(codes) == 50
