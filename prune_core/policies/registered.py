"""Policies that other people bring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prune_core.counts import Ask, Counts, exact_points
from prune_core.errors import InputError
from prune_core.evaluation.evaluator import Evaluator
from prune_core.greedy import PruneStep
from prune_core.masks import Channel, ChannelMask
from prune_core.plugins.registry import Plugins, check_function, check_needs

Walks = Callable[[Evaluator, Sequence[Channel], float], Iterator[PruneStep]]
ARGUMENTS = "evaluator, order, x"


@dataclass(frozen=True)
class KnownPolicy:
    """A policy and what it means.

    Attributes:
        walk: from (evaluator, order, x) to the steps of a trial; see ``register_policy``.
        needs: in words, beyond the network: one of ``plugins.NEEDS``.
        version: a text that changes whenever its results do.
    """

    walk: Walks
    needs: str = "clean and poisoned images"
    version: str | None = None


def policy_plugins(builtin: Callable[[], Sequence[str]]) -> Plugins[KnownPolicy]:
    """Those of this process and of the entry points ``goodnet.policies``."""
    return Plugins("policy", "goodnet.policies", builtin, _made)


def check_known(what: str, known: KnownPolicy) -> None:
    """Raises InputError where a policy says of itself what makes no sense."""
    check_function(what, known.walk, ARGUMENTS)
    check_needs(what, known.needs)


def checked_steps(
    name: str, walk: Walks, evaluator: Evaluator, order: Sequence[Channel], x: float
) -> Iterator[PruneStep]:
    """The steps of a policy, as long as they are what steps must be.

    Raises InputError at the first that is not: a channel that is not of the order, a mask that does not
    follow from the one before, counts that the net has not, or an accepted net beyond ``x`` points.
    """
    mask, now, allowed = ChannelMask(), evaluator.badnet, set(order)
    for step in walk(evaluator, order, x):
        if not isinstance(step, PruneStep):
            raise _wrong(name, f"it yields a {type(step).__name__}; expected PruneStep")
        if step.channel not in allowed:
            raise _wrong(name, f"it tried {step.channel}, which is not of the order that it was given")
        if not step.accepted:
            if step.mask != mask or step.now != now:
                raise _wrong(name, f"it refused {step.channel}, and yet the net is another one after it")
            yield step
            continue
        mask = step.after(mask)
        if step.mask != mask:
            raise _wrong(
                name, f"the mask after {step.channel} is not the one before with that channel pruned"
            )
        now = step.now
        found = evaluator.counts(mask, Ask(margin=False))
        if not now.complete or _numbers(now) != _numbers(found):
            raise _wrong(name, f"the counts that it gives after {step.channel} are not those of the net")
        fell = now.clean_accuracy_fell(since=evaluator.badnet)
        if fell > exact_points(x):
            raise _wrong(
                name,
                f"it accepted {step.channel}, and then {float(fell):.3f} points of clean accuracy are lost; "
                f"at most X = {x:g} may be",
            )
        yield step


def _numbers(counts: Counts) -> tuple[int, ...]:
    return (counts.clean_correct, *(t.attacked for t in counts.by_trigger))


def _wrong(name: str, message: str) -> InputError:
    return InputError(f"policy {name!r}: {message}")


def _made(value: object) -> tuple[KnownPolicy, str | None, Callable[..., Any]]:
    if not isinstance(value, KnownPolicy):
        check_function("it", value, ARGUMENTS)
        value = KnownPolicy(value)  # type: ignore[arg-type]
    check_known("it", value)
    return value, value.version, value.walk
