"""Made-up records, counts, frontiers and manifests, for tests that need no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prune_core.counts import Counts
from prune_core.greedy import PruneStep
from prune_core.masks import Channel, ChannelMask
from sweeps.config.schema import make_config
from sweeps.planning.queue import Listed
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import TrialRecord
from sweeps.results import Frontier, FrontierPoint, frontier_states
from sweeps.storage.manifest import Manifest

BADNET = (990, 500)  # of 1000 clean and 500 poisoned images


def handed_out(trials: Iterable[TrialSettings]) -> list[TrialSettings]:
    """In the order in which one worker gets them."""
    waiting, handed = Listed(trials), []
    while (settings := waiting.next()) is not None:
        handed.append(settings)
        waiting.ended(settings, None)
    return handed


def make_counts(
    clean_correct: int = 990,
    attacked: int = 500,
    clean_total: int = 1000,
    poisoned_total: int = 500,
    margin: float | None = None,
) -> Counts:
    """Without a margin, one that falls with the attack."""
    margin = attacked / poisoned_total * 20 - 10 if margin is None else margin
    return Counts(clean_correct, clean_total, attacked, attacked, poisoned_total, margin)


def make_settings(
    order: str = "activation",
    layers: Sequence[str] = ("conv_4", "conv_3"),
    x: float = 4.0,
    policy: str = "margin",
    seed: int = 0,
) -> TrialSettings:
    return TrialSettings(order, tuple(layers), x, policy, seed)


def make_record(
    key: str = "trial-a",
    steps: Sequence[tuple[int, int] | None] = ((985, 400), None, (970, 100)),
    settings: TrialSettings | None = None,
    reason: str | None = None,
    seconds: float = 12.0,
    test_shift: tuple[int, int] = (-5, 10),
) -> TrialRecord:
    """A trial of the BadNet (990 of 1000 clean images right, 500 of 500 attacked).

    Args:
        steps: per candidate, (clean_correct, attacked) where it is accepted, None where it is not;
            channel i of the settings' first layer is candidate i.
        reason: makes it a failed trial, with no steps.
        test_shift: what is added to the final counts (clean_correct, attacked) on test.
    """
    settings = settings or make_settings()
    if reason is not None:
        return TrialRecord(key, settings, "failed", reason, seconds)
    made: list[PruneStep] = []
    now, mask = make_counts(*BADNET), ChannelMask()
    for index, counts in enumerate(steps):
        channel = Channel(settings.layers[0], index)
        if counts is None:
            made.append(PruneStep(channel, False, make_counts(500, 500), mask, now))
            continue
        now, mask = make_counts(*counts), mask.adding(channel)
        made.append(PruneStep(channel, True, now, mask, now))
    test = shifted(now, test_shift) if made else make_counts(*BADNET)
    return TrialRecord(
        key,
        settings,
        "done",
        None,
        seconds,
        make_counts(*BADNET),
        make_counts(*BADNET),
        now,
        test,
        mask,
        tuple(made),
    )


def shifted(counts: Counts, by: tuple[int, int]) -> Counts:
    """Counts with (clean_correct, attacked) moved, kept within the totals."""
    return make_counts(
        min(counts.clean_total, max(0, counts.clean_correct + by[0])),
        min(counts.poisoned_total, max(0, counts.attacked + by[1])),
    )


def make_frontier(
    records: Sequence[TrialRecord], hypervolume: float = 0.5, test_shift: tuple[int, int] = (-5, 10)
) -> Frontier:
    """The true frontier of ``records``, with made-up test counts and hypervolume."""
    points = tuple(
        FrontierPoint(s.trial_key, s.step, s.mask, s.counts, shifted(s.counts, test_shift))
        for s in frontier_states(records)
    )
    return Frontier(points, hypervolume)


def make_manifest(records: Sequence[TrialRecord] = (), name: str = "sweep-1") -> Manifest:
    config = make_config({"name": "example", "badnet": "embedded"}, "a test")
    trials = {record.key: record.settings for record in records}
    return Manifest(name, config, trials, {"badnet": "b" * 8, "valid": "v" * 8, "test": "t" * 8})
