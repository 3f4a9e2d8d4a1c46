"""Plots of benchmark reports: ``python -m benchmarks.plots REPORT.json ... --out FOLDER`` writes one SVG a report."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import altair as alt

TICKS = [25, 50, 100, 200, 400, 800]
LABELS = alt.Scale(type="log", domain=[20, 1000], nice=False)
COLOURS = {
    "random": "#6b7280",
    "random_capped": "#a3a3a3",
    "d_optimal": "#1d4ed8",
    "info_max": "#0d9488",
    "max_uncertainty": "#b45309",
    "max_uncertainty_uncapped": "#dc2626",
    "d_optimal_uncapped": "#7c3aed",
}


def efficiency(report: dict[str, Any]) -> Any:
    """Held-out log-loss against labels, a panel a variant."""
    rows = [row for row in report["rows"] if row["rule"] in COLOURS and row["labels"] >= 25]
    present = [rule for rule in COLOURS if any(row["rule"] == rule for row in rows)]
    colour = alt.Color(
        "rule:N",
        title=None,
        sort=present,
        scale=alt.Scale(domain=present, range=[COLOURS[r] for r in present]),
    )
    base = alt.Chart(alt.InlineData(values=rows)).mark_line(point=True)
    lines = base.encode(
        x=alt.X("labels:Q", title="labels", scale=LABELS, axis=alt.Axis(values=TICKS)),
        y=alt.Y("log_loss:Q", title="held-out log-loss", scale=alt.Scale(zero=False, domainMax=0.75, clamp=True)),
        color=colour,
    ).properties(width=360, height=240)  # fmt: skip
    return (
        lines.facet(alt.Column("variant:N", title=None))
        if len({row["variant"] for row in rows}) > 1
        else lines
    )


def deployment(report: dict[str, Any]) -> Any:
    """Cumulative regret by chunk."""
    rows = [
        {"estimator": row["estimator"], "rule": row["rule"], "chunk": chunk + 1, "regret": regret}
        for row in report["rows"]
        for chunk, regret in enumerate(row["cumulative_regret"])
    ]
    chart = alt.Chart(alt.InlineData(values=rows)).mark_line()
    return chart.encode(
        x=alt.X("chunk:Q"),
        y=alt.Y("regret:Q", title="cumulative regret, logits"),
        color=alt.Color("rule:N", title=None),
        strokeDash=alt.StrokeDash("estimator:N", title=None),
    ).properties(width=420, height=260)


CHARTS = {"efficiency": efficiency, "deployment": deployment}


def main(argv: list[str]) -> int:
    """Draw every report that has a chart; the image is named after the report's file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.reports:
        report = json.loads(path.read_text())
        if report["benchmark"] not in CHARTS:
            print(f"{path.name}: no chart for {report['benchmark']}")
            continue
        target = args.out / f"{path.stem}.svg"
        CHARTS[report["benchmark"]](report).configure_view(stroke=None).save(str(target))
        print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
