"""A report of a small net with a planted backdoor, and how its figures are taken from the page."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from factories import make_manifest
from small_nets import small_badnet, small_split

from prune_core.data.images import Split
from prune_core.evaluation.plain import PlainEvaluator
from sweeps.choosing.criteria import Criterion, Knee
from sweeps.decision.evidence import Evidence
from sweeps.decision.facts import Given, Told, tell
from sweeps.evaluators import Evaluators
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.pick import Source, choose, told
from sweeps.records.settings import TrialSettings
from sweeps.results import measured_frontier
from sweeps.storage.storage import Storage
from sweeps.sweep import TestCounter
from sweeps.trial import run_trial

TRIALS = (
    TrialSettings("activation", ("c2", "c1"), 100.0, "margin"),
    TrialSettings("across:activation-gap", ("c2",), 4.0, "best-first"),
    TrialSettings("none", ("c2",), 100.0, "baseline:clp"),
)


def small_report(
    folder: Path,
    splits: tuple[Split, Split] | None = None,
    trials: Sequence[TrialSettings] = TRIALS,
    criterion: Criterion | None = None,
    evidence: Evidence | None = None,
    **manifest: Any,
) -> tuple[Told, Given]:
    """Trials of ``small_nets.small_badnet``, run here, and what a report says of them."""
    valid, test = splits or (small_split(1), small_split(2))
    criterion = criterion or Knee()
    inputs = TrialInputs(small_badnet(folder), valid, test)
    storage = Storage(str(folder / "runs"))
    records = [run_trial(s, inputs, Evaluators.of(inputs, "plain", 1.0)) for s in trials]
    counter = TestCounter(inputs, "plain", 1.0, storage)
    for record in records:
        counter.store.write(record)
    records = [r for r in (counter.store.read(record.key) for record in records) if r is not None]
    made = replace(make_manifest(records, "small-1"), digests=inputs.digests, **manifest)
    frontier = measured_frontier(storage, made.name, records, counter, valid.target_share, keep=False)
    source = Source(
        folder / "badnet.h5", None, PlainEvaluator(inputs.model, valid), PlainEvaluator(inputs.model, test)
    )
    chosen = goodnet = None
    if frontier.points:
        point, why = choose(frontier, source.valid.badnet, criterion, source.test.badnet)
        weights = counter.store.weights(point.trial_key, point.weights)
        chosen = told(made, source, point, why, weights)
        changed = PlainEvaluator(inputs.model.with_weights(weights), test) if weights else source.test
        goodnet = (changed, point.mask)
    given = Given(
        made,
        records,
        frontier,
        source.valid,
        source.test,
        source.badnet,
        chosen,
        goodnet,
        criterion,
        counter,
        storage.place,
        evidence or Evidence(),
    )
    return tell(given), given


_FIGURE = re.compile(r'<span class="n" data-figure="([^"]*)" data-form="([^"]*)">(.*?)</span>', re.S)
_TEXT = re.compile(r'<(\w+)[^>]* data-text="([^"]*)"[^>]*>(.*?)</\1>', re.S)


def figures_of(page: str) -> list[tuple[str, str, str]]:
    """(path, form, text) of every figure of a page."""
    return [(html.unescape(a), b, html.unescape(c)) for a, b, c in _FIGURE.findall(page)]


def words_of(page: str) -> list[tuple[str, str]]:
    """(path, text) of what the page has from the facts word by word."""
    return [(html.unescape(path), html.unescape(text)) for _, path, text in _TEXT.findall(page)]


def facts_of(page: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="facts">(.*?)</script>', page, re.S)
    return json.loads(text)


def rest_of(page: str) -> str:
    """What a person reads but for figures, quoted words, names and digests (``code``)."""
    body = page.partition("<body>")[2].partition("<script")[0]
    body = re.sub(r'<small class="setting">.*?</small>', "", _TEXT.sub("", _FIGURE.sub("", body)))
    for element in ("code", "pre", "h1"):
        body = re.sub(rf"<{element}[^>]*>.*?</{element}>", "", body, flags=re.S)
    return html.unescape(re.sub(r"<[^>]+>", " ", body))
