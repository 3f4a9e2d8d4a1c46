"""What requests may hold and answers hold. Inputs are strict: another field is an error, never ignored."""

from __future__ import annotations

from typing import Annotated

from ninja import Schema
from pydantic import AfterValidator, ConfigDict, Field

from annotate.errors import TouchstoneError
from annotate.importing.texts import storable


class Input(Schema):
    """A request's body: no other field, no type that is nearly right."""

    model_config = ConfigDict(extra="forbid", strict=True)


def keepable(text: str) -> str:
    """Refuse what no database keeps."""
    try:
        return storable(text, "The text")
    except TouchstoneError as error:
        raise ValueError(str(error)) from None


PLAIN = {"pattern": "^[^\\u0000]*$"}
FILLED = {"pattern": "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$"}


def filled(text: str) -> str:
    if not text.strip():
        raise ValueError("The text is empty.")
    return text


Note = Annotated[str, AfterValidator(keepable), Field(json_schema_extra=PLAIN)]
Text = Annotated[str, AfterValidator(keepable), AfterValidator(filled), Field(json_schema_extra=FILLED)]
Name = Annotated[str, Field(max_length=200), AfterValidator(keepable), Field(json_schema_extra=PLAIN)]


class ErrorAt(Schema):
    where: str
    what: str


class ProblemOut(Schema):
    """RFC 9457, with a code to branch on and, for an invalid request, every error with its place."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[ErrorAt] = []
