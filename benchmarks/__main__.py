"""Run one benchmark: ``python -m benchmarks NAME [--json FILE] ...`` (``--help`` after NAME lists its options).

benchmarks/NAME.py has ``add_arguments(parser)`` and ``run(args) -> {"figures": {key: number}, "rows": [...]}``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "krippendorff")


def names() -> list[str]:
    """Benchmarks that can be run."""
    modules = sorted(Path(__file__).parent.glob("[!_]*.py"))
    return [path.stem for path in modules if "\ndef add_arguments(" in path.read_text(encoding="utf-8")]


def machine() -> dict[str, str]:
    """Where the figures come from."""
    report = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
    }
    for package in PACKAGES:
        try:
            report[package] = version(package)
        except PackageNotFoundError:
            continue
    return report


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text; a column a key, in order of first appearance."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [keys, *([_cell(row.get(key)) for key in keys] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(keys))]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in cells)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return str(value)


def _finite(value: Any) -> Any:
    """JSON has no infinity: an unknown number is null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main(argv: list[str]) -> int:
    """Parse, run, print, write."""
    first = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, add_help=False)
    first.add_argument("name", choices=names())
    if not argv or argv[0] in ("-h", "--help"):
        first.print_help()
        return 0
    name = first.parse_args(argv[:1]).name
    module = importlib.import_module(f"benchmarks.{name}")
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=module.__doc__)
    parser.add_argument("--json", type=Path, help="also write figures and rows to this file")
    module.add_arguments(parser)
    args = parser.parse_args(argv[1:])
    started = time.perf_counter()
    result = module.run(args)
    print(f"benchmark {name}: {' '.join(argv[1:])}")
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(
        f"seeds {getattr(args, 'seeds', getattr(args, 'seed', 'fixed'))}; {time.perf_counter() - started:.0f} s\n"
    )
    print(table(result["rows"]))
    print("\n" + "\n".join(f"{key} = {_cell(value)}" for key, value in sorted(result["figures"].items())))
    if args.json:
        report = {
            "benchmark": name,
            "figures": result["figures"],
            "rows": result["rows"],
            "machine": machine(),
        }
        args.json.write_text(json.dumps(_finite(report), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
