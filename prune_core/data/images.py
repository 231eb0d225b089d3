"""The clean and the poisoned images of a split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from prune_core.data.arrays import checked_labels, checked_pixels, checked_targets, triggers_given
from prune_core.data.attack import Attack, Target, aimed, goal_of, target_share
from prune_core.data.form import USUAL, ImageForm, Layout, Preprocessing
from prune_core.data.labeled import LabeledImages as LabeledImages
from prune_core.data.loaders import gathered
from prune_core.data.reading import Files as Files
from prune_core.data.reading import joined as joined
from prune_core.data.reading import read_images as read_images
from prune_core.data.reading import read_poisoned as read_poisoned
from prune_core.errors import InputError


@dataclass(frozen=True, eq=False)
class Split:
    """The clean and the poisoned images of one split (validation or test). Make it with ``from_arrays``
    or ``from_files``.

    Attributes:
        poisoned: their labels are the targets, one for each image. Of several triggers, the images stand
            one trigger after the other.
        attacks: what is known of each trigger; () where nothing is.
    """

    clean: LabeledImages
    poisoned: LabeledImages
    attacks: tuple[Attack, ...] = ()

    @classmethod
    def from_arrays(
        cls,
        clean_x: Any,
        clean_y: Any,
        poisoned_x: Any,
        target: Any = 0,
        true_labels: Any = None,
        *,
        scale: float = 1.0,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        classes: int | None = None,
    ) -> Split:
        """A split of NumPy arrays or PyTorch tensors. Pixels of one trigger are not copied: leave the arrays
        as they are while it is used.

        Args:
            clean_x: (N, C, H, W) clean images, any real dtype.
            clean_y: (N,) their classes, whole numbers from 0.
            poisoned_x: (M, C, H, W) images with the trigger on; a list of such arrays for several triggers.
            target: the class that the attacker wants them to get: one, an array (M,) of one for each
                image, or "next" for the class after the true one (all-to-all). A list of these for several
                triggers, in their order.
            true_labels: (M,) what the poisoned images really show; None where that is not known. A list for
                several triggers. Images that truly show their target are left out of the poisoned side, as
                getting it is right; without true labels they are looked for in pairs with clean images.
            scale, mean, std: the network gets (pixels * scale - mean) / std; mean and std are one value,
                or one for each channel. The defaults leave pixels as they are.
            classes: how many the network has; needed for "next".

        Raises:
            InputError: another shape or dtype, channels last, lengths that differ, labels that are no
                classes, or no poisoned image left.
        """
        done = Preprocessing.of(scale, mean, std)
        clean = checked_pixels(clean_x, "clean_x")
        labels = checked_labels(clean_y, "clean_y", len(clean))
        clean_images = LabeledImages(clean, labels, None, "clean_x", done)
        several = isinstance(poisoned_x, (list, tuple)) and all(np.ndim(x) == 4 for x in poisoned_x)
        heaps = (
            triggers_given(poisoned_x, target, true_labels)
            if several
            else [("poisoned_x", poisoned_x, target, true_labels)]
        )
        found = []
        for name, x, wanted, truth in heaps:
            pixels = checked_pixels(x, name)
            shown = None
            if truth is not None:
                shown = checked_labels(truth, name.replace("poisoned_x", "true_labels"), len(pixels))
            targets = checked_targets(wanted, len(pixels), shown, classes)
            found.append(LabeledImages(pixels, targets, shown, name, done))
        return make_split(clean_images, found, sure=True)

    @classmethod
    def from_loader(
        cls,
        clean: Iterable[Any],
        poisoned: Iterable[Any],
        target: Any = None,
        *,
        scale: float = 1.0,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        classes: int | None = None,
    ) -> Split:
        """A split of two iterables of batches, such as a ``torch.utils.data.DataLoader``; each is gone
        through once and kept in memory.

        Args:
            clean: batches ``(images, labels)``, tensors or arrays (n, C, H, W) and (n,); further entries
                of a batch are left aside.
            poisoned: such batches of images with the trigger on.
            target: the class that the attacker wants, or "next", as of ``from_arrays``; the labels of
                poisoned batches are then what the images really show (batches of images alone are fine,
                too). None: those labels are the targets.
            scale, mean, std, classes: as of ``from_arrays``. A loader often normalises already.

        Raises:
            InputError: names the batch that is no such pair, or says what ``from_arrays`` says.
        """
        clean_x, clean_y = gathered(clean, "clean")
        poisoned_x, poisoned_y = gathered(poisoned, "poisoned", labelled=target is None)
        wanted, truth = (poisoned_y, None) if target is None else (target, poisoned_y)
        if isinstance(target, int) and poisoned_y is not None and (poisoned_y == target).all():
            raise InputError(
                f"poisoned: every label is the target {target}; leave target out where the labels of "
                "poisoned batches are the targets"
            )
        form: dict[str, Any] = {"scale": scale, "mean": mean, "std": std, "classes": classes}
        return cls.from_arrays(clean_x, clean_y, poisoned_x, wanted, truth, **form)

    @classmethod
    def from_files(
        cls,
        clean: Files,
        poisoned: Files,
        *,
        target: int | None = None,
        scale: float = 1.0,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        layout: Layout | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> Split:
        """A split of files: HDF5, ``.npz`` or ``.parquet``, or folders of pictures, a folder a class.

        An HDF5 file has ``data`` (N, C, H, W), ``label`` (N,) and perhaps ``true_label`` (N,). In a poisoned
        file ``label`` is the target, unless there is a field ``target``, or one is given here: then it is
        what the images really show.

        Args:
            clean: a path, or several to be joined.
            poisoned: a path; of several triggers, a list, one for each. All are opened by a process of its
                own, as files of strangers.
            target: the class that the attacker wants, for poisoned files that do not hold it.
            scale, mean, std: as of ``from_arrays``.
            layout: "NCHW" or "NHWC", of arrays for which it cannot be told.
            keys: names of fields that are not the usual ones, by role: images, label, target, true_label.

        Raises:
            InputError: a file that cannot be read or does not hold this, or two that do not fit.
        """
        form = ImageForm.of(layout, keys, (), target, Preprocessing.of(scale, mean, std))
        return read_split(clean, poisoned, form)

    @property
    def targets(self) -> np.ndarray:
        """(poisoned images,) int64, the class that the attacker wants each to get."""
        return self.poisoned.labels

    @property
    def target(self) -> int:
        """The target that all poisoned images share. Raises InputError where they do not."""
        if (self.targets != self.targets[0]).any():
            raise InputError(f"{self.poisoned.name}: the poisoned images have more than one target")
        return int(self.targets[0])

    @cached_property
    def rows_by_trigger(self) -> tuple[np.ndarray | slice, ...]:
        """The rows of poisoned images of each trigger."""
        numbers = self.poisoned.triggers
        if numbers is None:
            return (slice(0, len(self.poisoned)),)
        return tuple(np.flatnonzero(numbers == n) for n in range(int(numbers.max()) + 1))

    @property
    def goals(self) -> tuple[Target | list[int], ...]:
        """What each trigger is to bring: a class, ``next``, or the classes there are."""
        truth = self.poisoned.true_labels
        return tuple(
            goal_of(self.targets[rows], None if truth is None else truth[rows])
            for rows in self.rows_by_trigger
        )

    @property
    def goal(self) -> Any:
        """Of the only trigger; the list of all where there are several."""
        return self.goals[0] if len(self.goals) == 1 else list(self.goals)

    @property
    def target_share(self) -> float:
        """Fraction of the clean images that are of the target class: attack success by chance. Of several
        triggers the largest."""
        return max(target_share(self.targets[rows], self.clean.labels) for rows in self.rows_by_trigger)

    @property
    def left_out(self) -> int:
        """Poisoned images left out because they truly show their target."""
        return sum(attack.left_out for attack in self.attacks)

    @property
    def floor(self) -> float:
        """What part of attack success may be true images of the target, a fraction: 0 where the poisoned
        images' true labels are known, else the target's share of clean images, of several triggers the
        largest."""
        if not self.attacks or self.poisoned.true_labels is not None:
            return 0.0
        return max(
            0.0 if attack.truth else target_share(self.targets[rows], self.clean.labels)
            for attack, rows in zip(self.attacks, self.rows_by_trigger, strict=True)
        )

    def keeping(self, clean_rows: np.ndarray, poisoned_rows: np.ndarray) -> Split:
        """The split of some images of each side."""
        return replace(
            self, clean=self.clean.keeping(clean_rows), poisoned=self.poisoned.keeping(poisoned_rows)
        )

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256((self.clean.digest + self.poisoned.digest).encode()).hexdigest()


def make_split(
    clean: LabeledImages,
    poisoned: LabeledImages | Sequence[LabeledImages],
    target: Target | Sequence[Target] | None = None,
    classes: int | None = None,
    sure: bool = False,
) -> Split:
    """A split of clean images and of those of one trigger, or of several.

    Images whose true class is their target are left out of the poisoned side when that is known, from
    true labels or from pairs: to call them target is right, not a success of the attack (``attack``).

    Args:
        target: what the labels of the poisoned images have to agree with; of several triggers one for all,
            or a list. Where labels differ and are the true ones, it takes their place.
        classes: of the network; needed for the target ``next``.
        sure: labels that differ are targets, whatever they look like.

    Raises:
        InputError: labels that are no targets, images that do not fit, or nothing is left.
    """
    heaps = [poisoned] if isinstance(poisoned, LabeledImages) else list(poisoned)
    one = target is None or isinstance(target, (int, str))
    wanted: list[Any] = [target] * len(heaps) if one else list(target)  # type: ignore[arg-type]
    if not heaps or len(wanted) != len(heaps):
        raise InputError(f"{len(wanted)} targets for {len(heaps)} poisoned sets; expected one for each")
    for images in (clean, *heaps):
        images.preprocessing.check(images.shape[0], images.name)
    kept: list[LabeledImages] = []
    attacks: list[Attack] = []
    for heap, goal in zip(heaps, wanted, strict=True):
        if clean.shape != heap.shape:
            raise InputError(
                f"{heap.name}: images are {heap.shape}, those of {clean.name} are {clean.shape};"
                " both must have the same (C, H, W)"
            )
        found = aimed(
            heap.name,
            heap.pixels,
            heap.labels,
            heap.true_labels,
            (clean.pixels, clean.labels),
            goal,
            classes,
            sure,
        )
        heap = replace(heap, labels=found.targets, true_labels=found.true_labels)
        kept.append(heap if found.rows.all() else heap.keeping(found.rows))
        attacks.append(found.attack)
    return Split(clean, _together(kept), tuple(attacks))


def _together(heaps: list[LabeledImages]) -> LabeledImages:
    """The images of all triggers, one trigger after the other; true labels where all have them."""
    first, *others = heaps
    if not others:
        return first
    truths = [h.true_labels for h in heaps if h.true_labels is not None]
    return replace(
        first,
        pixels=np.concatenate([h.pixels for h in heaps]),
        labels=np.concatenate([h.labels for h in heaps]),
        true_labels=np.concatenate(truths) if len(truths) == len(heaps) else None,
        name=" + ".join(h.name for h in heaps),
        triggers=np.repeat(np.arange(len(heaps)), [len(h) for h in heaps]),
    )


def read_split(clean: Files, poisoned: Files, form: ImageForm = USUAL, classes: int | None = None) -> Split:
    """``make_split`` of clean images, of one file or several joined, and of one poisoned file a trigger.
    Folders of both name the same classes. ``classes``: of the network. Raises InputError."""
    first = read_images(clean, form)
    return make_split(first, read_poisoned(poisoned, form, first.classes), form.target, classes)
