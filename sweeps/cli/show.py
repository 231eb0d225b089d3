"""What commands say to people: their JSON as a few lines of text."""

from __future__ import annotations

import shlex

from sweeps.cli.command import Result
from sweeps.cli.console import rates


def findings(result: Result) -> list[str]:
    """A line for each finding of the look at the data."""
    return [f"{f['level']}: {f['detail']}" for f in result.get("findings") or ()]


def init(result: Result) -> str:
    wrong = [c for c in result["checks"] if not c["ok"]]
    lines = [*result["found"], f"wrote {result['config']} and {len(result['data'])} image files beside it"]
    lines += [doctor({"checks": [c]}) for c in result["checks"] if c["level"] in ("error", "warning")]
    lines.append("Next:" if not wrong else "Once that is put right, next:")
    return "\n".join([*lines, *(f"  {command}" for command in result["next"])])


def inspect(result: Result) -> str:
    lines = [
        f"{la['name']}: {la['channels']} channels, {len(la['zeroed'])} zeroed"
        + (f": {la['zeroed']}" if la["zeroed"] else "")
        for la in result["layers"]
    ]
    lines.append(f"pruned: {result['channels_pruned']} of {result['channels_total']} channels")
    if result["against"] is not None:
        changed = result["changed"]
        total = sum(len(ids) for ids in changed.values())
        lines.append(f"kernels that differ from the BadNet's: {total}")
        lines += [f"  {layer}: {ids}" for layer, ids in changed.items() if ids]
        lines += findings(result)
    return "\n".join(lines)


def evaluate(result: Result) -> str:
    from prune_core.counts import Rate
    from prune_core.data.told import goal_words
    from prune_core.defence import not_clean

    lines = [
        f"clean accuracy: {Rate('clean_accuracy', result['clean_correct'], result['clean_total'])}",
        f"attack success: {Rate('attack_success', result['attacked'], result['poisoned_total'])}",
    ]
    several = result.get("triggers", [])
    lines[1] += f"; {'the worst of ' + str(len(several)) + ' triggers; ' if several else ''}{_attack(result)}"
    for one in several:
        rate = Rate("attack_success", one["attacked"], one["poisoned_total"])
        lines.append(f"  {one['name']}, target {goal_words(one['target'])}: {rate}")
    if "goodnet_clean_accuracy" in result:
        lines.append(
            f"N+1-class GoodNet: clean accuracy {result['goodnet_clean_accuracy']:.2%}, attack "
            f"success {result['goodnet_attack_success']:.2%}, "
            f"poisoned images detected {result['detected_poisoned']:.2%}"
        )
    lines += findings(result)
    lines.append(not_clean(len(several)))
    return "\n".join(lines)


def _attack(result: Result) -> str:
    """The target, and how far true images of it may be in the rate."""
    from prune_core.data.told import goal_words

    said = f"target {goal_words(result['target'])}"
    if result["left_out"]:
        said += f"; {result['left_out']} poisoned images truly show their target and are left out"
    if result["floor"]:
        said += (
            f"; what the images truly show is not known: up to {100 * result['floor']:.1f} points of it may "
            "be true images of the target"
        )
    return said


def prune(result: Result) -> str:
    from prune_core.counts import Counts

    lines = [
        f"{split} {net}: {rates(Counts.from_json(result[net][split]))}"
        for net in ("badnet",)
        for split in ("valid", "test")
    ]
    lines += [f"{split}: {rates(Counts.from_json(result[split]))}" for split in ("valid", "test")]
    lines.append(f"pruned: {result['channels_pruned']} of {result['channels_total']} channels")
    lines += [f"  {layer}: {ids}" for layer, ids in result["pruned"].items()]
    if result["kind"] != "pruning":
        lines.append(
            f"{result['kind']}: {result['policy']}, repair {result['repair']}; needs {result['assumption']}"
        )
    lines += [
        f"net {net['step']}: {net['note']}: clean accuracy {net['clean_accuracy']:.2%}, attack "
        f"success {net['attack_success']:.2%} on validation" + ("" if net["accepted"] else "; beyond X")
        for net in result["nets"]
    ]
    return "\n".join(lines)


def sweep(result: Result) -> str:
    if "sweeps" in result:  # one for each seed
        return "\n\n".join(map(sweep, result["sweeps"]))
    if not result.get("attack_present", True):
        return f"sweep {result['sweep']}: {counted(result['trials'], 'trial')}; {result['note']}"
    ended = f"ended by {result['ended_by']}, {result['left']} left\n" if "ended_by" in result else ""
    return (
        f"sweep {result['sweep']}: {counted(result['trials'], 'trial')}: {result['done']} done, "
        f"{result['skipped']} done before, {result['failed']} failed{_stopped(result)}\n{ended}"
        f"frontier: {counted(result['frontier_size'], 'point')}, hypervolume {result['hypervolume']:.4f}\n"
        f"{_within(result)}"
        f"{_nothing_gained(result)}{_next(result)}"
    )


def _stopped(result: Result) -> str:
    stopped = result.get("stopped_trials", 0)
    return f", {stopped} stopped (sweep.stop=none goes on with them)" if stopped else ""


def _within(result: Result) -> str:
    if "constraint" not in result:
        return ""
    told = result["constraint"]
    return f"within the constraint ({' and '.join(told['expected'])}): {counted(told['states'], 'state')}\n"


def _criterion(result: Result) -> str:
    """The option of ``pick`` that chooses as a single constraint says; else the knee."""
    expected = result.get("constraint", {}).get("expected", [])
    options = {"attack_success": "--max-attack-success", "accuracy_drop": "--max-accuracy-drop"}
    metric, *_, bound = expected[0].split() if len(expected) == 1 else ("", "")
    if metric not in options or not result["constraint"]["states"]:
        return "--knee"
    return f"{options[metric]} {bound}"


def _nothing_gained(result: Result) -> str:
    """Where to look further when all of the attack is left."""
    if result["hypervolume"] or result["done"] + result["skipped"] == 0:
        return ""
    return (
        "No trial weakened the attack: try more layers (sweep.layer_sets, for example last:8), other orders "
        "or a larger X.\n"
    )


def _next(result: Result) -> str:
    """Three things to do next, as they can be copied."""
    place = "" if result["storage"] == "runs" else f" --storage {shlex.quote(result['storage'])}"
    name = f"{result['sweep']}{place}"
    what = [
        (
            f"goodnet frontier {name}",
            "see the frontier" + (f"; its page: {p}" if (p := result["page"]) else ""),
        ),
        (f"goodnet pick {name} {_criterion(result)}", "take a GoodNet"),
        (f"goodnet trials {name}", "see why trials failed" if result["failed"] else "see every trial"),
    ]
    return "\n".join(["next:", *(f"  {do}  # {why}" for do, why in what)])


def study(result: Result) -> str:
    lines = [
        f"{name}: {counted(s['trials'], 'trial')}, {counted(s['ways'], 'way')}"
        + (
            f"; best: {s['best']['policy']}, {s['best']['order']}, hypervolume {s['best']['hypervolume']:.4f}"
            if s["best"]
            else ""
        )
        for name, s in result["sweeps"].items()
    ]
    return "\n".join([*lines, f"wrote {result['page']} and {result['table']}"])


def frontier(result: Result) -> str:
    trials = result["trials"]
    more = "".join(f", {trials[fate]} {fate}" for fate in ("failed", "stopped") if trials[fate])
    head = f"sweep {result['sweep']}: {trials['done']} of {counted(trials['total'], 'trial')} done{more}"
    head += f"\n{_within(result)}".rstrip()
    if not result.get("attack_present", True):
        return "\n".join([head, str(result["note"]), *findings(result)])
    lines = [
        head,
        f"{'':9}{'validation: clean accuracy':>32}{'attack success':>26}"
        f"{'test: clean accuracy':>30}{'attack success':>26}{'lost on test':>16}{'pruned':>8}"
        "  kind             trial, step",
    ]
    if result["badnet"]:
        lines.append(f"{'BadNet':9}{_rates_of(result['badnet'])}")
    for number, point in enumerate(result["points"], 1):
        price = point["price"].get("test")
        lost = "" if price is None else f"{price['points']:+.2f} ({price['lost']})"
        lines.append(
            f"{number:<9}{_rates_of(point)}{lost:>16}{point['channels_pruned']:>8}  "
            f"{point['kind'] or 'unknown':<17}{point['trial_key']}, {point['step']}"
        )
    lines.append(
        "95 % intervals in brackets; lost on test: points of clean accuracy (images) below the BadNet; "
        "goodnet pick tells the classes that lose more than the whole"
    )
    for point in result["points"]:
        if "triggers" in point["valid"]:
            each = "; ".join(
                f"{split} "
                + ", ".join(f"{t['attacked']}/{t['poisoned_total']}" for t in point[split]["triggers"])
                for split in ("valid", "test")
            )
            lines.append(f"{point['trial_key']}, {point['step']}: attacked by each trigger: {each}")
    assumed = {p["kind"]: p["assumption"] for p in result["points"] if p["kind"] != "pruning"}
    lines += [f"{kind}: not pruning alone; needs {needs}" for kind, needs in assumed.items()]
    if len(result["hypervolume_by_kind"]) > 1:
        volumes = ", ".join(f"{k} {v:.4f}" for k, v in result["hypervolume_by_kind"].items())
        lines.append(f"hypervolume of each kind alone: {volumes}")
    lines.append(
        f"hypervolume {result['hypervolume']:.4f} (validation); chosen on validation, test only reports"
    )
    lines += findings(result)
    return "\n".join(lines)


def _rates_of(net: Result) -> str:
    """Both rates of both splits with their intervals, in columns; of a split that is not known, none."""
    cells = []
    for split, width in (("valid", 32), ("test", 30)):
        counts = net.get(split)
        for rate, room in (("clean_accuracy", width), ("attack_success", 26)):
            cell = ""
            if counts is not None:
                low, high = counts[f"{rate}_interval"]
                cell = f"{counts[rate]:.2%} [{100 * low:.2f}-{100 * high:.2f}]"
            cells.append(f"{cell:>{room}}")
    return "".join(cells)


def counted(number: int, what: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{number} {what}{'s' if number != 1 else ''}"


def pick(result: Result) -> str:
    written = "\n".join(f"wrote {f['path']}, measured again" for f in result["files"])
    registered = f"\nregistered: {result['registered']}" if result.get("registered") else ""
    from sweeps.reports.model_card import flattered

    choice = [flattered(result["choice"])] if result.get("choice") else []
    return "\n".join([result["why"], *choice, *findings(result), f"{written}{registered}"])


def doctor(result: Result) -> str:
    words = {"ok": "ok  ", "note": "note", "warning": "WARN", "error": "FAIL"}
    return "\n".join(f"{words[c['level']]} {c['name']}: {c['detail']}" for c in result["checks"])
