"""The page that MLflow keeps of a sweep leads to the runs of its trials."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from factories import make_frontier, make_record

from sweeps.reports.frontier_html import frontier_page

RECORD = make_record("a", [(985, 400)])


@pytest.mark.parametrize(
    ("address", "base"),
    [("http://lab:5000", "http://lab:5000/#/experiments/3/runs/"), ("sqlite:///runs/mlflow.db", None)],
)
def test_links_are_put_in_when_the_page_is_logged(address: str, base: str | None) -> None:
    from sweeps.tracking.mlflow_runs import Tracking, _Child

    logged: dict[str, bytes] = {}

    class Client:
        def log_artifacts(self, run_id: str, folder: str) -> None:
            logged.update({path.name: path.read_bytes() for path in Path(folder).iterdir()})

    tracking: Any = Tracking(address, "experiment")
    tracking.__dict__ |= {"_experiment_id": "3", "_client": Client()}
    tracking._children["parent"] = {"a": _Child("run-a", 0, "done")}
    page = frontier_page([RECORD], make_frontier([RECORD]), "s").encode()
    tracking._log_files("parent", {"frontier.html": page, "frontier.png": b"png"})
    assert logged["frontier.png"] == b"png"
    (links,) = re.findall(rb'id="links">(.*?)</script>', logged["frontier.html"])
    after = "?workflowType=machine_learning"  # else the UI may open its half for language models
    runs = {"base": base, "after": after, "sweep": "parent", "runs": {"a": "run-a"}}
    assert json.loads(links) == (None if base is None else runs)
