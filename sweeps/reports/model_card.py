"""The card beside a GoodNet's files: what it is, how it was chosen, what it was measured to do, how
to load it, what it does not promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prune_core.counts import Rate
from prune_core.data.form import Preprocessing
from prune_core.defence import disarmed
from prune_core.export.files import STATE_DICT
from sweeps.reports.price import class_lines, price_words

LIMITS = (
    "A dormant backdoor can be revived by training, and there may be another one.",
    "Clean accuracy was counted on the images named above. It says nothing about other images.",
    "The intervals are 95 % Wilson intervals for images drawn in the same way; they say nothing about "
    "other kinds of images. The state was chosen by its validation figures, so they flatter it (by how much, "
    "is said above); the test figures do not.",
    "Times are those of one machine, in torch. Another runtime or device gives others.",
)


def card(result: dict[str, Any]) -> str:
    """Markdown, from what ``pick.pick`` returns. Nothing from a file can make markup of its own."""
    parts = [
        f"# GoodNet of sweep {plain(result['sweep'])}",
        plain(result["why"]),
        _measured(result),
        *_found(result),
        _how(result),
        _cost(result["cost"]),
        _loading(result),
        "## What it does not promise\n\n" + "\n".join(f"- {limit}" for limit in _limits(result)),
    ]
    return "\n\n".join(parts) + "\n"


def _limits(result: dict[str, Any]) -> tuple[str, ...]:
    first, *others = LIMITS
    triggers = len(result["point"]["test"].get("triggers", ()))
    return (f"{disarmed(triggers)}. {first}", _audited(result), *others)


def _audited(result: dict[str, Any]) -> str:
    """Whether it was attacked again, and what shows or does that."""
    point = result["point"]
    command = code(f"goodnet audit {result['sweep']} --trial {point['trial_key']} --step {point['step']}")
    if result.get("audits"):
        names = plain(", ".join(result["audits"]))
        return f"It was attacked again ({names}): {command} shows what came of it."
    return f"It was not attacked again when these files were written; {command} does that."


def _measured(result: dict[str, Any]) -> str:
    badnet = result["badnet"]
    rows = [_row(f"BadNet ({code(badnet['file'])})", badnet)]
    rows += [_row(code(Path(file["path"]).name), file) for file in result["files"]]
    lines = [
        "## What it does",
        "",
        "| file | clean, valid | attack, valid | clean, test | attack, test |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
    lines.append(
        "Every file was read back after it was written and measured again; 95 % intervals in brackets."
    )
    lines += [f"- {code(Path(f['path']).name)}: {f['what']}." for f in in_torch_first(result["files"])]
    lines += [f"- No .{kind}: {plain(why)}." for kind, why in result.get("left_out", {}).items()]
    lines += _seen_outside(result["files"])
    lines += _price(result.get("price") or {})
    for file in result["files"]:
        if file["kind"] == "goodnet-onnx":
            found = ", ".join(
                f"{file[split]['detected_poisoned']:.2%} of poisoned images on {split}"
                for split in ("valid", "test")
            )
            lines.append(f"- The network with N + 1 classes calls {found} backdoored.")
    if result.get("choice"):
        lines += ["", flattered(result["choice"])]
    return "\n".join(lines)


def _seen_outside(files: list[dict[str, Any]]) -> list[str]:
    """What the libraries that others load the files with made of them."""
    lines = []
    by_runtime: dict[str, list[dict[str, Any]]] = {}
    for file in files:
        if "cannot" in file["test"].get("outside", {}):
            there = file["test"]["outside"]
            name = code(Path(file["path"]).name)
            lines.append(f"- {plain(there['runtime'])} cannot run {name}: {plain(there['cannot'])}.")
        elif "outside" in file["test"]:
            by_runtime.setdefault(file["test"]["outside"]["runtime"], []).append(file)
    for runtime, there in by_runtime.items():
        names = ", ".join(code(Path(file["path"]).name) for file in there)
        seen = [file[split]["outside"] for file in there for split in ("valid", "test")]
        ties = sum(one["near_ties"] for one in seen)
        said = "each image got the same class"
        if ties:
            said += (
                f", but for {ties} of {sum(one['images'] for one in seen)} whose first two classes nearly tie"
            )
        lines.append(f"- Run in {plain(runtime)} too, by a process of its own: {names}; {said}.")
    if not any("ONNX Runtime" in line for line in lines):
        lines.append("- ONNX Runtime is not installed here, so the .onnx files were run in torch alone.")
    return lines


def _price(price: dict[str, Any]) -> list[str]:
    """What it costs against the BadNet, on both splits, and the classes that lose more than the whole."""
    lines = [
        f"- Clean accuracy on {words} is {price_words(price[split])}."
        for split, words in (("valid", "validation"), ("test", "test"))
        if split in price
    ]
    if price.get("classes"):
        lines.append("- On test these classes lose more than the whole:")
        lines += [f"  - {line}" for line in class_lines(price["classes"])]
    return lines


def flattered(choice: dict[str, Any]) -> str:
    """What ``choice_bias`` found, in words."""

    def said(name: str, figure: dict[str, Any]) -> str:
        low, high = figure["interval"]
        by = f"{100 * figure['optimism']:.2f} points"
        return f"{name} {figure['rate']:.2%} (95 %: {low:.2%} to {high:.2%}), {by} off the count"

    return (
        f"Chosen among many states on the same images, this one looks better on validation than it is. With "
        f"that taken off (bootstrap of the choice over {choice['states']} of {choice['states_in_reach']} "
        f"states in reach): {said('clean accuracy', choice['clean_accuracy'])}; "
        f"{said('attack success', choice['attack_success'])}."
    )


def _found(result: dict[str, Any]) -> list[str]:
    """What the look at the data has found: a warning stays with the figures that it touches."""
    found = result.get("findings") or []
    if not found:
        return []
    lines = [f"- {finding['level']}: {plain(finding['detail'])}" for finding in found]
    return ["## What was found in the data\n\n" + "\n".join(lines)]


def _how(result: dict[str, Any]) -> str:
    point, settings, badnet = result["point"], result["settings"], result["badnet"]
    mask = point["mask"]
    if mask["keep_bias"]:
        means = "Their kernels are zero; biases were kept, so each outputs a constant."
    else:
        means = "Their kernels, biases and directly following batch norms are zero: each outputs 0."
    channels = [f"- {code(layer)}: {', '.join(map(str, ids))}" for layer, ids in mask["pruned"].items()]
    return "\n".join(
        [
            "## How it was made",
            "",
            f"Trial {code(point['trial_key'])}, step {point['step']}: policy {plain(settings['policy'])}, "
            f"repair {plain(settings.get('repair', 'none'))}, order "
            f"{plain(settings['order'])} (seed {settings['seed']}), layers "
            f"{', '.join(map(code, settings['layers']))}, X = {settings['x']:g} points.",
            "",
            f"From the BadNet with SHA-256 `{badnet['sha256']}`. {point['channels_pruned']} channels "
            f"pruned. {means}",
            "",
            *channels,
            "",
            *_changed(result),
            "Assumed: the poisoned images show the attack as it will be met; labels are right; pixels come "
            f"as in the image files that were used{_times(result)}; "
            + (
                "the validation images played no part in training."
                if point.get("weights") is None
                else "no test image was used."
            ),
        ]
    )


def _changed(result: dict[str, Any]) -> list[str]:
    """What is to be said of a net that is not pruned alone."""
    point = result["point"]
    if point.get("kind") in (None, "pruning"):
        return []
    kind, assumption = plain(point["kind"]), plain(point["assumption"])
    said = f"This is not pruning alone: {kind}. It needed {assumption}."
    if point["weights"] is not None:
        said += " Weights other than the pruned channels' were changed, using validation images."
    return [said, ""]


def _cost(cost: dict[str, Any]) -> str:
    before, after = cost["pruned"], cost["small"]
    rows = [
        ("parameters", "parameters", "{:,.0f}"),
        ("multiply-adds for one image", "multiply_adds", "{:,.0f}"),
        ("file, bytes", "bytes", "{:,.0f}"),
        ("1 image, ms", "latency_ms", "{:.2f}"),
        ("64 images, ms", "latency_ms_64", "{:.1f}"),
    ]
    lines = ["## What it costs", "", "| | channels zeroed | channels removed | |", "|---|---|---|---|"]
    for name, key, form in rows:
        share = f"{after[key] / before[key] - 1:+.1%}" if before[key] else ""
        lines.append(f"| {name} | {form.format(before[key])} | {form.format(after[key])} | {share} |")
    removed = sum(map(len, cost["channels_removed"].values()))
    lines += [
        "",
        f"Median times in torch, {cost['threads']} thread(s), {cost['device']}. "
        f"{removed} channels were removed.",
    ]
    for layer, reasons in cost["held_back"].items():
        lines += [
            f"- {code(layer)} keeps {', '.join(map(str, channels))} as constants: {plain(why)}."
            for why, channels in reasons.items()
        ]
    return "\n".join(lines)


def cost_tags(cost: dict[str, Any]) -> dict[str, str]:
    """What the net costs before and after compaction, as tags: ``small.parameters`` and so on."""
    return {
        f"{net}.{key}": f"{value:.4g}" if isinstance(value, float) else str(value)
        for net in ("pruned", "small")
        for key, value in cost[net].items()
    }


def _loading(result: dict[str, Any]) -> str:
    """Three lines for each format."""
    known = {
        "onnx": "import onnxruntime\nnet = onnxruntime.InferenceSession({name})\n"
        "classes = net.run(None, {{net.get_inputs()[0].name: images}})[0].argmax(axis=1)",
        "goodnet-onnx": "import onnxruntime\nnet = onnxruntime.InferenceSession({name})\n"
        "classes = net.run(None, {{net.get_inputs()[0].name: images}})[0].argmax(axis=1)"
        "  # N: backdoored",
        "keras": "import keras\n"
        "net = keras.models.load_model({name}, compile=False)\n"
        "classes = net.predict(images.transpose(0, 2, 3, 1)).argmax(axis=1)",
        "keras-weights": "import keras, prune_core.keras_files.architectures as known\n"
        "net = keras.Model.from_config(known.{architecture}({classes})['config'])\n"
        "net.load_weights({name}); "
        "classes = net.predict(images.transpose(0, 2, 3, 1)).argmax(axis=1)",
        "pt2": "import torch\nnet = torch.export.load({name}).module()  # torch alone; any number of images\n"
        "classes = net(torch.from_numpy(images)).argmax(dim=1)",
        "safetensors": "from safetensors.numpy import load_file\n"
        "weights = load_file({name})  # weights of the .onnx file, by name\n"
        "print({{name: array.shape for name, array in weights.items()}})",
        "state-dict": "from safetensors.torch import load_file\n"
        "net.load_state_dict(load_file({name}), strict=True)  # net: your own module\n"
        "classes = net.eval()(torch.from_numpy(images)).argmax(dim=1)",
    }
    lines = [
        "## How to load it",
        "",
        "`images` is a float32 array (n, C, H, W), pixels as in the image "
        f"files{_times(result)}; for Keras it is transposed to (n, H, W, C), except for a "
        "channels_first model.",
    ]
    for file in in_torch_first(result["files"]):
        kind = {"small-onnx": "onnx"}.get(file["kind"], file["kind"])
        weights_only = result["badnet"]["weights_only"]
        if kind == "keras" and weights_only:
            kind = "keras-weights"
        if kind == "safetensors" and file["what"] == STATE_DICT:
            kind = "state-dict"
        fields = {"name": repr(Path(file["path"]).name), **(weights_only or {})}
        lines += ["", "```python", known[kind].format(**fields), "```"]
    return "\n".join(lines)


def in_torch_first(files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Files in the order in which they are told: what torch loads first."""
    return sorted(files, key=lambda file: ("pt2", "safetensors").index(file["kind"]) - 2
                  if file["kind"] in ("pt2", "safetensors") else 0)  # fmt: skip


def registered_description(result: dict[str, Any], model: str) -> str:
    """Markdown for the page of a registered model: how to load it, in torch first, and why it was chosen.

    Args:
        model: its address, as ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``.
    """
    program = next((Path(f["path"]).name for f in result["files"] if f["kind"] == "pt2"), None)
    lines = ["import mlflow"]
    if program is not None:
        lines = [
            "import mlflow, torch",
            f"folder = mlflow.artifacts.download_artifacts({model!r})",
            f"net = torch.export.load(folder + {'/' + program!r}).module()  # images (n, C, H, W) to logits",
        ]
    lines += [
        f"net = mlflow.pyfunc.load_model({model!r})  # in ONNX Runtime",
        "name = net.metadata.get_input_schema().input_names()[0]  # net.predict({name: images})",
    ]
    return "\n".join(["```python", *lines, "```", "", plain(result["why"])])


def _times(result: dict[str, Any]) -> str:
    """What is done to the pixels of the image files on the way into the net, if anything is."""
    return str(Preprocessing.of(*(result[key] for key in ("scale", "mean", "std") if key in result)))


def _row(name: str, splits: dict[str, Any]) -> str:
    cells = [
        _cell(rate)
        for c in (splits["valid"], splits["test"])
        for rate in (
            Rate("clean_accuracy", c["clean_correct"], c["clean_total"]),
            Rate("attack_success", c["attacked"], c["poisoned_total"]),
        )
    ]
    several = splits["valid"].get("triggers")
    if several:
        for place, split in ((1, "valid"), (3, "test")):
            each = ", ".join(f"{t['attacked']}/{t['poisoned_total']}" for t in splits[split]["triggers"])
            cells[place] += f" the worst of {len(several)} triggers: {each}"
    return f"| {name} | {' | '.join(cells)} |"


def _cell(rate: Rate) -> str:
    return f"{rate.rate:.2%} ({rate.hits}/{rate.total}) [{100 * rate.low:.2f}–{100 * rate.high:.2f}]"


def plain(text: str) -> str:
    """Words that may name a node of a file: no markup, no line of its own."""
    return "".join(c if c.isalnum() or c in " .,:;'_-/()+%=" else "?" for c in text)


def code(text: str) -> str:
    """As code; names come from a model file, and what would end the code or a cell must not."""
    clean = "".join(c if c.isprintable() and c not in "`|" else " " for c in text)
    return f"`{clean}`"
