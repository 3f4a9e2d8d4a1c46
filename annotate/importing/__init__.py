"""Bringing data in: prompts, responses and labelled pairs, from files of every shape that people have."""

from annotate.importing.files import ImportResult, import_file
from annotate.importing.preview import Preview, preview
from annotate.importing.rows import Options
from annotate.importing.sniff import sniff

__all__ = ["ImportResult", "Options", "Preview", "import_file", "preview", "sniff"]
