"""``python -m tests.fuzz --minutes 10``: schemathesis against the API's own schema, for as long as you like.

The same as tests/test_fuzzing_the_api.py, which takes seconds; TOUCHSTONE_TEST_DATABASE_URL chooses the database.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

LEFT_OUT = (
    # A request that the schema allows may still be refused: a pair that is not yours, nothing to undo.
    "positive_data_acceptance",
)
HERE = Path(__file__).parent


def run(
    url: str, token: str, seconds: int, folder: Path, **known: object
) -> subprocess.CompletedProcess[str]:
    """Schemathesis for so many seconds; its own exit status and words. ``known``: values of parameters in paths."""
    given = "".join(f'"path.{name}" = "{value}"\n' for name, value in known.items())
    (folder / "schemathesis.toml").write_text(f"[parameters]\n{given}")
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/api/v1/openapi.json",
        "-H", f"Authorization: Bearer {token}", "--max-time", str(seconds), "--exclude-checks", ",".join(LEFT_OUT),
        "--request-timeout", "30", "--suppress-health-check", "all", "--continue-on-failure", "--no-color",
        "--report", "ndjson", "--report-ndjson-path", str(folder / "events.ndjson"),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=seconds + 240)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    seconds = int(60 * parser.parse_args().minutes)
    arguments = [
        "-m",
        "pytest",
        "-n",
        "0",
        "-s",
        f"--timeout={seconds + 600}",
        str(HERE / "test_fuzzing_the_api.py"),
    ]
    return subprocess.call(
        [sys.executable, *arguments], env=os.environ | {"TOUCHSTONE_FUZZ_SECONDS": str(seconds)}
    )


if __name__ == "__main__":
    sys.exit(main())
