"""Evaluators by name: the plain one and its fast twin."""

from __future__ import annotations

from prune_core.data.images import Split
from prune_core.errors import InputError
from prune_core.evaluation.evaluator import Evaluator
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.model.model import PrunableModel


def make_evaluator(
    model: PrunableModel, split: Split, kind: str = "incremental", memory_gb: float = 4.0
) -> Evaluator:
    """The evaluator of a kind, ``incremental`` or ``plain``; both count the same.

    Args:
        memory_gb: GiB that the process may take, images included (``incremental`` only).

    Raises:
        InputError: unknown kind, or model and images do not fit.
    """
    if kind == "plain":
        return PlainEvaluator(model, split)
    if kind == "incremental":
        from prune_core.incremental.evaluator import IncrementalEvaluator  # it builds on this module

        return IncrementalEvaluator(model, split, memory_gb)
    raise InputError(f"evaluator {kind!r} is unknown; expected one of incremental, plain")
