"""How well a net was repaired, and whether there was an attack to repair at all."""

from __future__ import annotations

from prune_core.counts import Counts

# Below this attack success nobody would call it a backdoor: a trigger hides part of an image, and a
# clean network that sees less of it errs somewhere.
LEAST_ATTACK = 0.05


def defence_effectiveness(badnet: Counts, repaired: Counts) -> float:
    """Defence effectiveness rate, in [0, 1], higher is better:

    (max(0, fall of attack success) - max(0, fall of clean accuracy) + 1) / 2, both as fractions.

    1/2 is the BadNet itself; 1 removes a sure attack at no cost. Both terms are *falls*, from BadNet
    to repaired net: a rise of either counts as none. Source: Zhu et al. 2023, FT-SAM,
    arXiv 2304.11823. Counts of one split.
    """
    attack = badnet.attack_success - repaired.attack_success
    accuracy = badnet.clean_accuracy - repaired.clean_accuracy
    return (max(0.0, attack) - max(0.0, accuracy) + 1) / 2


def attack_is_there(badnet: Counts, target_share: float) -> bool:
    """Whether poisoned images get the target more often than chance would have it: the lower end of
    the 95 % Wilson interval of attack success lies above ``target_share`` (the fraction of clean
    images of the target class) and above 5 %. ``badnet``: counts on validation."""
    low = badnet.rates()[1].low
    return low > max(target_share, LEAST_ATTACK)


def no_attack(badnet: Counts) -> str:
    """What is said of a net without an attack, in one line."""
    low, high = badnet.rates()[1].interval
    return (
        f"there was no attack to remove: the unpruned network calls {badnet.attacked} of "
        f"{badnet.poisoned_total} poisoned validation images the target class "
        f"({badnet.attack_success:.1%}, 95 % interval {low:.1%} to {high:.1%}), which is no more than "
        "chance; no GoodNet is proposed"
    )


def disarmed(triggers: int) -> str:
    """What low attack success shows where so many triggers were used: no more than of these."""
    which = "this one trigger" if triggers < 2 else f"these {triggers} triggers"
    has = "has" if triggers < 2 else "have"
    return f"Low attack success says that {which}, on these images, {has} been disarmed"


def not_clean(triggers: int) -> str:
    """That low attack success, measured with so many triggers, makes no clean network."""
    which = "one trigger" if triggers < 2 else f"these {triggers} triggers"
    return f"Low attack success on {which} does not mean that the network is clean."
