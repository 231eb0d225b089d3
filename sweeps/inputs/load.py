"""Files of a configuration -> what trials work on. The only place that opens them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from prune_core.data.form import ImageForm
from prune_core.data.images import LabeledImages, Split, make_split, read_images
from prune_core.data.triggers import read_trigger
from prune_core.errors import InputError
from prune_core.evaluation.plain import check_labels
from prune_core.model.model import build_model, load_model
from prune_core.repair.finetune import check_repair
from sweeps.config.schema import EMBEDDED, Config, TriggerConfig
from sweeps.inputs.embedded import make_embedded
from sweeps.inputs.fetch import local_file
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.storage.storage import Storage


@dataclass(frozen=True)
class InputFiles:
    """Paths after the embedded default has been made, and how to read them.

    Attributes:
        poisoned_valid, poisoned_test: None with a ``trigger``, which is stamped on the clean images then.
        architecture, architecture_args: of a BadNet that is weights alone.
        form: how image files are read.
        hint: where to get files that are missing.
    """

    badnet: Path
    clean_valid: Path
    poisoned_valid: Path | None
    clean_test: Path
    poisoned_test: Path | None
    architecture: str | None = None
    trigger: TriggerConfig | None = None
    form: ImageForm = ImageForm()
    hint: str | None = None
    architecture_args: Mapping[str, Any] = field(default_factory=dict)


def input_files(config: Config, progress: Callable[[str, float], None] | None = None) -> InputFiles:
    """Where the files of a configuration are; makes the embedded ones, once. Raises InputError."""
    data = config.data
    reading = (config.architecture, data.trigger, data.form, config.data_hint, config.architecture_args)
    if config.badnet in EMBEDDED:
        folder = _embedded_folder(config.badnet, config.storage)
        made = make_embedded(folder, smoke=config.badnet == "embedded-smoke", progress=progress)
        return InputFiles(
            made.badnet, made.clean_valid, made.poisoned_valid, made.clean_test, made.poisoned_test, *reading
        )
    assert data.clean_valid and data.clean_test  # checked by Config
    return InputFiles(
        local_file(config.badnet),
        local_file(data.clean_valid),
        _maybe(data.poisoned_valid),
        local_file(data.clean_test),
        _maybe(data.poisoned_test),
        *reading,
    )


def load_inputs(files: InputFiles, repairs: Iterable[str] = ()) -> TrialInputs:
    """BadNet and both splits, read, checked and found to fit each other and ``repairs``, those that
    trials will ask for. Raises InputError."""
    try:
        valid = _split(files, files.clean_valid, files.poisoned_valid)
        model = load_model(
            files.badnet,
            files.architecture,
            architecture_args=files.architecture_args,
            image=valid.clean.shape,
        )
        test = _split(files, files.clean_test, files.poisoned_test)
    except InputError as error:
        missing = "no such file" in str(error) and files.hint
        raise InputError(f"{error}. {files.hint}") if missing else error from None
    _check_one_attack(valid, test)
    classes = model.check_images(valid.clean.shape, valid.clean.name)
    model.check_images(test.clean.shape, test.clean.name)
    for split in (valid, test):
        for images in (split.clean, split.poisoned):
            check_labels(images, classes, model.name)
    for repair in repairs:
        if repair != "none":
            check_repair(repair, valid)
    return TrialInputs(model, valid, test)


def _check_one_attack(valid: Split, test: Split) -> None:
    """Raises InputError unless both splits have the same triggers, as far as their targets tell."""
    ours, theirs = (["several" if isinstance(g, list) else g for g in s.goals] for s in (valid, test))
    if ours != theirs:
        aims = [", ".join(map(str, goals)) for goals in (ours, theirs)]
        raise InputError(
            f"validation aims at target label {aims[0]}, test at {aims[1]}; "
            "both poisoned sets must show the same attack"
        )


@dataclass(frozen=True, eq=False)
class Parcel:
    """TrialInputs in a form that travels: arrays and bytes; the network is built where it lands."""

    onnx: bytes
    digest: str
    name: str
    valid: Split
    test: Split

    @classmethod
    def of(cls, inputs: TrialInputs) -> Parcel:
        model = inputs.model
        return cls(model.proto.SerializeToString(), model.digest, model.name, inputs.valid, inputs.test)

    @property
    def id(self) -> str:
        text = self.digest + self.valid.digest + self.test.digest
        return hashlib.sha256(text.encode()).hexdigest()

    def opened(self) -> TrialInputs:
        proto = onnx.ModelProto.FromString(self.onnx)
        return TrialInputs(build_model(proto, self.digest, self.name), self.valid, self.test)


def _split(files: InputFiles, clean_path: Path, poisoned_path: Path | None) -> Split:
    clean = read_images(clean_path, files.form)
    if poisoned_path is not None:
        return make_split(clean, read_images(poisoned_path, files.form))
    assert files.trigger is not None  # checked by Config
    return make_split(clean, _stamped(files.trigger, clean))


def _stamped(given: TriggerConfig, clean: LabeledImages) -> LabeledImages:
    return read_trigger(local_file(given.picture), given.row, given.column).stamp(clean, given.target)


def _embedded_folder(badnet: str, place: str) -> Path:
    """In the storage at ``place`` when that is a folder, else in the user's cache: it is made, not
    precious."""
    local = Storage(place).local
    if local is not None:
        return local / badnet
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "goodnet" / badnet


def _maybe(path: str | None) -> Path | None:
    return None if path is None else local_file(path)
