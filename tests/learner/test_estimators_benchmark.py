"""The update benchmark gives its figures, on a problem small enough for every test run."""

from __future__ import annotations

import argparse
import math

from benchmarks import update


def test_the_update_benchmark_gives_its_figures() -> None:
    parser = argparse.ArgumentParser()
    update.add_arguments(parser)
    words = ["--dim", "6", "--judgments", "120", "--seeds", "1", "--repeats", "1"]
    result = update.run(parser.parse_args(words))
    for key in ("update_over_floor", "warm_refit_over_update", "accuracy_gap", "log_loss_gap"):
        assert math.isfinite(result["figures"][key])
    assert result["figures"]["update_over_floor"] > 0 and result["figures"]["warm_refit_over_update"] > 0
    assert abs(result["figures"]["log_loss_gap"]) < 0.05
    assert {"floor", "OnePass", "BatchMLE", "SGD"} <= {row["what"] for row in result["rows"]}
