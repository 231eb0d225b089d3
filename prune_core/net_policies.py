"""Policies that make nets, and repairs: one way in for a trial, whatever stands behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prune_core.baselines import BASELINES
from prune_core.errors import InputError
from prune_core.methods import NET_POLICIES, REPAIRS
from prune_core.model.layer_sets import LayerSet
from prune_core.repair.finetune import COURSES, finetune
from prune_core.repair.nets import Candidate, Given, Tell
from prune_core.repair.scaling import DEFAULT, scale_channels


def make_nets(policy: str, given: Given, layer_set: LayerSet, tell: Tell) -> Iterator[Candidate]:
    """The nets of a policy, from the mildest on. Raises InputError."""
    if policy not in NET_POLICIES:
        raise InputError(f"policy {policy!r} returns no networks; those that do: {', '.join(NET_POLICIES)}")
    yield from _MAKERS[policy](given, layer_set, tell)


def repaired(repair: str, given: Given, start: Candidate, tell: Tell) -> Iterator[Candidate]:
    """What a repair makes of a net, the best balanced last. Raises InputError, also when true labels
    are needed and there are none."""
    if REPAIRS.get(repair) is None:
        raise InputError(f"repair {repair!r} does nothing; expected one of {', '.join(REPAIRS)}")
    for net in finetune(
        given.model,
        given.valid,
        start.mask,
        start.weights,
        repair,
        given.seed,
        COURSES,
        tell=lambda done, total: tell(done, total, repair),
    ):
        note = (
            f"{repair}, {net.course}, round {net.round}: {net.agreement:.2%} agreement with the BadNet, "
            f"{net.attack_success:.2%} attack success on the hold-out"
        )
        yield Candidate(start.mask, net.weights, "; ".join(filter(None, [start.note, note])))


def _scale(given: Given, layer_set: LayerSet, tell: Tell) -> Iterator[Candidate]:
    stages = len(DEFAULT.pressures)
    for state in scale_channels(given.model, given.valid, layer_set, given.seed):
        tell(state.stage + 1, stages, "scaling")
        note = f"scaled, regularisation strength {DEFAULT.pressures[state.stage]:g}"
        yield Candidate(state.mask, state.weights, note)


_MAKERS: dict[str, Callable[[Given, LayerSet, Tell], Iterator[Candidate]]] = {"scale": _scale, **BASELINES}
