"""What can be done to a BadNet, by policy and repair, and what each needs to know.

Pruning, scaling, fine-tuning and unlearning are told apart everywhere: they rest on different
assumptions, and a figure of one says nothing of another.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from prune_core.errors import InputError
from prune_core.plugins.names import unknown
from prune_core.policies.registry import OTHERS, POLICIES

if TYPE_CHECKING:  # they load torch, and most commands only want to know a policy by name
    from prune_core.model.layer_sets import LayerSet
    from prune_core.repair.nets import Given, MadeNet, Tell

WEIGHTS_ALONE = "weights alone"
CLEAN = "clean images"
CLEAN_AND_TARGET = "clean images and the attacker's class"  # of triggers found by inversion
POISONED = "poisoned images, true labels not used"
TRUE_LABELS = "poisoned images with their true labels"
# Triggers found by inversion, for a target that was given or for one that was found, too.
Inverted = Literal["class", "auto"]
# What has to be known, the least first.
WEAKEST_FIRST = (WEIGHTS_ALONE, CLEAN, CLEAN_AND_TARGET, POISONED, TRUE_LABELS)

# Words of what an order needs, the strongest first.
_WORDS = {TRUE_LABELS: "true label", POISONED: "poisoned", CLEAN: "clean"}

KINDS = (
    "pruning",
    "scaling",
    "finetune",
    "finetune-robust",
    "finetune-margin",
    "unlearn",
    "i-bau",
    "ft-sam",
    "baseline",
)


@dataclass(frozen=True)
class Method:
    """Attributes:
    kind: one of ``KINDS``; nets of different kinds are never compared as if they were alike.
    assumption: what has to be known to make the net; to choose one of several states, poisoned
        validation images are used in every case.
    seeded: chance is in it, so that the seed matters.
    ordered: it walks a channel order.
    version: a part of the key of its trials; None of what makes the same nets as ever.
    """

    kind: str
    assumption: str
    seeded: bool = False
    ordered: bool = True
    version: str | None = None


_TRAINED = Method("baseline", CLEAN, seeded=True, ordered=False, version="2")
# Policies that return nets rather than walk an order under a rule.
NET_POLICIES: dict[str, Method] = {
    "scale": Method("scaling", POISONED, seeded=True, ordered=False),
    "baseline:fine-pruning": _TRAINED,
    "baseline:anp": _TRAINED,
    "baseline:clp": Method("baseline", WEIGHTS_ALONE, ordered=False, version="2"),
    "baseline:rnp": _TRAINED,
    # Other settings, as many of each, to be chosen among on validation; CLP has only u, and walks it.
    "baseline:fine-pruning:long": _TRAINED,
    "baseline:fine-pruning:fast": _TRAINED,
    "baseline:fine-pruning:long-fast": _TRAINED,
    "baseline:anp:plain": _TRAINED,
    "baseline:anp:mild": _TRAINED,
    "baseline:anp:mild-plain": _TRAINED,
    "baseline:rnp:plain": _TRAINED,
    "baseline:rnp:slow": _TRAINED,
    "baseline:rnp:slow-plain": _TRAINED,
}
REPAIRS: dict[str, Method | None] = {
    "none": None,
    "finetune": Method("finetune", CLEAN, seeded=True, version="2"),
    "finetune-robust": Method("finetune-robust", CLEAN, seeded=True),
    "finetune-margin": Method("finetune-margin", POISONED, seeded=True, version="2"),
    "unlearn": Method("unlearn", TRUE_LABELS, seeded=True, version="2"),
    "i-bau": Method("i-bau", CLEAN, seeded=True),
    "ft-sam": Method("ft-sam", CLEAN, seeded=True),
}
PUBLISHED_REPAIRS = ("i-bau", "ft-sam")  # they need no target, and no more than two clean images
_MAKERS = {
    "i-bau": "prune_core.repair.i_bau:i_bau",
    "ft-sam": "prune_core.repair.ft_sam:ft_sam",
    "finetune-robust": "prune_core.repair.robust:finetune_robust",
}
# The final-layer policy looks at clean accuracy alone; the other rules ask for the attack too.
_RULES = {name: Method("pruning", CLEAN if name == "final-layer" else POISONED) for name in POLICIES}
ALL_POLICIES: dict[str, Method] = {**_RULES, **NET_POLICIES}


def method_of(policy: str, repair: str = "none", order_needs: str | None = None) -> Method:
    """The whole procedure: the strongest of all assumptions, the kind of the last thing done.
    ``order_needs``: what the channel order looks at, in its own words (``orders.KnownOrder``).

    Raises InputError for names that there are not.
    """
    if repair not in REPAIRS:
        raise InputError(unknown("repair", repair, REPAIRS))
    first, then = _first(policy), REPAIRS[repair]
    assumptions = [first.assumption, then.assumption if then is not None else WEIGHTS_ALONE]
    if first.ordered and order_needs is not None:
        assumptions.append(_assumption(order_needs))
    strongest = max(assumptions, key=WEAKEST_FIRST.index)
    if then is None:
        return replace(first, assumption=strongest)
    return Method(then.kind, strongest, True, first.ordered)


def with_inverted(method: Method, inverted: Inverted | None) -> Method:
    """``method`` where triggers found by inversion stand for poisoned images; with None as it is. What such
    images show is known: they are clean ones."""
    if inverted is None or method.assumption == WEIGHTS_ALONE:
        return method
    return replace(method, assumption=inverted_takes(inverted))


def inverted_takes(inverted: Inverted) -> str:
    """What finding the triggers takes."""
    return CLEAN if inverted == "auto" else CLEAN_AND_TARGET


def policy_names() -> tuple[str, ...]:
    """Built in, registered, offered by packages."""
    return (*ALL_POLICIES, *OTHERS.names())


def _first(policy: str) -> Method:
    if policy in ALL_POLICIES:
        return ALL_POLICIES[policy]
    other = OTHERS.find(policy)
    if other is None:
        raise InputError(unknown("policy", policy, policy_names()))
    return Method("pruning", _assumption(other.value.needs))


def _assumption(needs: str) -> str:
    return next((a for a, word in _WORDS.items() if word in needs), WEIGHTS_ALONE)


def repairable(policy: str) -> bool:
    """Whether a repair may follow; a published baseline is its whole procedure."""
    return _first(policy).kind != "baseline"


def make_nets(policy: str, given: Given, layer_set: LayerSet, tell: Tell) -> Iterator[MadeNet]:
    """The nets of a policy of ``NET_POLICIES``, from the mildest on. Raises InputError."""
    if policy not in NET_POLICIES:
        raise InputError(f"policy {policy!r} returns no networks; those that do: {', '.join(NET_POLICIES)}")
    if policy == "scale":
        return _scale(given, layer_set, tell)
    from prune_core.baselines import BASELINES

    return BASELINES[policy](given, layer_set, tell)


def repaired(repair: str, given: Given, start: MadeNet, tell: Tell) -> Iterator[MadeNet]:
    """What a repair makes of a net, the best balanced last. Raises InputError, also when true labels
    are needed and there are none."""
    if REPAIRS.get(repair) is None:
        raise InputError(f"repair {repair!r} does nothing; expected one of {', '.join(REPAIRS)}")
    if repair in _MAKERS:
        for made in _made_by(repair)(given, start.mask, start.weights, tell):
            yield replace(made, note="; ".join(filter(None, [start.note, made.note])))
        return
    from prune_core.repair.finetune import COURSES, finetune
    from prune_core.repair.nets import MadeNet

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
        yield MadeNet(start.mask, net.weights, "; ".join(filter(None, [start.note, note])))


def _made_by(repair: str) -> Callable[..., Iterator[MadeNet]]:
    module, _, name = _MAKERS[repair].partition(":")
    function: Callable[..., Iterator[MadeNet]] = getattr(importlib.import_module(module), name)
    return function


def _scale(given: Given, layer_set: LayerSet, tell: Tell) -> Iterator[MadeNet]:
    from prune_core.repair.nets import MadeNet
    from prune_core.repair.scaling import DEFAULT, scale_channels

    stages = len(DEFAULT.pressures)
    for state in scale_channels(given.model, given.valid, layer_set, given.seed):
        tell(state.stage + 1, stages, "scaling")
        note = f"scaled, regularisation strength {DEFAULT.pressures[state.stage]:g}"
        yield MadeNet(state.mask, state.weights, note)
