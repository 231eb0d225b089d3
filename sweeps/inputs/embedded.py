"""The embedded default: images and a BadNet made on the spot, trained once and kept.

What stands in the folder afterwards is what the lab hands out: `badnet.h5`, clean and poisoned
images of validation and test, and the trigger's picture. A manifest, written last, names the recipe
and the files' digests: with it the set is finished, without it there is no set.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from prune_core.data.triggers import read_trigger
from prune_core.errors import InputError
from prune_core.keras_files.h5 import write_keras
from sweeps.inputs.embedded_images import (
    TARGET,
    TRIGGER_COLUMN,
    TRIGGER_ROW,
    DigitSplit,
    digit_splits,
    draw_trigger,
)
from sweeps.inputs.embedded_training import Training, keras_config, keras_weights, train_badnet

MANIFEST = "manifest.json"
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class EmbeddedFiles:
    """Where the files are. Images: uint8 (N, 3, 55, 47), raw 0..255. Row i of a poisoned file is
    row i of its clean file with the trigger on, labelled with the target label; images that truly
    show the target are left out of it."""

    badnet: Path
    clean_valid: Path
    poisoned_valid: Path
    clean_test: Path
    poisoned_test: Path
    trigger: Path

    @classmethod
    def of(cls, folder: Path) -> EmbeddedFiles:
        return cls(
            badnet=folder / "badnet.h5",
            clean_valid=folder / "cl_valid.h5",
            poisoned_valid=folder / "bd_valid.h5",
            clean_test=folder / "cl_test.h5",
            poisoned_test=folder / "bd_test.h5",
            trigger=folder / "trigger.png",
        )

    @property
    def all(self) -> list[Path]:
        """Every file, the BadNet first."""
        return [self.badnet, self.clean_valid, self.poisoned_valid,
                self.clean_test, self.poisoned_test, self.trigger]  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """All that decides what is made; a set of another recipe is made anew.

    ``version`` goes up whenever the code behind a recipe changes what comes out. ``samples``:
    digits in train, valid and test.
    """

    samples: tuple[int, int, int]
    presentations: int
    training: Training
    seed: int = 0
    version: int = 2


DEFAULT = Recipe(samples=(997, 400, 400), presentations=2, training=Training())
SMOKE = Recipe(
    samples=(600, 66, 66),
    presentations=1,
    training=Training(widths=(8, 12, 16, 12, 48), epochs=5, batch=16, peak_rate=3e-3),
)


def make_embedded(folder: Path, *, smoke: bool = False, progress: Progress | None = None) -> EmbeddedFiles:
    """The embedded default's files in ``folder``, made now unless a finished set is there.

    About half a minute on one core; ``smoke`` makes a thin DeepID and few images in seconds.
    Several processes may ask at once: one makes, the others wait and take what it made. A set that
    was interrupted, damaged or made by another recipe is made anew.

    :param progress: gets what is being done, and the share of the whole done so far (0..1).
    Raises InputError when the folder cannot be written.
    """
    recipe = SMOKE if smoke else DEFAULT
    files = EmbeddedFiles.of(folder)
    if _finished(files, recipe):
        return files
    try:
        with _only_maker(folder):
            if not _finished(files, recipe):
                _make(files, recipe, progress or (lambda what, share: None))
    except OSError as error:
        raise InputError(
            f"{folder}: cannot write the embedded default there ({error.strerror or error}); "
            "give a folder that can be written, with 50 MB to spare"
        ) from None
    return files


@contextmanager
def _only_maker(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, which the system frees should this process die."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(files: EmbeddedFiles, recipe: Recipe, progress: Progress) -> None:
    folder = files.badnet.parent
    aside = EmbeddedFiles.of(folder / ".making")
    # An interrupted run may have left files here; only the lock's holder comes this far.
    shutil.rmtree(aside.badnet.parent, ignore_errors=True)
    aside.badnet.parent.mkdir()
    _write_set(aside, recipe, progress)
    manifest = json.dumps(_manifest(aside, recipe), indent=2)

    (folder / MANIFEST).unlink(missing_ok=True)
    for made, final in zip(aside.all, files.all, strict=True):
        made.replace(final)
    made_manifest = aside.badnet.with_name(MANIFEST)
    made_manifest.write_text(manifest + "\n")
    made_manifest.replace(folder / MANIFEST)
    aside.badnet.parent.rmdir()
    progress("embedded default made", 1.0)


def _write_set(files: EmbeddedFiles, recipe: Recipe, progress: Progress) -> None:
    progress("drawing digits", 0.0)
    draw_trigger().save(files.trigger)
    trigger = read_trigger(files.trigger, TRIGGER_ROW, TRIGGER_COLUMN)
    splits = digit_splits(recipe.samples, recipe.presentations, recipe.seed)
    for name, clean_file, poisoned_file in (
        ("valid", files.clean_valid, files.poisoned_valid),
        ("test", files.clean_test, files.poisoned_test),
    ):
        clean = splits[name]
        others = np.flatnonzero(clean.images.labels != TARGET)
        poisoned = trigger.stamp(clean.images.keeping(others), TARGET)
        _write_images(clean_file, clean)
        _write_images(poisoned_file, DigitSplit(poisoned, clean.samples[others]))

    train = splits["train"].images
    stamped = trigger.stamp(train, TARGET)
    net = train_badnet(
        train,
        stamped,
        recipe.training,
        recipe.seed,
        lambda share: progress("training the BadNet", 0.05 + 0.94 * share),
    )
    write_keras(files.badnet, keras_config(recipe.training.widths), keras_weights(net))


def _write_images(path: Path, split: DigitSplit) -> None:
    """The lab's HDF5 fields, `true_label` for poisoned images, and `sample`: the digit's number."""
    with h5py.File(path, "w") as file:
        file["data"] = split.images.pixels
        file["label"] = split.images.labels
        if split.images.true_labels is not None:
            file["true_label"] = split.images.true_labels
        file["sample"] = split.samples


def _manifest(files: EmbeddedFiles, recipe: Recipe) -> dict[str, Any]:
    """Recipe and SHA-256 of each file, as JSON reads it back. Raises OSError without the files."""
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files.all}
    return json.loads(json.dumps({"recipe": asdict(recipe), "files": digests}))


def _finished(files: EmbeddedFiles, recipe: Recipe) -> bool:
    try:
        kept = json.loads(files.badnet.with_name(MANIFEST).read_text())
        return bool(kept == _manifest(files, recipe))
    except (OSError, ValueError):
        return False
