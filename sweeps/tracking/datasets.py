"""The image files that a sweep works on, as MLflow's data sets. Knows nothing of MLflow."""

from __future__ import annotations

import json
from typing import NamedTuple

from prune_core.data.labeled import LabeledImages
from sweeps.inputs.trial_inputs import TrialInputs

DIGEST = 12  # characters that name a data set; MLflow takes 36


class DataSet(NamedTuple):
    """Clean or poisoned images of one split.

    Attributes:
        kind: "clean" or "poisoned".
        split: "validation" or "test".
        sha256: over pixels, labels and preprocessing, as ``LabeledImages.digest``.
        images: how many; of poisoned ones those that count, without images of their own target.
        shape: (C, H, W) of one image.
        dtype: of the pixels in the file.
        source: where they came from, in words; nothing is opened there.
    """

    kind: str
    split: str
    sha256: str
    images: int
    shape: tuple[int, ...]
    dtype: str
    source: str

    @property
    def name(self) -> str:
        return f"{self.kind} {self.split}"

    @property
    def digest(self) -> str:
        """The beginning of ``sha256``, short enough for a column."""
        return self.sha256[:DIGEST]

    @property
    def where(self) -> str:
        """MLflow's form of a source."""
        return json.dumps({"uri": self.source})

    @property
    def form(self) -> str:
        """MLflow's form of a schema of arrays."""
        pixels = {"dtype": self.dtype, "shape": [-1, *self.shape]}
        labels = {"dtype": "int64", "shape": [-1]}
        return json.dumps(
            {
                "mlflow_tensorspec": {
                    "features": json.dumps([{"type": "tensor", "tensor-spec": pixels}]),
                    "targets": json.dumps([{"type": "tensor", "tensor-spec": labels}]),
                }
            }
        )

    @property
    def counts(self) -> str:
        """MLflow's form of a profile."""
        return json.dumps({"num_rows": self.images, "num_elements": self.images})


def data_sets(inputs: TrialInputs) -> tuple[DataSet, ...]:
    """Clean and poisoned images of both splits."""
    return tuple(
        _of(kind, name, images)
        for name, split in (("validation", inputs.valid), ("test", inputs.test))
        for kind, images in (("clean", split.clean), ("poisoned", split.poisoned))
    )


def _of(kind: str, split: str, images: LabeledImages) -> DataSet:
    return DataSet(
        kind, split, images.digest, len(images), images.shape, str(images.pixels.dtype), images.name
    )
