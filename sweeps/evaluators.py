"""A worker's evaluators, and what they share with other workers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from prune_core.data.images import Split
from prune_core.evaluation.cached import RememberingEvaluator
from prune_core.evaluation.evaluator import Evaluator
from prune_core.evaluators import make_evaluator
from prune_core.model.model import PrunableModel
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.storage.evaluation_cache import EvaluationCache
from sweeps.storage.storage import Storage


@dataclass(frozen=True, eq=False)
class Evaluators:
    """A worker's two evaluators, kept from trial to trial. Validation decides, test reports."""

    valid: Evaluator
    test: Evaluator
    memories: tuple[EvaluationCache, ...] = ()

    @classmethod
    def of(
        cls, inputs: TrialInputs, kind: str, memory_gb: float, storage: Storage | None = None
    ) -> Evaluators:
        """What they find out is shared through ``storage``. A trial asks test only once, so its
        evaluator gets the smaller part of the memory."""
        made = [
            remembering(inputs.model, split, kind, memory_gb * share, storage)
            for split, share in ((inputs.valid, 0.6), (inputs.test, 0.4))
        ]
        (valid, of_valid), (test, of_test) = made
        return cls(valid, test, (of_valid, of_test))

    def answered(self) -> tuple[int, int]:
        """Questions that were asked so far, and those of them that memory answered."""
        each = [e for e in (self.valid, self.test) if isinstance(e, RememberingEvaluator)]
        return sum(e.asked for e in each), sum(e.remembered for e in each)

    def exchange(self) -> None:
        """Tell other workers what was found out here, and hear from them."""
        for memory in self.memories:
            memory.exchange()


def remembering(
    model: PrunableModel, split: Split, kind: str, memory_gb: float, storage: Storage | None
) -> tuple[RememberingEvaluator, EvaluationCache]:
    """An evaluator over what ``storage`` holds, and its memory."""
    memory = EvaluationCache(model.digest, split.digest, storage)
    memory.exchange()
    make = partial(make_evaluator, model, split, kind, memory_gb)
    return RememberingEvaluator(split, make, memory), memory
