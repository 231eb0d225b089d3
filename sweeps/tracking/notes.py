"""What MLflow's UI shows of a sweep and of a trial: names, descriptions, links. Knows nothing of MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from prune_core.counts import Counts
from sweeps.records.trial_record import TrialRecord
from sweeps.reports.model_card import code
from sweeps.reports.page.links import HALF, run_place
from sweeps.reports.seed_table import per_cent
from sweeps.results import FrontierPoint
from sweeps.sweep_result import SweepResult
from sweeps.tracking.experiment import VIEW

NOTE = "mlflow.note.content"  # what the UI shows as a description, as Markdown
LONGEST = 8000  # characters of a tag that MLflow keeps
SMALL = "frontier-small.png"  # as wide as the UI has room for; it shows pictures as large as they are
ROWS = 16  # of a frontier in a description; the page among the files has all
_NAME = 18  # characters of a layer in a run's name
_REGISTERED = "Registered as "


@dataclass(frozen=True)
class Places:
    """Where things are in MLflow's UI: addresses relative to its page, good behind any host or prefix.

    Attributes:
        experiment: its id. sweep: the id of the sweep's run. trials: ids of trials' runs by trial key.
    """

    experiment: str
    sweep: str
    trials: Mapping[str, str] = field(default_factory=dict)

    @property
    def table(self) -> str:
        """The table of runs, with figures."""
        return f"#/experiments/{self.experiment}/runs?{HALF}&viewStateShareKey={VIEW}"

    def run(self, run_id: str) -> str:
        return run_place(self.experiment, run_id)

    def page(self, path: str) -> str:
        """A file of the sweep's run, as the UI shows it."""
        return run_place(self.experiment, self.sweep, f"/artifacts/{path}")

    def picture(self, path: str) -> str:
        """The bytes of a file of the sweep's run."""
        return f"get-artifact?path={quote(path)}&run_uuid={self.sweep}"


def model_place(name: str, version: str) -> str:
    return f"#/models/{quote(name)}/versions/{version}?{HALF}"


def run_name(record: TrialRecord) -> str:
    """Short, and tells trials apart: clean accuracy and attack success on validation, in per cent, since the
    table of runs shows no figure before columns are chosen; then order, X, layers and what is done."""
    settings = record.settings
    parts = [
        *([] if settings.order == "none" else [settings.order]),
        f"X {settings.x:g}",
        _layers(settings.layers),
        settings.procedure,
        *([f"seed {settings.seed}"] if ", seed " in str(settings) else []),
    ]
    counts = record.valid
    figures = "" if counts is None else f"{_short(counts)}: "
    return figures + ", ".join(parts)


def trial_note(record: TrialRecord, places: Places | None, sweep: str | None) -> str:
    """A trial's description. A failed one's is its reason."""
    if record.status == "failed" and record.reason is not None:
        # Four spaces: code, since the UI shows Markdown, and a reason may name what a file holds.
        return "    " + " ".join(record.reason.split())
    lines = [code(str(record.settings))]
    if places is not None and sweep is not None:
        lines[0] += f", of sweep [{sweep}]({places.run(places.sweep)})"
    if record.status == "stopped":
        lines += ["", "Stopped before its end, by " + code(" ".join((record.reason or "").split()))]
    rows = [("BadNet", record.badnet_valid, record.badnet_test), ("its end", record.valid, record.test)]
    lines += ["", _head("")]
    lines += [f"| {name} | {_cells(valid)} | {_cells(test)} |" for name, valid, test in rows]
    lines += [
        "",
        f"{len(record.mask)} channels pruned in {record.last_step} steps. Validation chooses, test ",
    ]
    lines[-1] += "reports. Every step: `steps.csv` among the artifacts; the mask: `mask.json`."
    states = record.states()  # none where no repaired net was within X
    if sweep is not None and states:
        lines += ["", f"    goodnet pick {sweep} --trial {record.key} --step {states[-1].step}"]
    return "\n".join(lines)


def registered(note: str, name: str, version: str, step: int) -> str:
    """A trial's description, with where its state of ``step`` is registered."""
    line = f"{_REGISTERED}[{name}, version {version}]({model_place(name, version)}): step {step}."
    return f"{note}\n\n{line}" if line not in note else note


def kept(note: str, before: str) -> str:
    """``note``, with what ``registered`` has added to the one ``before`` it."""
    return "\n\n".join([note, *(line for line in before.splitlines() if line.startswith(_REGISTERED))])


def sweep_note(result: SweepResult, table: str, pictured: bool, places: Places) -> str:
    """A sweep's description: picture, links, how to take a state away, the frontier with links to its trials,
    what was found in the data, and ``table``, the seed report's, as far as MLflow keeps it. ``pictured``:
    there are pictures of it."""
    manifest, frontier = result.manifest, result.frontier
    links = [f"[All trials with their figures]({places.table})"]
    if pictured:
        links.insert(0, f"[Frontier, to click through]({places.page('frontier.html')})")
    take = [f"goodnet pick {manifest.name} {how}" for how in ("--knee", "--max-accuracy-drop 2")]
    # Four spaces: code, as a finding may name what a file holds.
    found = "".join(f"    {f.level}: {f.detail}\n" for f in manifest.findings or ())
    parts = [
        " · ".join(links),
        f"**Frontier**: {len(frontier.points)} states, hypervolume {frontier.hypervolume:.4f}. "
        "The choice is made on validation; test has no part in it.",
        _frontier(result, places),
        f"![The frontier]({places.picture(SMALL)})" if pictured else "",
        "Take one away:\n\n" + "".join(f"    {line}\n" for line in take),
        found,
        f"**Metrics by method or accuracy loss**\n\n{table}",
    ]
    note = ""
    for part in parts:
        if part and len(note) + len(part) + 2 <= LONGEST:
            note += ("\n\n" if note else "") + part
    return note


def _frontier(result: SweepResult, places: Places) -> str:
    points = result.frontier.points
    if not points:
        return ""
    shown = points
    if len(points) > ROWS:  # evenly, both ends included
        shown = tuple(points[i * (len(points) - 1) // (ROWS - 1)] for i in range(ROWS))
    rows = [_head("trial | step | channels pruned", ":---:|---:|---:")]
    rows += [_row(point, result, places) for point in shown]
    more = f"\n\n{len(shown)} of {len(points)} states." if len(shown) < len(points) else ""
    return "\n".join(rows) + more


def _row(point: FrontierPoint, result: SweepResult, places: Places) -> str:
    settings = result.manifest.trials.get(point.trial_key)
    name = code(point.trial_key if settings is None else str(settings)[:80])
    run = places.trials.get(point.trial_key)
    link = name if run is None else f"[{name}]({places.run(run)})"
    return (
        f"| {link} | {point.step} | {point.channels_pruned} | {_cells(point.valid)} | {_cells(point.test)} |"
    )


def _head(first: str, form: str = "---") -> str:
    columns = ("clean, valid", "attack, valid", "clean, test", "attack, test")
    return f"| {' | '.join((first, *columns))} |\n|{form}{'|---:' * len(columns)}|"


def _cells(counts: Counts | None) -> str:
    if counts is None:
        return "unknown | unknown"
    return f"{per_cent(counts.clean_accuracy)} | {per_cent(counts.attack_success)}"


def _short(counts: Counts) -> str:
    return f"{100 * counts.clean_accuracy:.1f} / {100 * counts.attack_success:.1f}"


def _layers(layers: tuple[str, ...]) -> str:
    short = [name if len(name) <= _NAME else f"…{name[1 - _NAME :]}" for name in layers]
    return "+".join(short) if len(short) <= 2 else f"{short[0]}…{short[-1]} ({len(short)})"
