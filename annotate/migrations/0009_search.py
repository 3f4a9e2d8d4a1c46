"""Text indexes for prompts, responses and rationales.

A later migration that rebuilds one of these tables on SQLite drops its triggers; ``tests/test_browsing.py`` notices.
Such a migration ends with ``migrations.RunPython(make_indexes)`` of a module of its own, as here.
"""

from django.db import migrations

TEXTS = (("annotate_prompt", "text"), ("annotate_response", "text"), ("annotate_judgment", "rationale"))


def make_indexes(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for table, column in TEXTS:
            schema_editor.execute(
                f"CREATE INDEX IF NOT EXISTS {table}_{column}_words ON {table} "
                f"USING gin (to_tsvector('simple', left({column}, 200000))) WHERE {column} <> ''"
            )
    else:
        for table, column in TEXTS:
            make_sqlite_index(schema_editor, table, column)


def make_sqlite_index(schema_editor, table, column):
    """An external-content FTS5 table: it holds the words, the texts stay where they are."""
    index = f"{table}_{column}"
    add = f"INSERT INTO {index}(rowid, {column}) VALUES (new.id, new.{column});"
    take = f"INSERT INTO {index}({index}, rowid, {column}) VALUES ('delete', old.id, old.{column});"
    schema_editor.execute(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {index} USING fts5({column}, content='{table}', content_rowid='id', "
        "columnsize=0, tokenize='unicode61 remove_diacritics 2')"
    )
    schema_editor.execute(f"INSERT INTO {index}({index}) VALUES ('rebuild')")
    for name, event, body in (
        ("added", "AFTER INSERT", add),
        ("removed", "AFTER DELETE", take),
        ("changed", f"AFTER UPDATE OF {column}", take + " " + add),
    ):
        rows = {"added": "new", "removed": "old", "changed": "old"}[name]
        when = f"WHEN {rows}.{column} <> ''" if name != "changed" else f"WHEN old.{column} <> new.{column}"
        schema_editor.execute(
            f"CREATE TRIGGER IF NOT EXISTS {index}_{name} {event} ON {table} {when} BEGIN {body} END"
        )


def drop_indexes(apps, schema_editor):
    for table, column in TEXTS:
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(f"DROP INDEX IF EXISTS {table}_{column}_words")
            continue
        for name in ("added", "removed", "changed"):
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_{column}_{name}")
        schema_editor.execute(f"DROP TABLE IF EXISTS {table}_{column}")


class Migration(migrations.Migration):
    dependencies = [("annotate", "0008_findings")]
    operations = [migrations.RunPython(make_indexes, drop_indexes)]
