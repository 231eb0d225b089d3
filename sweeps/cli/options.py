"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the configuration, e.g. --set sweep.x_thresholds=[2,4]. Repeatable.",
    ),
]
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file; see configs/.")]


def sweep_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """For shell completion: the sweeps of a storage that is a folder."""
    folder = Path(ctx.params.get("storage") or "runs") / "sweeps"
    return sorted(path.stem for path in folder.glob("*.json") if path.name.startswith(incomplete))


Sweep = Annotated[
    str | None,
    typer.Argument(
        metavar="[SWEEP]",
        help="Name of a sweep; default: the latest one in the storage.",
        autocompletion=sweep_names,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say nothing on standard error but what is amiss.")
]
StoragePlace = Annotated[str, typer.Option("--storage", help="Folder or URI of the sweep's results.")]
Architecture = Annotated[
    str | None,
    typer.Option(
        help="Architecture of PyTorch weights (torchvision:NAME, timm:NAME, backdoorbench:NAME, "
        "abl:wrn-16-1, or your own package.module:function), or of a weights-only .h5 file (deepid)."
    ),
]
ArchitectureArgs = Annotated[
    list[str],
    typer.Option(
        "--architecture-arg",
        metavar="NAME=VALUE",
        help="An argument of the architecture, e.g. --architecture-arg num_classes=10. Repeatable.",
    ),
]
Layout = Annotated[
    str | None, typer.Option(metavar="NCHW|NHWC", help="Of arrays. Default: found where it is clear.")
]
Keys = Annotated[
    list[str],
    typer.Option(
        metavar="ROLE=NAME",
        help="The name that a field has in the image files, e.g. --keys images=pixels; roles are images, "
        "label, target and true_label. Repeatable.",
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME,...",
        help="Names of class folders by index. Default: the indices themselves, or sorted names.",
    ),
]
# What is done to the pixels of image files, as data.scale, mean and std of a configuration.
Scale = Annotated[float, typer.Option(help="Pixels are multiplied by it; 1 leaves them as they are.")]
Mean = Annotated[
    str, typer.Option(metavar="M[,M,M]", help="Taken from the scaled pixels: one value, or one a channel.")
]
Std = Annotated[
    str, typer.Option(metavar="S[,S,S]", help="What remains is divided by it: one value, or one a channel.")
]
MODEL_HELP = ".h5, .onnx, .pth, .pt or .safetensors file."


# By what a state of the frontier is chosen, as of ``choosing.criteria.criterion_of``.
MaxAccuracyDrop = Annotated[
    float | None,
    typer.Option(help="The weakest attack within so many percentage points of clean accuracy."),
]
MaxAttackSuccess = Annotated[
    float | None,
    typer.Option(help="The best clean accuracy with attack success of at most this rate (0 to 1)."),
]
Knee = Annotated[
    bool, typer.Option("--knee", help="The state with the largest clean accuracy minus attack success.")
]
MaxReactivated = Annotated[
    float | None,
    typer.Option(
        help="Beside a criterion: only states whose attack up to 10 poisoned images wake to at most this "
        "rate (0 to 1), by goodnet audit. States that were not audited are left out."
    ),
]
TrialKey = Annotated[
    str | None, typer.Option(metavar="KEY", help="With --step: this state, on the frontier or not.")
]
Step = Annotated[int | None, typer.Option(metavar="N", help="Of the trial, as frontier.html shows it.")]
