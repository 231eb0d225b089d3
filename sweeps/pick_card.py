"""The card beside a GoodNet file: what it is, how it was chosen, what it was measured to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def card(result: dict[str, Any]) -> str:
    """Markdown, from what ``pick.pick`` returns."""
    point, settings, badnet = result["point"], result["settings"], result["badnet"]
    pruned = point["mask"]["pruned"]
    rows = [_row(f"BadNet ({badnet['file']})", badnet)]
    rows += [_row(Path(file["path"]).name, file) for file in result["files"]]
    channels = [f"- {_code(layer)}: {', '.join(map(str, ids))}" for layer, ids in pruned.items()]
    if point["mask"]["keep_bias"]:
        means = "Their kernels are zero; biases were kept, so each gives a constant."
    else:
        means = "Their kernels, biases and directly following batch norms are zero: each gives 0."
    return "\n".join([
        f"# GoodNet of sweep {result['sweep']}",
        "",
        result["why"],
        "",
        "| file | clean, valid | attack, valid | clean, test | attack, test |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "Every file was read back after it was written and measured again.",
        "",
        "## How it was made",
        "",
        f"Trial `{point['trial_key']}`, step {point['step']}: policy {settings['policy']}, order "
        f"{settings['order']} (seed {settings['seed']}), layers "
        f"{', '.join(map(_code, settings['layers']))}, X = {settings['x']:g} points.",
        "",
        f"{point['channels_pruned']} channels pruned. {means}",
        "",
        *channels,
        "",
        f"SHA-256 of the BadNet: `{badnet['sha256']}`",
        "",
    ])


def _row(name: str, splits: dict[str, Any]) -> str:
    cells = [
        f"{c['clean_accuracy']:.2%} ({c['clean_correct']}/{c['clean_total']}) | "
        f"{c['attack_success']:.2%} ({c['attacked']}/{c['poisoned_total']})"
        for c in (splits["valid"], splits["test"])
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _code(text: str) -> str:
    """As code; layer names come from a model file, and a backtick there must not end it."""
    return f"`{text.replace('`', ' ')}`"
