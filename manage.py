#!/usr/bin/env python
"""Touchstone's command line: ``python manage.py up`` opens a working project."""

import os
import sys


def main() -> None:
    """Hand the command to Django, after one sentence for a Python that is too old."""
    if sys.version_info < (3, 11):
        sys.exit(f"Touchstone needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotate.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed here. Run: python -m pip install -r requirements.txt")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
