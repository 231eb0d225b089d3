"""Files of a configuration -> what trials work on. The only place that opens them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from prune_core.data.attack import Target
from prune_core.data.form import ImageForm
from prune_core.data.images import Files, LabeledImages, Split, read_images
from prune_core.errors import InputError
from prune_core.evaluation.plain import check_labels
from prune_core.methods import PUBLISHED_REPAIRS, Inverted
from prune_core.model.model import PrunableModel, build_model, load_model
from prune_core.repair.finetune import check_repair
from sweeps.config.schema import EMBEDDED, Config
from sweeps.config.triggers import OneTriggerConfig, inverted_for
from sweeps.inputs.attacks import Triggers, attacked_split, inverted
from sweeps.inputs.embedded import make_embedded
from sweeps.inputs.fetch import local_file
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.storage.storage import Storage


@dataclass(frozen=True)
class InputFiles:
    """Paths after the embedded default has been made, and how to read them.

    Attributes:
        poisoned_valid, poisoned_test: of several triggers, a file for each. () with ``triggers``, which
            are put on the clean images then.
        target: what the labels of poisoned files have to agree with.
        architecture, architecture_args: of a BadNet that is weights alone.
        form: how image files are read.
        hint: where to get files that are missing.
        kept: a folder for searches of triggers that are to be inverted.
        tell: how far such a search is.
    """

    badnet: Path
    clean_valid: Files
    poisoned_valid: tuple[Path, ...]
    clean_test: Files
    poisoned_test: tuple[Path, ...]
    architecture: str | None = None
    triggers: Triggers = ()
    target: Target | None = None
    form: ImageForm = ImageForm()
    hint: str | None = None
    architecture_args: Mapping[str, Any] = field(default_factory=dict)
    kept: Path | None = None
    tell: Callable[[str, float], None] = lambda doing, share: None

    @property
    def inverted(self) -> bool:
        """Whether a trigger is sought by inversion."""
        return any(isinstance(one, OneTriggerConfig) and one.invert for one in self.triggers)


def input_files(config: Config, progress: Callable[[str, float], None] | None = None) -> InputFiles:
    """Where the files of a configuration are; makes the embedded ones, once. Raises InputError."""
    data = config.data
    reading = (
        config.architecture,
        data.stamps,
        data.target,
        data.form,
        config.data_hint,
        config.architecture_args,
        _kept_folder("inverted", config.storage),
        progress or (lambda doing, share: None),
    )
    if config.badnet in EMBEDDED:
        folder = _kept_folder(config.badnet, config.storage)
        made = make_embedded(folder, smoke=config.badnet == "embedded-smoke", progress=progress)
        return InputFiles(
            made.badnet,
            made.clean_valid,
            (made.poisoned_valid,),
            made.clean_test,
            (made.poisoned_test,),
            *reading,
        )
    assert data.clean_valid and data.clean_test  # checked by Config
    return InputFiles(
        local_file(config.badnet),
        _joined(data.clean_valid),
        _each(data.poisoned_valid),
        _joined(data.clean_test),
        _each(data.poisoned_test),
        *reading,
    )


def load_inputs(files: InputFiles, repairs: Iterable[str] = ()) -> TrialInputs:
    """BadNet and both splits, read, checked and found to fit each other and ``repairs``, those that
    trials will ask for. Raises InputError."""
    try:
        clean = read_images(files.clean_valid, files.form)
        model = load_model(
            files.badnet,
            files.architecture,
            architecture_args=files.architecture_args,
            image=clean.shape,
        )
        names = clean.classes
        ours, theirs = files.poisoned_valid, files.poisoned_test
        taken = inverted_for(files.triggers)
        if sought := files.inverted:
            ours = ()
            found = inverted(files.triggers, model, clean, files.kept, files.tell)
            files = replace(files, triggers=found)
        clean_test = read_images(files.clean_test, files.form, classes=names)
        valid = _split(files, model, clean, ours)
        test = _split(files, model, clean_test, theirs)
    except InputError as error:
        missing = "no such file" in str(error) and files.hint
        raise InputError(f"{error}. {files.hint}") if missing else error from None
    if not (sought and theirs):  # then the true attack is only reported, and may be any
        _check_one_attack(valid, test)
    classes = model.check_images(valid.clean.shape, valid.clean.name)
    model.check_images(test.clean.shape, test.clean.name)
    if names and len(names) != classes:
        raise InputError(
            f"{valid.clean.name}: {len(names)} class folders, but {model.name} has {classes} classes; name "
            "all of them in order under data.classes, or name folders by the classes' numbers"
        )
    for split in (valid, test):
        for images in (split.clean, split.poisoned):
            check_labels(images, classes, model.name)
    for repair in repairs:
        if repair != "none" and repair not in PUBLISHED_REPAIRS:
            check_repair(repair, valid)
    return TrialInputs(model, valid, test, taken)


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
    inverted: Inverted | None = None

    @classmethod
    def of(cls, inputs: TrialInputs) -> Parcel:
        model = inputs.model
        return cls(
            model.proto.SerializeToString(),
            model.digest,
            model.name,
            inputs.valid,
            inputs.test,
            inputs.inverted,
        )

    @property
    def id(self) -> str:
        text = self.digest + self.valid.digest + self.test.digest
        return hashlib.sha256(text.encode()).hexdigest()

    def opened(self) -> TrialInputs:
        proto = onnx.ModelProto.FromString(self.onnx)
        return TrialInputs(build_model(proto, self.digest, self.name), self.valid, self.test, self.inverted)


def _split(files: InputFiles, model: PrunableModel, clean: LabeledImages, poisoned: Sequence[Path]) -> Split:
    classes = model.check_images(clean.shape, clean.name)
    return attacked_split(clean, poisoned, files.triggers, files.form, files.target, classes)


def _kept_folder(badnet: str, place: str) -> Path:
    """In the storage at ``place`` when that is a folder, else in the user's cache: it is made, not
    precious."""
    local = Storage(place).local
    if local is not None:
        return local / badnet
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "goodnet" / badnet


def _joined(place: str | tuple[str, ...]) -> Files:
    return local_file(place) if isinstance(place, str) else tuple(map(local_file, place))


def _each(places: str | tuple[str, ...] | None) -> tuple[Path, ...]:
    if places is None:
        return ()
    return tuple(map(local_file, [places] if isinstance(places, str) else places))
