"""Bringing data in: prompts, responses and labelled pairs, from files of every shape that people have."""

from annotate.importing.files import ImportResult, import_file
from annotate.importing.rows import Options

__all__ = ["ImportResult", "Options", "import_file"]
