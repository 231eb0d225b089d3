"""A person's look at a sweep: a real MLflow server, its UI in a real headless browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from browser import browser_page
from factories import make_frontier, make_manifest, make_record, make_settings
from small_nets import tiny_onnx

from sweeps.reports.frontier_html import frontier_page
from sweeps.reports.frontier_png import frontier_png
from sweeps.reports.page.links import HALF
from sweeps.reports.seed_table import seed_table, to_csv, to_markdown
from sweeps.sweep_result import SweepResult
from sweeps.tracking.background import BackgroundTracking
from sweeps.tracking.datasets import DataSet
from sweeps.tracking.notes import SMALL, Places, run_name, sweep_note

pytestmark = pytest.mark.browser

DATA = [DataSet(kind, "test", kind.ljust(64, "0"), 9, (3, 8, 8), "uint8", kind) for kind in ("clean", "bad")]
RECORDS = [
    make_record("a", [(985, 400), None, (970, 100)], make_settings("index")),
    make_record("b", [(988, 450), (980, 300), (975, 200)], make_settings("l1", x=2.0)),
    make_record("c", reason="out of memory", settings=make_settings("random")),
]


@dataclass(frozen=True)
class Site:
    """A running MLflow UI: its address, the experiment, the sweep's run and those of trials a and b."""

    address: str
    experiment: str
    sweep: str
    trial: str
    other: str

    def run(self, run_id: str, tab: str = "") -> str:
        return f"{self.address}/#/experiments/{self.experiment}/runs/{run_id}{tab}?{HALF}"


def log_sweep(uri: str, artifacts: str | None) -> Site:
    """A small sweep, logged as ``goodnet sweep`` logs it."""
    from sweeps.tracking.mlflow_runs import Tracking

    warnings: list[str] = []
    background = BackgroundTracking(
        lambda: Tracking(uri, "goodnet", artifacts), make_manifest(RECORDS), {}, warnings.append, DATA
    )
    for number, record in enumerate(RECORDS):
        background.log_trial(record.key, record.status, partial(RECORDS.__getitem__, number))
    frontier = make_frontier(RECORDS)
    table = seed_table(RECORDS, {"conv_3": 60, "conv_4": 80})
    files = {
        SMALL: frontier_png(RECORDS, frontier, "sweep-1"),
        "frontier.html": frontier_page(RECORDS, frontier, "sweep-1").encode(),
        "metrics.csv": to_csv(table).encode(),
    }
    result = SweepResult(make_manifest(RECORDS), RECORDS, frontier, 0)
    note = partial(sweep_note, result, to_markdown(table), True)
    background.finish_sweep({"hypervolume": frontier.hypervolume}, files, note)
    run_id = background.run_id(timeout=120)
    assert background.close(timeout=120) == [] and warnings == [] and run_id is not None
    tracking = Tracking(uri, "goodnet")
    tracking.register(tiny_onnx(), "picked", "goodnet", run_id, {"step": "2"}, "Why.", None, ("a", 2))
    client = tracking._client
    experiment = client.get_run(run_id).info.experiment_id
    ids = [
        run.info.run_id
        for key in "ab"
        for run in client.search_runs([experiment], f"tags.`goodnet.trial_key` = '{key}'")
    ]
    return Site(uri, experiment, run_id, *ids)


def answers(address: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{address}/health", timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def address(store: Path, monkeypatch_module: pytest.MonkeyPatch):
    """An MLflow server on a free port of this machine; its log is in the store."""
    monkeypatch_module.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{store}/mlflow.db",
        "--artifacts-destination",
        f"{store}/served",
    ]
    with (store / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, cwd=store, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 180
        while not answers(f"http://127.0.0.1:{port}"):
            assert server.poll() is None, (store / "server.log").read_text()
            assert time.monotonic() < deadline, "the MLflow server did not come up"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:  # it waits for a browser's connections
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(30)


@pytest.fixture(scope="module")
def site(store: Path, address: str) -> Site:
    """A sweep in the embedded store, shown by the server, as ``make ui`` does."""
    embedded = log_sweep(f"sqlite:///{store}/mlflow.db", f"{store}/mlartifacts")
    return replace(embedded, address=address)


@pytest.fixture
def page(tmp_path: Path):
    with browser_page() as page:
        yield page
        page.screenshot(path=tmp_path / "last.png")


def test_sweep_unfolds_into_its_trials(site: Site, page) -> None:
    page.goto(f"{site.address}/#/experiments/{site.experiment}?{HALF}")
    links = page.locator(".ag-row a[href*='/runs/']")
    page.locator(".ag-row").get_by_text("sweep-1", exact=True).wait_for()
    assert links.count() == 1
    page.locator(".ag-row").first.locator("button").first.click()
    page.locator(f".ag-row a[href*='{site.trial}']").wait_for()
    assert sorted(links.all_inner_texts()) == sorted(["sweep-1", *map(run_name, RECORDS)])
    page.get_by_role("heading", name="Runs").wait_for()  # not the half for language models


def test_the_saved_view_shows_figures_of_trials(site: Site, page) -> None:
    page.goto(f"{site.address}/{Places(site.experiment, site.sweep).table}")
    page.locator(f".ag-row a[href*='{site.trial}']").wait_for()
    shown = page.locator(".ag-row [col-id*='valid_attack_success']")
    page.locator(".ag-row [col-id*='valid_attack_success']").first.wait_for(state="attached")
    assert shown.all_inner_texts() == ["0.2", "0.4"]  # lowest first; the failed one has none


def test_from_the_frontier_to_a_trial_to_its_model_and_back(site: Site, page) -> None:
    page.goto(site.run(site.sweep))
    picture = page.locator("img[src*='frontier-small.png']")
    picture.wait_for(state="attached")
    page.wait_for_function("e => e.complete && e.naturalWidth > 0", arg=picture.element_handle())
    trial = followed(page, page.locator(f"td a[href*='{site.trial}']"), run_name(RECORDS[0]))
    model = followed(trial, trial.locator("a", has_text="picked, version 1"), "Version 1")
    back = followed(model, model.locator("a", has_text="this trial"), run_name(RECORDS[0]))
    followed(back, back.locator("a[target]", has_text="sweep-1"), "sweep-1")


def followed(page, link, heading: str):
    """The page behind a link of a description, which the UI opens in a new tab."""
    with page.expect_popup() as opened:
        link.first.click()
    opened.value.get_by_text(heading, exact=True).first.wait_for()
    return opened.value


def test_trials_are_compared_side_by_side(site: Site, page) -> None:
    ids = ",".join(f"%22{run}%22" for run in (site.trial, site.other))
    page.goto(f"{site.address}/#/compare-runs?runs=[{ids}]&experiments=[%22{site.experiment}%22]&{HALF}")
    for record in RECORDS[:2]:
        page.get_by_text(run_name(record), exact=True).first.wait_for(state="attached")


def test_trial_shows_its_curves(site: Site, page) -> None:
    page.goto(site.run(site.trial, "/model-metrics"))
    for metric in ("clean_accuracy", "attack_success", "channels_pruned"):
        card = page.get_by_test_id("experiment-view-compare-runs-card").filter(
            has=page.get_by_text(metric, exact=True)
        )
        card.locator(".scatterlayer path.js-line").first.wait_for(state="attached")
        assert card.locator(".scatterlayer path.point").count() == 3  # BadNet and two channels


def test_frontier_page_draws_inside_the_ui(site: Site, page) -> None:
    page.goto(site.run(site.sweep, "/artifacts/frontier.html"))
    frame = page.frame_locator("iframe")
    frame.locator(".scatterlayer .point").first.wait_for(state="attached")
    heading = "sweep-1: clean accuracy against attack success"
    assert frame.locator("h1").inner_text() == heading
    frontier = frame.locator(".scatterlayer .trace").filter(
        has=frame.locator("path.js-line[style*='stroke-width: 3px']")
    )
    assert frontier.locator(".point").count() == 5  # no state of a or b beats another


def test_sweep_shows_the_table_and_its_children(site: Site, page) -> None:
    page.goto(site.run(site.sweep))
    row = page.get_by_role("row").filter(has_text=re.compile("X = 4%"))
    row.wait_for()
    assert row.get_by_role("cell").all_inner_texts()[1:] == ["97.00%", "96.50%", "20.00%", "22.00%", "1.43%"]
    page.locator(f"a[href*='{site.trial}']:not([target])").wait_for()


def test_a_server_takes_a_sweep_and_a_model(address: str, tmp_path: Path) -> None:
    from sweeps.tracking.mlflow_runs import Tracking

    tracking = Tracking(address, "over HTTP")
    tracking.check()
    manifest = make_manifest(RECORDS, "over-http")
    for _ in range(2):
        run_id = tracking.start_sweep(manifest, {}, DATA)
        for record in RECORDS:
            tracking.log_trial(run_id, record)
    tracking.log_goodnet(run_id, "a", 2, b"onnx")
    tracking.finish_sweep(run_id, {"hypervolume": 0.5}, {"frontier.csv": b"a"})
    client = tracking._client
    runs = client.search_runs([client.get_run(run_id).info.experiment_id])
    assert sorted(r.info.status for r in runs) == ["FAILED", "FINISHED", "FINISHED", "FINISHED"]
    (trial,) = [r for r in runs if r.data.tags.get("goodnet.trial_key") == "a"]
    assert len(client.get_metric_history(trial.info.run_id, "attack_success")) == 3
    got = client.download_artifacts(trial.info.run_id, "goodnets/step-2.onnx", str(tmp_path))
    assert Path(got).read_bytes() == b"onnx"
    version = tracking.register(tiny_onnx(), "goodnet", "picked", run_id, {}, "", None, ("a", 2))
    assert client.get_model_version_by_alias("goodnet", "picked").run_id == trial.info.run_id
    assert version == "1" and len(client.get_run(trial.info.run_id).inputs.dataset_inputs) == 2
