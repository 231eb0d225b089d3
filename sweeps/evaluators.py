"""A worker's evaluators, and what they share with other workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from prune_core.data.images import Split
from prune_core.data.subset import subset
from prune_core.evaluation.cached import RememberingEvaluator
from prune_core.evaluation.evaluator import Evaluator
from prune_core.evaluators import make_evaluator
from prune_core.model.model import PrunableModel
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.storage.evaluation_cache import EvaluationCache
from sweeps.storage.storage import Storage

TEST, PART = 0.4, 0.2  # of the memory: for test, and of that for what counts on a part of validation


@dataclass(frozen=True, eq=False)
class Evaluators:
    """A worker's evaluators, kept from trial to trial. Validation decides, test reports.

    ``remembering``: from a split and GiB to an evaluator and its memory; ``parts``: those of parts of
    validation, on which candidates are only ranked, by size and seed.
    """

    valid: Evaluator
    test: RememberingEvaluator
    memories: list[EvaluationCache]
    remembering: Callable[[Split, float], tuple[RememberingEvaluator, EvaluationCache]]
    memory_gb: float
    parts: dict[tuple[int, int], Evaluator] = field(default_factory=dict)

    @classmethod
    def of(
        cls, inputs: TrialInputs, kind: str, memory_gb: float, storage: Storage | None = None
    ) -> Evaluators:
        """What they find out is shared through ``storage``. A trial asks test only once, so its
        evaluator gets the smaller part of the memory."""
        make = partial(remembering, inputs.model, kind, storage)
        valid, of_valid = make(inputs.valid, memory_gb * (1 - TEST))
        test, of_test = make(inputs.test, memory_gb * TEST)
        return cls(valid, test, [of_valid, of_test], make, memory_gb)

    def part(self, size: int, seed: int) -> Evaluator:
        """Counts on ``size`` images of each kind of validation, drawn by ``seed``; on all where there are no
        more. A worker keeps one part, and its memory is taken from test's."""
        if (size, seed) not in self.parts:
            split = subset(self.valid.split, size, seed)
            if split is None:
                return self.valid
            if not self.parts:
                smaller, _ = self.remembering(self.test.split, self.memory_gb * (TEST - PART))
                self.test.remake(smaller.make)
            self.parts.clear()
            self.parts[size, seed], memory = self.remembering(split, self.memory_gb * PART)
            self.memories[2:] = [memory]
        return self.parts[size, seed]

    def answered(self) -> tuple[int, int]:
        """Questions that were asked so far, and those of them that memory answered."""
        each = [e for e in (self.valid, self.test) if isinstance(e, RememberingEvaluator)]
        return sum(e.asked for e in each), sum(e.remembered for e in each)

    def exchange(self) -> None:
        """Tell other workers what was found out here, and hear from them."""
        for memory in self.memories:
            memory.exchange()


def remembering(
    model: PrunableModel, kind: str, storage: Storage | None, split: Split, memory_gb: float
) -> tuple[RememberingEvaluator, EvaluationCache]:
    """An evaluator over what ``storage`` holds, and its memory."""
    memory = EvaluationCache(model.digest, split.digest, storage)
    memory.exchange()
    make = partial(make_evaluator, model, split, kind, memory_gb)
    return RememberingEvaluator(split, make, memory), memory
