"""The statements of every single answer, written out: composing them took several times as long as running them.

They say the same on SQLite and PostgreSQL. Everything that is asked less often goes through the models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import AutoField, DateTimeField, Field, JSONField, Model, UUIDField

from annotate.models import Comparison, DeploymentRequest, Lease, Project, Prompt, Response, Scoring

MOST_ROWS = 500  # of one statement
PREPARED = (DateTimeField, JSONField, UUIDField)  # the two databases keep these differently
PROJECT = """
    SELECT project.*, member.role AS held FROM annotate_project project
    LEFT JOIN annotate_membership member ON member.project_id = project.id AND member.user_id = %(user)s
    WHERE project.slug = %(slug)s
"""
LEASE = "SELECT * FROM annotate_lease WHERE id = %(lease)s AND annotator_id = %(annotator)s"
OPEN_LEASES = """
    SELECT * FROM annotate_lease WHERE project_id = %(project)s AND annotator_id = %(annotator)s
        AND outcome = 'open' AND expires_at > %(now)s
    ORDER BY created_at, id
"""
TEXTS = """
    SELECT prompt.id, prompt.text, prompt.messages, pair.first_id AS first, first.text AS first_text,
        pair.second_id AS second, second.text AS second_text
    FROM annotate_comparison pair JOIN annotate_prompt prompt ON prompt.id = pair.prompt_id
    JOIN annotate_response first ON first.id = pair.first_id
    JOIN annotate_response second ON second.id = pair.second_id
    WHERE pair.id = %(comparison)s
"""
CLOSE = """
    UPDATE annotate_lease SET outcome = 'judged', closed_at = %(now)s WHERE id = %(lease)s AND outcome = %(outcome)s
"""
WAITING = """
    SELECT waiting.id FROM annotate_comparison waiting
    WHERE waiting.project_id = %(project)s AND waiting.state = 'open' AND waiting.taken < waiting.wanted
        AND waiting.arm NOT IN ('gold', 'deployment') AND NOT EXISTS (
            SELECT 1 FROM annotate_lease had
            WHERE had.comparison_id = waiting.id AND had.annotator_id = %(annotator)s AND had.outcome <> 'expired')
    ORDER BY waiting.id LIMIT 1
"""
SKIPPING = " FOR NO KEY UPDATE OF waiting SKIP LOCKED"  # SQLite has one writer at a time anyway
TAKE_WAITING = """
    UPDATE annotate_comparison SET taken = taken + 1 WHERE id = ({waiting})
    RETURNING id, EXISTS (SELECT 1 FROM annotate_lease had
        WHERE had.comparison_id = annotate_comparison.id AND had.annotator_id = %(annotator)s)
"""
EXPIRED = """
    SELECT EXISTS (
        SELECT 1 FROM annotate_lease WHERE project_id = %s AND outcome = 'open' AND expires_at <= %s)
"""
OFFERED = """
    SELECT response.id, prompt.id, prompt.response_count
    FROM annotate_response response JOIN annotate_prompt prompt ON prompt.id = response.prompt_id
    WHERE response.project_id = %s AND response.position IN ({places})
        AND NOT prompt.is_evaluation AND NOT prompt.is_deployment
"""
PARTNERS = "SELECT id FROM annotate_response WHERE prompt_id = %s AND id <> %s"
TAKE = "UPDATE annotate_comparison SET taken = taken + 1 WHERE id = %(comparison)s"
JUDGED = """
    UPDATE annotate_comparison SET judged = judged + %(change)s, state = CASE
        WHEN state = 'open' AND judged + %(change)s >= wanted THEN 'done'
        WHEN state = 'done' AND judged + %(change)s < wanted THEN 'open' ELSE state END
    WHERE id = %(comparison)s
"""
OWN = """
    SELECT COUNT(*), COALESCE(SUM(CASE WHEN created_at >= %(today)s THEN 1 ELSE 0 END), 0) FROM annotate_judgment
    WHERE project_id = %(project)s AND annotator_id = %(annotator)s AND replaced_at IS NULL
"""
SERVING = """
    SELECT EXISTS (SELECT 1 FROM annotate_scoring WHERE state = 'waiting'),
        EXISTS (SELECT 1 FROM annotate_deploymentrequest WHERE state = 'waiting')
"""
LIVE = """
    SELECT version.id, version.created_at, estimator.generation, estimator.step, version.embedded
    FROM annotate_estimator estimator JOIN annotate_featureversion version ON version.id = estimator.feature_version_id
    WHERE estimator.project_id = %(project)s AND estimator.role = %(role)s AND version.state = 'live'
"""
READY = """
    SELECT EXISTS (SELECT 1 FROM annotate_featureversion WHERE project_id = %(project)s AND state = 'live'),
        EXISTS (
            SELECT 1 FROM annotate_estimator estimator
            JOIN annotate_featureversion version ON version.id = estimator.feature_version_id
            WHERE version.project_id = %(project)s AND version.state = 'live' AND estimator.role = 'production'
                AND estimator.judgments > 0),
        EXISTS (SELECT 1 FROM annotate_heartbeat WHERE queues LIKE '%%score%%' AND seen_at >= %(since)s)
"""
CANDIDATES = """
    SELECT response.id, response.prompt_id, response.position, response.text, prompt.text
    FROM annotate_response response JOIN annotate_prompt prompt ON prompt.id = response.prompt_id
    WHERE response.id IN ({places})
"""
GENERATING = "SELECT EXISTS (SELECT 1 FROM annotate_generation WHERE state = 'waiting')"


def project_of(slug: str, user_id: int) -> Project | None:
    """The project, with the user's role in it as ``held`` (None: not a member)."""
    return next(iter(Project.objects.raw(PROJECT, {"slug": slug, "user": user_id})), None)


def lease_of(lease_id: UUID, annotator_id: int) -> Lease | None:
    """The annotator's lease, not locked."""
    values = {"lease": as_stored(lease_id), "annotator": annotator_id}
    return next(iter(Lease.objects.raw(LEASE, values)), None)


def as_stored(lease_id: UUID) -> Any:
    return Lease._meta.pk.get_db_prep_value(lease_id, connection)


def close_as_judged(lease_id: UUID, outcome: str, now: datetime) -> bool:
    """Close the lease if it still has this outcome."""
    values = {"lease": as_stored(lease_id), "outcome": outcome}
    return run(CLOSE, now=connection.ops.adapt_datetimefield_value(now), **values) == 1


def open_leases(project_id: int, annotator_id: int, now: datetime) -> list[Lease]:
    """What the annotator holds, oldest first."""
    values = {"project": project_id, "annotator": annotator_id, "now": now}
    return list(Lease.objects.raw(OPEN_LEASES, values))


def put_texts(leases: Iterable[Lease]) -> None:
    """Give leases the texts of their comparison; everything else of it is read when it is asked for."""
    for lease in leases:
        found: Any = Prompt.objects.raw(TEXTS, {"comparison": lease.comparison_id})[0]
        keys = (lease.comparison_id, found.pk, found.first, found.second)
        lease.comparison = Comparison.from_db(
            connection.alias, ("id", "prompt_id", "first_id", "second_id"), keys
        )
        lease.comparison.prompt = found
        lease.comparison.first = with_text(found.first, found.first_text)
        lease.comparison.second = with_text(found.second, found.second_text)


def with_text(response_id: int, text: str) -> Response:
    return Response.from_db(connection.alias, ("id", "text"), (response_id, text))


def take_waiting(project_id: int, annotator_id: int) -> tuple[int, bool] | None:
    """Take a place of the oldest comparison with room that this annotator never had or let expire; whether they had it.

    It stays locked, as one statement found and changed it.
    """
    skipping = SKIPPING if connection.features.has_select_for_update_skip_locked else ""
    statement = TAKE_WAITING.format(waiting=WAITING + skipping)
    row = first(statement, project=project_id, annotator=annotator_id)
    return None if row is None else (int(row[0]), bool(row[1]))


def any_expired(project_id: int, now: datetime) -> bool:
    """Whether somebody's lease ran out and was not given back yet."""
    return bool(rows_of(EXPIRED, project_id, connection.ops.adapt_datetimefield_value(now))[0][0])


def offered(project_id: int, positions: list[int]) -> list[tuple[int, int, int]]:
    """Of the responses at these positions, those that the control arm draws from: id, prompt and its responses."""
    places = ", ".join(["%s"] * len(positions))
    return rows_of(OFFERED.format(places=places), project_id, *positions)


def partners(prompt_id: int, response_id: int) -> list[int]:
    """The prompt's other responses."""
    return [key for (key,) in rows_of(PARTNERS, prompt_id, response_id)]


def take(comparison_id: int) -> None:
    """One more place of the comparison is somebody's; the database refuses more than are wanted."""
    run(TAKE, comparison=comparison_id)


def count_judged(comparison_id: int, change: int) -> None:
    """Keep the comparison's counter and state in step with its current judgments."""
    run(JUDGED, comparison=comparison_id, change=change)


def own_progress(project_id: int, annotator_id: int, today: datetime) -> tuple[int, int]:
    """How many current judgments an annotator has made, of old and since this morning; read from one index."""
    since = connection.ops.adapt_datetimefield_value(today)
    row = first(OWN, project=project_id, annotator=annotator_id, today=since)
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def who_waits() -> tuple[bool, bool]:
    """Whether texts, and whether users' requests wait for the scoring worker; asked many times a second."""
    scorings, requests = first(SERVING)
    return bool(scorings), bool(requests)


def ready(project_id: int, since: datetime) -> tuple[bool, bool, bool]:
    """Whether something is embedded, something was learned, and a scoring worker was heard since."""
    row = first(READY, project=project_id, since=connection.ops.adapt_datetimefield_value(since))
    return bool(row[0]), bool(row[1]), bool(row[2])


def live_estimator(project_id: int, role: str) -> tuple[Any, ...] | None:
    """Of the live version: its id, when it was made, the estimator's generation and step, rows embedded; as stored."""
    row = first(LIVE, project=project_id, role=role)
    return None if row is None else tuple(row)


def candidates(keys: Iterable[int]) -> list[Response]:
    """Responses with their position and text, and their prompts' texts."""
    wanted = list(keys)
    places = ", ".join(["%s"] * len(wanted))
    found = []
    fields = ("id", "prompt_id", "position", "text")  # in the model's order
    for *values, prompt in rows_of(CANDIDATES.format(places=places), *wanted):
        response = Response.from_db(connection.alias, fields, values)
        response.prompt = Prompt.from_db(connection.alias, ("id", "text"), (values[1], prompt))
        found.append(response)
    return found


def generation_waits() -> bool:
    """Whether an answer waits to be written."""
    return bool(first(GENERATING)[0])


def state_of(row: Scoring | DeploymentRequest) -> str | None:
    """The row's state now, and nothing else of it; None when it is gone."""
    meta = row._meta
    key = meta.pk.get_db_prep_value(row.pk, connection)
    found = first(f"SELECT state FROM {meta.db_table} WHERE id = %(id)s", id=key)  # noqa: S608 - a model's name
    return None if found is None else str(found[0])


def insert(row: Model) -> None:
    """Store a new row by a statement that was composed once; its key is set where the database makes it."""
    statement, fields, makes_key = inserting(type(row), connection.vendor)
    stored([row], rows_of(statement, *values_of(row, fields)), makes_key)


def insert_all(rows: Sequence[Model]) -> None:
    """Store new rows of one model, in their order; PostgreSQL takes Django's arrays, which are quicker there."""
    if not rows:
        return
    if connection.vendor == "postgresql":
        type(rows[0])._default_manager.bulk_create(rows, batch_size=MOST_ROWS)
        return
    statement, fields, makes_key = inserting(type(rows[0]), connection.vendor)
    places = f"({', '.join(['%s'] * len(fields))})"
    size = min(MOST_ROWS, connection.ops.bulk_batch_size([field for field, _ in fields], rows))
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        several = statement.replace(places, ", ".join([places] * len(batch)))
        values = [value for row in batch for value in values_of(row, fields)]
        stored(batch, rows_of(several, *values), makes_key)


def values_of(row: Model, fields: Iterable[tuple[Field[Any, Any], bool]]) -> list[Any]:
    return [
        getattr(row, field.attname)
        if as_it_is
        else field.get_db_prep_save(field.pre_save(row, add=True), connection)
        for field, as_it_is in fields
    ]


def stored(rows: Sequence[Model], keys: Sequence[Sequence[Any]], makes_key: bool) -> None:
    for row, (key,) in zip(rows, keys, strict=True):
        if makes_key:
            row.pk = key
        row._state.adding, row._state.db = False, connection.alias


@cache
def inserting(model: type[Model], vendor: str) -> tuple[str, list[tuple[Field[Any, Any], bool]], bool]:
    """The statement, the fields whose values it takes (as they are or prepared), if the database makes the key."""
    meta, quote = model._meta, connection.ops.quote_name
    makes_key = isinstance(meta.pk, AutoField)
    fields = [field for field in meta.local_concrete_fields if not (field.primary_key and makes_key)]
    columns = ", ".join(quote(str(field.column)) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    statement = f"INSERT INTO {quote(meta.db_table)} ({columns}) VALUES ({places})"  # noqa: S608 - a model's names
    kinds = [(field, not isinstance(getattr(field, "target_field", field), PREPARED)) for field in fields]
    return f"{statement} RETURNING {quote(str(meta.pk.column))}", kinds, makes_key


def run(statement: str, **values: Any) -> int:
    """How many rows it changed."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)


def first(statement: str, **values: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()


def rows_of(statement: str, *values: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
