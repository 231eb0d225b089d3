"""What can be done to a BadNet, by policy and repair, and what each needs to know.

Pruning, scaling, fine-tuning and unlearning are told apart everywhere: they rest on different
assumptions, and a figure of one says nothing of another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from prune_core.errors import InputError
from prune_core.policies.registry import POLICIES

WEIGHTS_ALONE = "weights alone"
CLEAN = "clean images"
POISONED = "poisoned images, true labels not used"
TRUE_LABELS = "poisoned images with their true labels"
_WEAKEST_FIRST = (WEIGHTS_ALONE, CLEAN, POISONED, TRUE_LABELS)

# Words of what an order needs, the strongest first.
_WORDS = {TRUE_LABELS: "true label", POISONED: "poisoned", CLEAN: "clean"}

KINDS = ("pruning", "scaling", "finetune", "finetune-margin", "unlearn", "baseline")


@dataclass(frozen=True)
class Method:
    """Attributes:
    kind: one of ``KINDS``; nets of different kinds are never compared as if they were alike.
    assumption: what has to be known to make the net; to choose one of several states, poisoned
        validation images are used in every case.
    seeded: chance is in it, so that the seed matters.
    ordered: it walks a channel order.
    """

    kind: str
    assumption: str
    seeded: bool = False
    ordered: bool = True


# Policies that return nets rather than walk an order under a rule.
NET_POLICIES: dict[str, Method] = {
    "scale": Method("scaling", POISONED, seeded=True, ordered=False),
    "baseline:fine-pruning": Method("baseline", CLEAN, seeded=True, ordered=False),
    "baseline:anp": Method("baseline", CLEAN, seeded=True, ordered=False),
    "baseline:clp": Method("baseline", WEIGHTS_ALONE, ordered=False),
    "baseline:rnp": Method("baseline", CLEAN, seeded=True, ordered=False),
}
REPAIRS: dict[str, Method | None] = {
    "none": None,
    "finetune": Method("finetune", CLEAN, seeded=True),
    "finetune-margin": Method("finetune-margin", POISONED, seeded=True),
    "unlearn": Method("unlearn", TRUE_LABELS, seeded=True),
}
# The final-layer policy looks at clean accuracy alone; the other rules ask for the attack too.
_RULES = {name: Method("pruning", CLEAN if name == "final-layer" else POISONED) for name in POLICIES}
ALL_POLICIES: dict[str, Method] = {**_RULES, **NET_POLICIES}


def method_of(policy: str, repair: str = "none", order_needs: str | None = None) -> Method:
    """The whole procedure: the strongest of all assumptions, the kind of the last thing done.
    ``order_needs``: what the channel order looks at, in its own words (``orders.KnownOrder``).

    Raises InputError for names that there are not.
    """
    if policy not in ALL_POLICIES:
        raise InputError(f"policy {policy!r} is unknown; expected one of {', '.join(ALL_POLICIES)}")
    if repair not in REPAIRS:
        raise InputError(f"repair {repair!r} is unknown; expected one of {', '.join(REPAIRS)}")
    first, then = ALL_POLICIES[policy], REPAIRS[repair]
    assumptions = [first.assumption, then.assumption if then is not None else WEIGHTS_ALONE]
    if first.ordered and order_needs is not None:
        assumptions.append(next((a for a, word in _WORDS.items() if word in order_needs), WEIGHTS_ALONE))
    strongest = max(assumptions, key=_WEAKEST_FIRST.index)
    if then is None:
        return replace(first, assumption=strongest)
    return Method(then.kind, strongest, True, first.ordered)


def repairable(policy: str) -> bool:
    """Whether a repair may follow; a published baseline is its whole procedure."""
    return ALL_POLICIES[policy].kind != "baseline"
