"""Choose a frontier point on validation and hand it over as files that have been measured again.

``pick`` is four steps, with values between them: choose a point, write its files, verify each of
them on both splits, register the net.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prune_core.counts import Counts, Rate
from prune_core.defence import defence_effectiveness, disarmed, no_attack
from prune_core.errors import InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.files import (
    Written,
    costs,
    measured_everywhere,
    with_program,
    write_formats,
)
from prune_core.files.constants import Weights
from prune_core.files.write import write_whole
from prune_core.masks import ChannelMask
from prune_core.methods import WEIGHTS_ALONE
from prune_core.reader import client as contained
from sweeps.choosing.criteria import Criterion
from sweeps.decision.signed import files_name
from sweeps.reports.model_card import card, cost_tags, registered_description
from sweeps.reports.price import losing_classes, price, price_words, prices
from sweeps.results import Frontier, FrontierPoint, described
from sweeps.storage.manifest import Manifest

Result = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Source:
    """The BadNet's file and architecture (where that is named), and the evaluators of both splits."""

    badnet: Path
    architecture: str | None
    valid: PlainEvaluator
    test: PlainEvaluator


def pick(
    manifest: Manifest,
    frontier: Frontier,
    valid: PlainEvaluator,
    test: PlainEvaluator,
    badnet_path: Path,
    out: Path,
    criterion: Criterion,
    register: Callable[[Path, Result], str | None] | None = None,
    weights: Callable[[FrontierPoint], Weights] = lambda point: {},
    bias: Callable[[FrontierPoint], Result] | None = None,
    report: Callable[[Path, FrontierPoint, Result], str | None] | None = None,
    audits: Callable[[FrontierPoint], list[str]] = lambda point: [],
) -> Result:
    """``choose`` a point, ``write`` it to ``out`` in every format with a card, having had every model
    file verified.

    ``valid`` and ``test`` hold the BadNet, read from ``badnet_path``. ``weights`` gives the changed
    weights of a point that has some, ``bias`` what its choice flatters (``choice_bias``). ``report`` makes
    the page for who decides, beside the card, and returns where it is. ``audits`` gives the names of the
    audits that a point has gone through. ``register`` gets
    the ONNX file and the result so far, and returns where the model is registered, or None; it is called
    last, so that a registry that fails leaves the files. Returns the contract's form. Raises InputError, and
    ExportMismatch when a file does not do what the record says (the models written are removed).
    """
    digests = {"badnet": valid.model.digest, "valid": valid.split.digest, "test": test.split.digest}
    check_same_inputs(manifest, digests)
    if frontier.no_attack is not None:
        raise InputError(f"sweep {manifest.name}: {no_attack(frontier.no_attack)}")
    source = Source(badnet_path, manifest.config.architecture, valid, test)
    point, why = choose(frontier, valid.badnet, criterion, test.badnet)
    destination = out / files_name(manifest.name, point)
    written = write(source, point, weights(point), destination)
    written, files = verify(source, point, written)
    result: Result = {
        **told(manifest, source, point, why, weights(point), bias),
        "files": files,
        "left_out": written.left_out,
        "cost": costs(written),
        "mask_file": str(written.mask),
        "card": str(destination.with_name(destination.name + ".md")),
        "audits": audits(point),
        "report": None,
        "registered": None,
    }
    write_whole(Path(result["card"]), card(result).encode())
    if report is not None:
        result["report"] = report(destination, point, result)
    if register is not None:
        result["registered"] = register(written.models["onnx"], result)
    return result


def told(
    manifest: Manifest,
    source: Source,
    point: FrontierPoint,
    why: str,
    weights: Weights,
    bias: Callable[[FrontierPoint], Result] | None = None,
) -> Result:
    """What ``pick --json`` says of a chosen state, before any file of it is written."""
    valid, test = source.valid, source.test
    settings = manifest.trials[point.trial_key]
    return {
        "sweep": manifest.name,
        "point": point.to_json(),
        "why": why,
        "price": {
            **prices(
                {"valid": valid.badnet, "test": test.badnet}, {"valid": point.valid, "test": point.test}
            ),
            "classes": _losing_classes(source, point, weights),
        },
        "defence_effectiveness": {
            "valid": defence_effectiveness(valid.badnet, point.valid),
            "test": defence_effectiveness(test.badnet, point.test),
        },
        "settings": settings.to_json(),
        **described(settings),
        "badnet": _badnet_json(source),
        **manifest.config.data.form.preprocessing.to_json(),
        "findings": [f.to_json() for f in manifest.findings or ()],
        "choice": None if bias is None else bias(point),
    }


def choose(
    frontier: Frontier, badnet: Counts, criterion: Criterion, badnet_test: Counts | None = None
) -> tuple[FrontierPoint, str]:
    """A frontier point, and why this one, in words. Validation chooses; ``badnet`` is counted on it, and
    ``badnet_test`` on test, where that is known. Raises InputError when no point qualifies."""
    if not frontier.points:
        raise InputError("the frontier has no points: no trial of the sweep pruned a channel")
    point, reason = criterion.choose(frontier.points, badnet)
    return point, _explained(point, badnet, reason, badnet_test)


def write(source: Source, point: FrontierPoint, weights: Weights, destination: Path) -> Written:
    """The point's net in every format, and its mask; names begin with ``destination``."""
    badnet = source.valid
    written = write_formats(
        badnet.model.with_weights(weights),
        point.mask,
        source.badnet,
        destination,
        badnet.split.clean.shape,
        source.architecture,
        badnet.split.clean.preprocessing,
    )
    return with_program(written)


def verify(source: Source, point: FrontierPoint, written: Written) -> tuple[Written, list[Result]]:
    """Every model file read back and counted on both splits, here and where others load it: what counts as
    written, in the contract's form. Raises ExportMismatch where a file does not do what ``point`` says; then
    no model file is left."""
    splits = {"valid": (source.valid, point.valid), "test": (source.test, point.test)}
    written, counted = measured_everywhere(written, splits, source.architecture)
    return written, [
        {
            "path": str(path),
            "kind": kind,
            "what": written.what(kind),
            **{split: by_kind[kind] for split, by_kind in counted.items()},
        }
        for kind, path in written.models.items()
    ]


class Registry(Protocol):
    """A model registry, as ``tracking.mlflow_runs.Tracking`` is one."""

    def register(
        self,
        onnx: bytes,
        name: str,
        alias: str,
        run_id: str | None,
        tags: Mapping[str, str],
        description: str,
        beside: Mapping[str, bytes] | None = None,
        trial: tuple[str, int] | None = None,
    ) -> str: ...


def register(registry: Registry, manifest: Manifest, onnx: Path, result: Result) -> str:
    """The net as a new version of the sweep's registered model, beside it card, mask and the net with
    its channels taken out, for ONNX Runtime and for torch; the version's address. The trial's run is its
    source."""
    point = result["point"]
    tags = {
        "sweep": manifest.name,
        "trial_key": point["trial_key"],
        "step": str(point["step"]),
        **cost_tags(result["cost"]),
    }
    small = [f["path"] for f in result["files"] if f["kind"] in ("small-onnx", "pt2")]
    page = [result["report"]] if result.get("report") else []
    beside = [Path(path) for path in (result["card"], result["mask_file"], *page, *small)]
    name = f"goodnet-{manifest.config.name}"
    version = registry.register(
        onnx.read_bytes(),
        name,
        "goodnet",
        manifest.mlflow_run_id,
        tags,
        registered_description(result, f"models:/{name}@goodnet"),
        {path.name: path.read_bytes() for path in beside},
        (point["trial_key"], point["step"]),
    )
    return f"models:/{name}/{version}"


def _losing_classes(source: Source, point: FrontierPoint, weights: Weights) -> list[Result]:
    """Classes of the clean test images that lose more than the whole, in the contract's form."""
    test, images = source.test, source.test.split.clean
    net = PlainEvaluator(test.model.with_weights(weights), test.split) if weights else test
    before, after = test.reply(images, ChannelMask()), net.reply(images, point.mask)
    return [dict(row) for row in losing_classes(images.labels, before.classes, after.classes)]


def _badnet_json(source: Source) -> Result:
    path, valid = source.badnet, source.valid
    weights_only = None
    if valid.model.source is None:
        weights_only = contained.read("weights_only", path, architecture=source.architecture)[0]
    return {
        "file": path.name,
        "sha256": valid.model.badnet_digest,
        "weights_only": weights_only,
        "valid": valid.badnet.to_json(),
        "test": source.test.badnet.to_json(),
    }


def check_same_inputs(manifest: Manifest, now: Mapping[str, str]) -> None:
    """``now``: the digests of what is to be worked on, as ``TrialInputs`` has them. Raises InputError unless
    the sweep worked on the same."""
    names = {"badnet": "the BadNet", "valid": "the validation set", "test": "the test set"}
    for key, digest in now.items():
        if manifest.digests[key] != digest:
            raise InputError(
                f"sweep {manifest.name}: {names[key]} is not the one that the sweep used (its "
                "digest differs); put the file back or run the sweep again"
            )


def _explained(point: FrontierPoint, badnet: Counts, reason: str, badnet_test: Counts | None) -> str:
    fell = float(point.valid.clean_accuracy_fell(since=badnet))
    change = f"{fell:.2f} points below" if fell >= 0 else f"{-fell:.2f} points above"
    test = point.test
    sentences = [
        f"Chosen on validation: {reason}.",
        f"On validation: {_rates(point.valid)}; accuracy is {change} the BadNet's.",
        f"On test, which had no part in the choice: {_rates(test)}; from validation to test clean "
        f"accuracy changes by {100 * point.gap['clean_accuracy']:+.2f} points and attack success by "
        f"{100 * point.gap['attack_success']:+.2f}.",
        *([] if badnet_test is None else [f"On test accuracy is {price_words(price(badnet_test, test))}."]),
        *_changed(point),
        f"{disarmed(len(test.by_trigger))}; it does not show that the network is clean.",
    ]
    if test.attacked * 2 >= test.poisoned_total:
        sentences.insert(3, "The attack still succeeds on half of the test images or more.")
    return " ".join(sentences)


def _changed(point: FrontierPoint) -> list[str]:
    """What must be said of a net that is more than a pruned BadNet."""
    if point.settings is None or point.settings.method.kind == "pruning":
        return []
    settings, method = point.settings, point.settings.method
    said = [
        f"This is not pruning alone ({method.kind}: {settings.procedure}); it needed {method.assumption}."
    ]
    if point.weights is not None and method.assumption != WEIGHTS_ALONE:
        said.append("Weights were trained on validation images, so the validation figures flatter it.")
    return said


def _rates(counts: Counts) -> str:
    accuracy, attack, *_ = counts.rates()
    return f"clean accuracy {_rate(accuracy)}, attack success {_rate(attack)}{counts.trigger_words()}"


def _rate(rate: Rate) -> str:
    return (
        f"{100 * rate.rate:.2f} % ({rate.hits} of {rate.total}; "
        f"95 % interval {100 * rate.low:.2f} to {100 * rate.high:.2f})"
    )
