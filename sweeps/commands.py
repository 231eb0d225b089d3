"""What the commands do, one function each; ``cli`` only reads options and prints."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_core.errors import InputError
from prune_core.files.write import write_whole
from sweeps.config.schema import Config
from sweeps.looking import frontier_at, records_of
from sweeps.progress import Progress
from sweeps.records.trial_record import State, TrialRecord
from sweeps.results import Frontier, FrontierPoint
from sweeps.storage.manifest import Manifest, read_manifest
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage, open_storage

if TYPE_CHECKING:
    from prune_core.data.checks.findings import Finding
    from prune_core.evaluation.plain import PlainEvaluator
    from prune_core.files.constants import Weights
    from sweeps.choosing.criteria import Criterion
    from sweeps.setup.initialise import Given
    from sweeps.sweep import TestCounter
    from sweeps.sweep_result import SweepResult

# Imports inside functions: a frontier is shown without torch, whose import alone takes longer.

Result = dict[str, Any]


def prune_once(
    config: Config,
    progress: Callable[[str, float], None] | None = None,
    looked: Callable[[Sequence[Finding]], None] | None = None,
) -> Result:
    """One trial in this process, in the contract's form; ``looked`` is told what was found in the data before
    it begins. Raises InputError, also where that is an error, and when the trial itself fails on something
    that was given."""
    from prune_core.data.checks.findings import refuse_errors
    from prune_core.evaluation.look import look
    from sweeps.evaluators import Evaluators
    from sweeps.execution.gpu import take_gpu
    from sweeps.inputs.load import input_files, load_inputs
    from sweeps.inputs.look import asked_x
    from sweeps.planning.grid import only_trial
    from sweeps.records.trial_report import TrialReport
    from sweeps.trial import run_trial

    inputs = load_inputs(input_files(config, progress), config.sweep.repair)
    settings = only_trial(config.sweep, inputs.model, inputs.inverted)
    take_gpu(inputs.model.graph, config.resources.gpu)
    findings = look(inputs.model, inputs.valid, inputs.test, asked_x(config.sweep))
    refuse_errors(findings)
    if looked is not None:
        looked(findings)

    def watch(now: Progress) -> None:
        if progress is not None:
            progress(now.doing, min(1.0, now.done / now.total))

    record = run_trial(
        settings, inputs, Evaluators.of(inputs, config.evaluator, config.resources.memory_gb), watch
    )
    if record.status == "failed":
        raise (InputError if record.failure == "input" else RuntimeError)(record.reason)
    counted = inputs.model.layers[1:] or inputs.model.layers  # as inspect counts
    told = TrialReport.of(record).command_json(sum(la.channels for la in counted), record.steps)
    return {**told, "findings": [finding.to_json() for finding in findings]}


def study_of(
    configs: Sequence[tuple[Config, str]],
    run: Callable[[Config, Storage], SweepResult],
    out: Path,
    remarks: Path,
) -> Result:
    """Run what is missing of every sweep, then write ``study.md``, its pictures and
    ``study-table.md`` (and ``.csv``: a row for each net, method and price) into ``out``.
    ``configs``: each with what is said about it on the page; ``remarks``: Markdown that goes in front
    of the tables, where there is such a file. Several ``sweep.search_seeds`` are run one after the other and
    told of as one sweep. Raises InputError when two have one name."""
    from sweeps.extras import need
    from sweeps.inputs.load import input_files, load_inputs

    need("plots", "goodnet study")
    from sweeps.reports.study import study
    from sweeps.reports.study_page import Part, study_markdown
    from sweeps.reports.study_picture import study_png
    from sweeps.reports.study_table import paper_csv, paper_markdown, paper_rows
    from sweeps.sweep import TestCounter

    names = [config.name for config, _ in configs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"study: two sweeps are called {name!r}; expected different names")
    parts, rows = [], []
    out.mkdir(parents=True, exist_ok=True)
    for config, about in configs:
        storage = open_storage(config.storage)
        results = []
        for one in config.of_each_seed:
            results.append(run(one, storage))
            if results[-1].stopped:
                raise KeyboardInterrupt
        # Searches of several seeds draw from the same trials; each counts once.
        records = list({record.key: record for result in results for record in result.records}.values())
        manifest = results[0].manifest
        inputs = load_inputs(input_files(config))
        counter = TestCounter(inputs, config.evaluator, config.resources.memory_gb, storage)
        ways = study(records, counter)
        rows += paper_rows(config.name, records, counter)
        counter.memory.tidy()
        digests = manifest.digests
        part = Part(
            config.name,
            ways,
            f"study-{config.name}.png",
            about,
            digests["badnet"] + digests["valid"],
            manifest.findings or (),
        )
        write_whole(out / part.picture, study_png(part.name, ways))
        parts.append(part)
    words = remarks.read_text() if remarks.is_file() else ""
    page = out / "study.md"
    write_whole(page, study_markdown(parts, words).encode())
    table = out / "study-table.md"
    write_whole(table, paper_markdown(rows).encode())
    write_whole(table.with_suffix(".csv"), paper_csv(rows).encode())
    return {
        "page": str(page),
        "table": str(table),
        "sweeps": {
            part.name: {
                "trials": sum(w.trials for w in part.ways),
                "ways": len(part.ways),
                "best": None
                if not part.ways
                else {
                    "order": part.ways[0].order,
                    "policy": part.ways[0].policy,
                    "layers": part.ways[0].layers,
                    "hypervolume": part.ways[0].hypervolume,
                },
                "findings": [finding.to_json() for finding in part.findings],
            }
            for part in parts
        },
    }


def pick_from(
    name: str | None,
    place: str,
    out: Path,
    criterion: Criterion,
    registered: bool,
    warn: Callable[[str], None],
    reported: bool = True,
    max_reactivated: float | None = None,
) -> Result:
    """Choose a point of a sweep's frontier and write its GoodNet into ``out``; ``registered``: in
    MLflow too; ``reported``: with the page for who decides. A registry that fails costs a warning, not the
    files. ``max_reactivated``: among states whose kept audits stay within it alone (``auditing.bounded``)."""
    from sweeps.choosing.bias import choice_bias
    from sweeps.choosing.named import Named
    from sweeps.extras import command, installed
    from sweeps.pick import pick, register

    at = _opened(name, place, criterion)
    named, asked = isinstance(criterion, Named), criterion
    criterion = at.within(criterion, max_reactivated)

    def registering(onnx: Path, result: Result) -> str | None:
        from sweeps.tracking.sweep_log import open_tracking  # mlflow takes seconds to import

        try:
            tracking = open_tracking(at.manifest.config.tracking, at.storage)
            tracking.check()
            return register(tracking, at.manifest, onnx, result)
        except Exception as error:  # the files are written; a registry in any trouble is no reason
            warn(f"not registered in MLflow: {' '.join(str(error).split())[:200]}")
            return None

    def reporting(destination: Path, point: FrontierPoint, result: Result) -> str | None:
        if not installed("plots"):
            warn(f"no report is made; it needs {command('plots')}")
            return None
        page = destination.with_name(f"{destination.name}-report.html")
        _write_report(at, point, result, asked, page)
        return str(page)

    return pick(
        at.manifest,
        at.frontier,
        at.valid,
        at.test,
        at.badnet,
        out,
        criterion,
        registering if registered else None,
        at.weights,
        # What a person's eye has chosen by, nobody can do again on other images.
        None if named else lambda point: choice_bias(point, at.records, criterion, at.valid, at.weights),
        reporting if reported else None,
        at.audits,
    )


def report_from(
    name: str | None,
    place: str,
    criterion: Criterion,
    scan: Path | None,
    out: Path | None,
    picked: Path,
    max_reactivated: float | None = None,
) -> Result:
    """The page for who decides, of a sweep as it stands and the state that ``criterion`` chooses; with the
    figures of the files that ``goodnet pick`` has written into ``picked``, where those still are what it
    measured. ``max_reactivated`` as of ``pick_from``. Returns its facts, and where it is.
    Raises InputError."""
    from sweeps.choosing.bias import choice_bias
    from sweeps.choosing.named import Named
    from sweeps.decision.signed import signed_files
    from sweeps.extras import need
    from sweeps.pick import Source, check_same_inputs, choose, told

    need("plots", "goodnet report")
    at = _opened(name, place, criterion)
    digests = {"badnet": at.valid.model.digest, "valid": at.valid.split.digest, "test": at.test.split.digest}
    check_same_inputs(at.manifest, digests)
    page, asked = out or Path(f"{at.manifest.name}-report.html"), criterion
    criterion = at.within(criterion, max_reactivated)
    if at.frontier.no_attack is not None or not at.frontier.points:
        return _write_report(at, None, None, asked, page, scan)
    point, why = choose(at.frontier, at.valid.badnet, criterion, at.test.badnet)
    again = (
        None
        if isinstance(asked, Named)
        else (lambda point: choice_bias(point, at.records, criterion, at.valid, at.weights))
    )
    source = Source(at.badnet, at.manifest.config.architecture, at.valid, at.test)
    chosen = told(at.manifest, source, point, why, at.weights(point), again)
    files = signed_files(picked, at.manifest.name, point)
    return _write_report(at, point, {**chosen, **files}, asked, page, scan)


@dataclass(frozen=True, eq=False)
class _Opened:
    """A sweep with its inputs, its frontier counted on test."""

    storage: Storage
    manifest: Manifest
    records: list[TrialRecord]
    frontier: Frontier
    valid: PlainEvaluator
    test: PlainEvaluator
    badnet: Path
    counter: TestCounter

    def weights(self, net: FrontierPoint | State) -> Weights:
        return RecordStore(self.storage).weights(net.trial_key, net.weights)

    def within(self, criterion: Criterion, max_reactivated: float | None) -> Criterion:
        """``criterion`` among states whose kept audits stay within a rate. Raises InputError."""
        if max_reactivated is None:
            return criterion
        from sweeps.auditing.bounded import bounded
        from sweeps.storage.audit_store import AuditStore

        return bounded(criterion, max_reactivated, self.frontier, AuditStore(self.storage), self.manifest)

    def audits(self, point: FrontierPoint) -> list[str]:
        """Names of the audits that the state has gone through; ``as-it-is`` is no attack of its own."""
        from sweeps.choosing.audited import audit_of
        from sweeps.storage.audit_store import AuditStore

        found = audit_of(point, AuditStore(self.storage), self.manifest)
        entries = [] if found is None else found["subjects"].get("goodnet", [])
        return list(dict.fromkeys(e["audit"] for e in entries if e["audit"] != "as-it-is"))


def _opened(name: str | None, place: str, criterion: Criterion) -> _Opened:
    from prune_core.evaluation.plain import PlainEvaluator
    from sweeps.choosing.named import Named, with_state
    from sweeps.inputs.load import input_files, load_inputs
    from sweeps.sweep import TestCounter

    storage = open_storage(place)
    manifest = read_manifest(storage, name)
    config = manifest.config
    files = input_files(config)
    inputs = load_inputs(files)
    counter = TestCounter(inputs, config.evaluator, config.resources.memory_gb, storage)
    records = records_of(storage, manifest)
    frontier = frontier_at(storage, manifest, records, counter)
    if isinstance(criterion, Named) and frontier.no_attack is None:
        frontier = with_state(frontier, records, criterion, counter)
    valid, test = (PlainEvaluator(inputs.model, split) for split in (inputs.valid, inputs.test))
    return _Opened(storage, manifest, records, frontier, valid, test, files.badnet, counter)


def _write_report(
    at: _Opened,
    point: FrontierPoint | None,
    chosen: Result | None,
    criterion: Criterion,
    page: Path,
    scan: Path | None = None,
) -> Result:
    """``page``, and beside it its facts as ``.json``. Returns the facts, with the page's place."""
    from prune_core.evaluation.plain import PlainEvaluator
    from sweeps.decision.evidence import evidence_of
    from sweeps.decision.facts import Given, tell
    from sweeps.decision.page import report_html

    goodnet = None
    if point is not None:
        weights = at.weights(point)
        changed = at.test.model.with_weights(weights) if weights else None
        goodnet = (at.test if changed is None else PlainEvaluator(changed, at.test.split), point.mask)
    evidence = evidence_of(at.storage, at.manifest, point, scan)
    given = Given(
        at.manifest, at.records, at.frontier, at.valid, at.test, at.badnet, chosen, goodnet, criterion,
        at.counter, at.storage.place, evidence,
    )  # fmt: skip
    told = tell(given)
    write_whole(page, report_html(told).encode())
    write_whole(page.with_suffix(".json"), json.dumps(told.facts, indent=1).encode())
    return {**told.facts, "report": str(page), "facts": str(page.with_suffix(".json"))}


def set_up(given: Given, progress: Callable[[str, float], None]) -> Result:
    """Write a configuration for one model and its images, then look at both as ``goodnet doctor`` does.
    Raises InputError."""
    from sweeps.config.schema import load_config
    from sweeps.setup.initialise import initialise

    found = initialise(given, progress)
    checks = examine(load_config(given.output), "inline")
    name = shlex.quote(str(given.output))
    after = [f"goodnet sweep {name}", "goodnet pick --knee"]
    return {**found, "ok": checks["ok"], "checks": checks["checks"], "next": after}


def examine(config: Config | None, executor: str) -> Result:
    """All checks, here and (``executor`` ray) in a worker of every node."""
    from sweeps.doctor.checks import diagnose

    @cache
    def storage() -> Storage | None:
        return None if config is None else open_storage(config.storage)

    def tracking() -> str:
        from sweeps.tracking.sweep_log import open_tracking

        assert config is not None and (place := storage()) is not None
        opened = open_tracking(config.tracking, place)
        opened.check()
        return f"{opened.uri} answers"

    def worker() -> list[Result]:
        from sweeps.doctor.nodes import diagnose_nodes
        from sweeps.extras import need

        need("sweep", "a check of workers (--executor inline checks this machine only)")
        from sweeps.execution.ray_cluster import on_every_node

        return diagnose_nodes(storage(), on_every_node, 0 if config is None else config.resources.gpu)

    checks = diagnose(
        config,
        tracking=tracking if config is not None else None,
        worker=worker if executor == "ray" else None,
    )
    return {"ok": all(c["ok"] for c in checks), "checks": checks}
