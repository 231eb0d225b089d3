"""All that a report says, as one JSON object: the page takes every figure from it."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from prune_core import ALGORITHM_VERSION
from prune_core.data.images import Split
from prune_core.data.told import attack_json, triggers_json
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.cost import parameters
from prune_core.masks import ChannelMask
from prune_core.methods import Inverted, inverted_takes
from prune_core.model.model import PrunableModel
from prune_core.version import __version__
from sweeps.choosing.criteria import Criterion
from sweeps.choosing.named import Named
from sweeps.config.triggers import inverted_for
from sweeps.decision import examples as shown
from sweeps.decision.audits import audit_rows
from sweeps.decision.channels import carriers
from sweeps.decision.evidence import Evidence
from sweeps.decision.ladder import TestCounts, baselines, ladder
from sweeps.records.trial_record import TrialRecord
from sweeps.results import Frontier
from sweeps.storage.manifest import Manifest

FORM = 1  # of this JSON

Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Given:
    """What a report is made from.

    Attributes:
        valid, test: evaluators of the BadNet on both splits.
        chosen: what is said of the chosen state, in the form of ``pick --json`` (``pick.told``); None where
            there was no attack to remove.
        goodnet: the chosen network on the test split, and its mask.
        criterion: by which every rung of the ladder chooses.
        counter: counts of a state on test.
        evidence: a scan, audits.
        command: of the sweep's configuration, as people type it.
        storage: of the sweep.
    """

    manifest: Manifest
    records: Sequence[TrialRecord]
    frontier: Frontier
    valid: PlainEvaluator
    test: PlainEvaluator
    badnet: Path
    chosen: Mapping[str, Any] | None
    goodnet: tuple[PlainEvaluator, ChannelMask] | None
    criterion: Criterion
    counter: TestCounts
    storage: str
    evidence: Evidence = field(default_factory=Evidence)


@dataclass(frozen=True, eq=False)
class Told:
    """``facts`` (JSON) and the pictures that only the page has."""

    facts: Json
    examples: Sequence[shown.Example]
    evidence: Evidence


def tell(given: Given) -> Told:
    """Look at everything that the page shows; seconds of work beside a pick."""
    manifest, valid, test = given.manifest, given.valid, given.test
    mask = ChannelMask() if given.goodnet is None else given.goodnet[1]
    several = shown.examples(test, given.goodnet)
    rule = given.criterion
    if isinstance(rule, Named):  # one state alone: the other rungs are chosen from as people mostly do
        from sweeps.choosing.criteria import Knee

        rule = Knee()
    walked = () if given.chosen is None else given.chosen["settings"]["layers"]
    inverted = inverted_for(manifest.config.data.triggers)
    facts: Json = {
        "form": FORM,
        "sweep": manifest.name,
        "made": {
            "on": datetime.now(UTC).strftime("%Y-%m-%d"),
            "goodnet": __version__,
            "algorithm": ALGORITHM_VERSION,
        },
        "model": model_json(valid.model, given.badnet, manifest.config.architecture, valid.split),
        "data": {
            **data_json(valid.split, test.split, inverted),
            "test_given": bool(manifest.config.data.poisoned_test),
        },
        "findings": [f.to_json() for f in manifest.findings or ()],
        "trials": {
            "total": len(manifest.trials),
            "done": sum(r.status == "done" for r in given.records),
            "failed": sum(r.status == "failed" for r in given.records),
            "stopped": sum(r.status == "stopped" for r in given.records),
            "states": sum(len(r.states()) for r in given.records),
            "frontier": len(given.frontier.points),
        },
        "badnet": {
            "valid": triggers_json(valid.split, valid.badnet.to_json()),
            "test": triggers_json(test.split, test.badnet.to_json()),
        },
        **given.frontier.control_json(),
        "chosen": None if given.chosen is None else chosen_json(given.chosen),
        "examples": [e.told for e in several],
        "channels": carriers(valid.model, valid.split, mask, walked),
        "ladder": ladder(given.records, valid.badnet, rule, given.counter, inverted),
        "methods": baselines(given.records, valid.badnet, rule, given.counter),
        "scan": given.evidence.scan,
        "audit": given.evidence.audit,
        "lights": audit_rows(given.evidence.audit)["count"],
        "files": [] if given.chosen is None else files_json(given.chosen),
        "repeat": repeat_json(given),
    }
    return Told(facts, several, given.evidence)


def model_json(model: PrunableModel, path: Path, architecture: str | None, split: Split) -> Json:
    """The file that was handed in: ``file``, ``bytes``, ``sha256``, ``architecture`` as named by the user,
    and what is in it: ``convolutions``, ``channels``, ``parameters``, ``classes``, ``image`` (C, H, W)."""
    proto = model.proto if model.source is None else model.source.proto
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": model.badnet_digest,
        "architecture": architecture,
        "convolutions": len(model.layers),
        "channels": sum(layer.channels for layer in model.layers),
        "batch_norms": sum(layer.batch_norm is not None for layer in model.layers),
        "parameters": parameters(proto),
        "classes": model.check_images(split.clean.shape, split.clean.name),
        "image": list(split.clean.shape),
    }


def data_json(valid: Split, test: Split, inverted: Inverted | None) -> Json:
    """Of each split: ``clean`` and ``poisoned`` images, ``classes`` that the clean ones show, ``attack``
    (targets, what is known of true labels). ``inverted``: of the sweep."""
    return {
        "valid": _split_json(valid),
        "test": _split_json(test),
        "inverted": None if inverted is None else inverted_takes(inverted),
        "names": list(valid.clean.classes),
    }


def _split_json(split: Split) -> Json:
    return {
        "clean": len(split.clean),
        "poisoned": len(split.poisoned),
        "classes": len(np.unique(split.clean.labels)),
        "triggers": len(split.rows_by_trigger),
        "by_trigger": [len(np.arange(len(split.poisoned))[rows]) for rows in split.rows_by_trigger],
        "attack": attack_json(split),
    }


def chosen_json(told: Mapping[str, Any]) -> Json:
    """The part of ``pick --json`` that is of the chosen state itself, and the ``rule`` that chose it."""
    kept = ("point", "why", "price", "defence_effectiveness", "settings", "kind", "assumption", "choice")
    rule = str(told["why"]).partition(". On validation:")[0]
    return {**{key: told[key] for key in kept if key in told}, "rule": rule}


def files_json(told: Mapping[str, Any]) -> list[Json]:
    """Every file that was written, read back and measured: ``name``, ``bytes``, ``sha256``, ``kind``,
    ``what``, counts on both splits; the mask at the end. [] where none was written."""
    if "signed" in told:  # by an earlier pick, whose files are still there
        return list(told["signed"])
    found = []
    for file in told.get("files", ()):
        measured = {key: file[key] for key in ("kind", "what", "valid", "test")}
        found.append({**_on_disk(Path(file["path"])), **measured})
    if found:
        found.append({**_on_disk(Path(told["mask_file"])), "kind": "mask", "what": "the pruned channels"})
    return found


def _on_disk(path: Path) -> Json:
    data = path.read_bytes()
    return {"name": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def repeat_json(given: Given) -> Json:
    """How the same comes out again: digests of what went in, versions, and a command."""
    manifest, chosen = given.manifest, given.chosen
    place = "" if given.storage == "runs" else f" --storage {shlex.quote(given.storage)}"
    state = ""
    if chosen is not None:
        state = f" --trial {chosen['point']['trial_key']} --step {chosen['point']['step']}"
    config = manifest.config.model_dump(mode="json", exclude_defaults=True)
    return {
        "digests": dict(manifest.digests),
        "mask": None if chosen is None else ChannelMask.from_json(chosen["point"]["mask"]).digest,
        "weights": None if chosen is None else chosen["point"]["weights"],
        "config": config,
        "pick": None if chosen is None else f"goodnet pick {manifest.name}{state}{place}",
        "report": f"goodnet report {manifest.name}{state or ' --knee'}{place}",
        "audit": None if chosen is None else f"goodnet audit {manifest.name}{state}{place}",
        "mlflow_run": manifest.mlflow_run_id,
    }
