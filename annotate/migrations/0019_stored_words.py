"""PostgreSQL keeps the words of each text in a column, with the project among them.

Until now the index alone had them, and a search for a common word made them anew of every text that it looked at.
The tables are written anew, which takes about half a minute for each 100,000 responses. SQLite stays as it is.
"""

from importlib import import_module

from django.db import migrations

TEXTS = (("annotate_prompt", "text"), ("annotate_response", "text"), ("annotate_judgment", "rationale"))


def make_indexes(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    for table, column in TEXTS:
        words = (
            f"array_to_tsvector(ARRAY['project ' || project_id::text]) "
            f"|| to_tsvector('simple', left({column}, 200000))"
        )
        schema_editor.execute(f"DROP INDEX IF EXISTS {table}_{column}_words")
        schema_editor.execute(
            f"ALTER TABLE {table} ADD COLUMN {column}_words tsvector "
            f"GENERATED ALWAYS AS (CASE WHEN {column} <> '' THEN {words} END) STORED"
        )
        schema_editor.execute(
            f"CREATE INDEX {table}_{column}_words ON {table} USING gin ({column}_words) "
            f"WHERE {column}_words IS NOT NULL"
        )


def drop_indexes(apps, schema_editor):
    """The columns, and with them their indexes."""
    if schema_editor.connection.vendor == "postgresql":
        for table, column in TEXTS:
            schema_editor.execute(f"ALTER TABLE {table} DROP COLUMN IF EXISTS {column}_words")


def as_before(apps, schema_editor):
    """The indexes of the migration ``search``, of words that nothing keeps."""
    drop_indexes(apps, schema_editor)
    if schema_editor.connection.vendor == "postgresql":
        import_module("annotate.migrations.0009_search").make_indexes(apps, schema_editor)


class Migration(migrations.Migration):
    dependencies = [("annotate", "0018_training_pass")]
    operations = [migrations.RunPython(make_indexes, as_before)]
