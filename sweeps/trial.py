"""One trial: settings -> record. A plain function; knows neither Ray nor MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from prune_core.errors import InputError
from prune_core.evaluate import Evaluator, make_evaluator
from prune_core.greedy import PruneStep
from prune_core.images import Split
from prune_core.layer_sets import resolve_layer_set
from prune_core.masks import Channel
from prune_core.metrics import Counts
from prune_core.model import PrunableModel
from prune_core.orders import OrderInput, channel_order
from prune_core.policies import empty_mask, prune
from prune_core.remembering import RememberingEvaluator
from sweeps.config import ResourcesConfig
from sweeps.evaluations import Evaluations
from sweeps.records import TrialRecord
from sweeps.space import TrialSettings, trial_key
from sweeps.storage import Storage


@dataclass(frozen=True, eq=False)
class TrialInputs:
    """What all trials of a sweep share: the BadNet and both splits, with the BadNet's test counts."""

    model: PrunableModel
    valid: Split
    test: Split
    # Orders computed so far: trials that differ in X or policy only share one.
    orders: dict[tuple[str, tuple[str, ...], int], list[Channel]] = field(
        default_factory=dict, repr=False
    )

    def key(self, settings: TrialSettings) -> str:
        return trial_key(settings, self.model.digest, self.valid.digest, self.test.digest)


@dataclass(frozen=True, eq=False)
class Evaluators:
    """A worker's two evaluators, kept from trial to trial. Validation decides, test reports."""

    valid: Evaluator
    test: Evaluator
    memories: tuple[Evaluations, ...] = ()

    @classmethod
    def of(
        cls, inputs: TrialInputs, kind: str, resources: ResourcesConfig, storage: Storage | None = None
    ) -> Evaluators:
        """What they find out is shared through ``storage``. A trial asks test only once, so its
        evaluator gets the smaller part of the memory."""
        made = [
            remembering(inputs.model, split, kind, resources.memory_gb * share, storage)
            for split, share in ((inputs.valid, 0.6), (inputs.test, 0.4))
        ]
        (valid, of_valid), (test, of_test) = made
        return cls(valid, test, (of_valid, of_test))

    def exchange(self) -> None:
        """Tell other workers what was found out here, and hear from them."""
        for memory in self.memories:
            memory.exchange()


def remembering(
    model: PrunableModel, split: Split, kind: str, memory_gb: float, storage: Storage | None
) -> tuple[RememberingEvaluator, Evaluations]:
    """An evaluator over what ``storage`` holds, and its memory."""
    memory = Evaluations(model.digest, split.digest, storage)
    memory.exchange()
    make = partial(make_evaluator, model, split, kind, memory_gb)
    return RememberingEvaluator(split, make, memory), memory


def run_trial(
    settings: TrialSettings,
    inputs: TrialInputs,
    evaluators: Evaluators,
    watch: Callable[[PruneStep, int], None] = lambda step, total: None,
) -> TrialRecord:
    """Prune as ``settings`` say, count the result on test, make the record.

    ``watch`` is told every step and about how many there will be. A trial that cannot be
    done comes back as a failed record with its reason; only Ctrl-C and the like get through.
    """
    key, started = inputs.key(settings), time.monotonic()
    evaluators.exchange()
    try:
        steps = []
        order = _order(settings, inputs)
        for step in prune(settings.policy, settings.x, evaluators.valid, order):
            steps.append(step)
            watch(step, max(len(order), len(steps)))
        mask = steps[-1].mask if steps else empty_mask(settings.policy)
        now: Counts = steps[-1].now if steps else evaluators.valid.badnet
        return TrialRecord(
            key, settings, "done", seconds=time.monotonic() - started,
            badnet_valid=evaluators.valid.badnet, badnet_test=evaluators.test.badnet,
            valid=now, test=evaluators.test.counts(mask), mask=mask, steps=tuple(steps),
        )
    except Exception as error:  # whatever it is, the sweep goes on and the record says it
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        reason = kind + (" ".join(str(error).split()) or "no message")[:500]
        return TrialRecord(key, settings, "failed", reason, time.monotonic() - started)
    finally:
        evaluators.exchange()


def _order(settings: TrialSettings, inputs: TrialInputs) -> list[Channel]:
    known = (settings.order, settings.layers, settings.seed)
    if known not in inputs.orders:
        layer_set = resolve_layer_set(settings.layers, inputs.model)
        given = OrderInput.of(inputs.model, inputs.valid, layer_set, settings.seed)
        inputs.orders[known] = channel_order(settings.order, given)
    return inputs.orders[known]
