"""The arrows of the design, held by reading the imports of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SITE = {"django", "celery", "annotate"}
AVOIDED = {"utils", "helpers", "services", "managers", "core", "common"}


def modules(folder: str) -> list[Path]:
    return [path for path in sorted((ROOT / folder).rglob("*.py")) if "migrations" not in path.parts]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reaches(path: Path, prefixes: set[str]) -> list[str]:
    return [name for name in imports(path) if any(name == p or name.startswith(p + ".") for p in prefixes)]


@pytest.mark.parametrize("path", modules("annotate/models"), ids=lambda p: p.name)
def test_models_import_nothing_of_ours_but_each_other(path: Path) -> None:
    ours = [name for name in reaches(path, {"annotate", "learner"}) if not name.startswith("annotate.models")]
    assert ours == []


def test_views_never_import_the_learner() -> None:
    pages = modules("annotate/views") + modules("annotate/api")
    found = {str(path.relative_to(ROOT)): reaches(path, {"learner"}) for path in pages}
    assert {name: names for name, names in found.items() if names} == {}
    assert found


def test_in_the_learner_only_tasks_know_the_site() -> None:
    found = {
        str(path.relative_to(ROOT)): reaches(path, SITE)
        for path in modules("learner")
        if "tasks" not in path.relative_to(ROOT / "learner").parts
    }
    assert {name: names for name, names in found.items() if names} == {}


def test_the_client_knows_nothing_of_the_site() -> None:
    found = {path.name: reaches(path, SITE | {"learner", "ninja"}) for path in modules("clients/python")}
    assert {name: names for name, names in found.items() if names} == {}
    assert len(found) > 5


def test_selection_never_imports_an_estimator() -> None:
    found = [name for path in modules("learner/selection") for name in reaches(path, {"learner.estimators"})]
    assert found == []


def test_the_web_process_never_loads_torch() -> None:
    code = (
        "import django; django.setup(); import annotate.urls, annotate.wsgi, sys;"
        "heavy = {'torch', 'transformers', 'sklearn', 'learner.estimators'} & set(sys.modules); print(heavy)"
    )
    result = subprocess.run(
        [sys.executable, "-c", f"import os; os.environ['DJANGO_SETTINGS_MODULE']='annotate.settings'; {code}"],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == "set()"


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = {path.stem for folder in ("annotate", "learner", "benchmarks") for path in modules(folder)}
    assert names & AVOIDED == set()


def bodies(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            yield f"{path.relative_to(ROOT)}:{node.name}", (body[-1].end_lineno or 0) - body[0].lineno + 1


LIMITS = [("annotate/views", 25), ("annotate/api", 25), ("annotate", 60), ("learner", 60)]


@pytest.mark.parametrize(("folder", "most"), LIMITS)
def test_functions_stay_short(folder: str, most: int) -> None:
    long = {name: lines for path in modules(folder) for name, lines in bodies(path) if lines > most}
    assert long == {}


def test_modules_stay_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in ("annotate", "learner", "benchmarks")
        for path in modules(folder)
        if (lines := path.read_text().count("\n")) > 400
    }
    assert long == {}


def test_only_one_module_makes_outgoing_requests() -> None:
    clients = {"http.client", "urllib.request", "requests", "httpx", "aiohttp", "urllib3"}
    found = {
        str(path.relative_to(ROOT)): names
        for folder in ("annotate", "learner")
        for path in modules(folder)
        if (names := reaches(path, clients))
    }
    assert set(found) == {"annotate/outbound.py"}
