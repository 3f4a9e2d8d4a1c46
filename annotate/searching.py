"""Full-text search: the words a person types, as a condition that PostgreSQL's and SQLite's text indexes answer.

The indexes are kept current by the database: on SQLite by triggers (the migration ``search``), on PostgreSQL as those
of generated columns that hold each text's words (``stored_words``). A word matches in any case; "a phrase" in quotation
marks as it stands; a word* its beginnings; a -word must not occur.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import connection, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler
from django.utils.translation import gettext as _

from annotate.errors import TouchstoneError

if TYPE_CHECKING:
    Lookup = models.Lookup[bool]
else:  # Django's own class takes no parameter.
    Lookup = models.Lookup

LONGEST = 200
# Matches from which on looking at each row in turn finds a page sooner than listing them all.
COMMON = {"postgresql": 5_000, "sqlite": 20_000}
TERM = re.compile(r'(-?)(?:"([^"]*)"|([^\s"]+))')


class Search(NamedTuple):
    """What is looked for, and in which project: PostgreSQL's index knows whose a text is."""

    words: str
    project: int


@dataclass(frozen=True)
class Term:
    words: str
    is_start: bool = False
    is_unwanted: bool = False


def terms(text: str) -> list[Term]:
    """What is searched for; an error says what is wrong with it."""
    if len(text) > LONGEST:
        raise TouchstoneError(_("A search has at most {n} characters.").format(n=LONGEST))
    found = []
    for minus, phrase, word in TERM.findall(text.replace("\0", " ")):
        words = phrase or word.rstrip("*")
        if re.search(r"\w", words):
            found.append(Term(words, not phrase and word.endswith("*"), bool(minus)))
    if not any(not term.is_unwanted for term in found):
        raise TouchstoneError(_("A search needs a word to look for."))
    return found


def for_sqlite(found: list[Term]) -> str:
    """A query of FTS5: every term is a quoted string, so nothing in it is an operator."""

    def quoted(term: Term) -> str:
        text = '"' + term.words.replace('"', '""') + '"'
        return text + " *" if term.is_start else text

    wanted = " AND ".join(quoted(term) for term in found if not term.is_unwanted)
    unwanted = " OR ".join(quoted(term) for term in found if term.is_unwanted)
    return f"({wanted}) NOT ({unwanted})" if unwanted else wanted


def for_postgres(found: list[Term]) -> str:
    """A tsquery of quoted terms; the words of one term follow each other."""

    def quoted(term: Term) -> str:
        text = "'" + term.words.replace("\\", " ").replace("'", "''") + "'"
        return ("!!"[: int(term.is_unwanted)]) + text + (":*" if term.is_start else "")

    return " & ".join(quoted(term) for term in found)


@models.TextField.register_lookup
class Found(Lookup):
    """``text__found=Search(words, project)``: the rows of the project whose text has them."""

    lookup_name = "found"
    prepare_rhs = False
    rhs: Search

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
        """Few matches are listed first, by the index; left to itself, the planner reads all rows for a rare word."""
        table, column = self.lhs.target.model._meta.db_table, f"{self.lhs.target.column}_words"
        condition = f"{column} @@ (%s::tsquery && to_tsquery('simple', %s))"
        query = (f"'project {self.rhs.project:d}'", for_postgres(terms(self.rhs.words)))
        few = self.listed(f'SELECT id FROM "{table}" WHERE {condition}', *query)  # noqa: S608
        if few is None:
            return f"{compiler.quote_name_unless_alias(self.lhs.alias)}.{condition}", query
        return f"{self.key(compiler)} = ANY(%s)", (few,)

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[Any, ...]]:
        index, key = f'"{index_of(self.lhs.target)}"', self.key(compiler)
        query = for_sqlite(terms(self.rhs.words))
        rows = f"SELECT rowid FROM {index} WHERE {index} MATCH %s"  # noqa: S608
        if self.listed(rows, query) is None:
            return f"EXISTS ({rows} AND rowid = {key})", (query,)
        return f"{key} IN ({rows})", (query,)

    def listed(self, rows: str, *query: str) -> list[int] | None:
        """Asked once for all statements of a page: they share this condition."""
        if not hasattr(self, "few"):
            self.few = listed(rows, *query)
        return self.few

    def key(self, compiler: SQLCompiler) -> str:
        quote = compiler.quote_name_unless_alias
        return f"{quote(self.lhs.alias)}.{quote(self.lhs.target.model._meta.pk.column)}"


def index_of(field: models.Field[Any, Any]) -> str:
    return f"{field.model._meta.db_table}_{field.column}"


def listed(rows: str, *query: str) -> list[int] | None:
    """The keys of all matches; None if there are so many that looking at each row in turn finds a page sooner."""
    most = COMMON[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(f"{rows} LIMIT {most + 1}", query)
        keys = [key for (key,) in cursor.fetchall()]
    return keys if len(keys) <= most else None
