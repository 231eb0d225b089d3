"""Which layers a first sweep should prune: as many of those nearest the output as are soon searched."""

from __future__ import annotations

from prune_core.model.layer_sets import resolve_layer_set
from prune_core.model.model import PrunableModel

CHANNELS = 256  # candidates that a trial goes through
SCREEN = 32  # with more than these, an estimate chooses so many of them at a time


def layer_sets(model: PrunableModel) -> tuple[list[str], str]:
    """``last:K`` of all layers or of the last ones with at most ``CHANNELS`` channels, and of half of
    them; and what is said of it."""
    sizes = [layer.channels for layer in model.layers][::-1]
    kept = 1
    while kept < len(sizes) and sum(sizes[: kept + 1]) <= CHANNELS:
        kept += 1
    chosen = [f"last:{kept}"] if kept == 1 else [f"last:{(kept + 1) // 2}", f"last:{kept}"]
    which = "all" if kept == len(sizes) else f"the last {kept} of"
    return chosen, f"{which} {len(sizes)} convolutions, {sum(sizes[:kept]):,} of {sum(sizes):,} channels"


def screen(model: PrunableModel, sets: list[str]) -> int | None:
    """``sweep.screen`` for layer sets of ``layer_sets``; None where the candidates can all be asked about."""
    most = max(sum(len(channels) for _, channels in resolve_layer_set(spec, model)) for spec in sets)
    return SCREEN if most > CHANNELS else None
