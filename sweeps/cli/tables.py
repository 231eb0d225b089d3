"""What commands say of many sweeps or trials: lines in columns."""

from __future__ import annotations

from sweeps.cli.command import Result
from sweeps.cli.show import counted, frontier


def sweeps(result: Result) -> str:
    """A line a sweep, and below it the best state within each X."""
    from sweeps.overview.standing import over

    found = result["sweeps"]
    if not found:
        return f"storage {result['storage']!r} holds no sweep yet; run goodnet sweep CONFIG"
    wide = max(len(s["sweep"]) for s in found)
    lines = [
        f"{'sweep':{wide}}  {'state':11}  {'trials':>11}  {'failed':>6}  {'stopped':>7}  "
        f"{'hypervolume':>11}  date (UTC)"
    ]
    for sweep in found:
        head = f"{sweep['sweep']:{wide}}  {sweep['state']:11}"
        if sweep["trials"] is None:
            lines.append(f"{head}  its manifest cannot be read")
            continue
        trials = sweep["trials"]
        ended = f"{over(trials)}/{trials['total']}"
        lines.append(
            f"{head}  {ended:>11}  {trials['failed']:>6}  {trials['stopped']:>7}  "
            f"{sweep['hypervolume']:>11.4f}  "
            f"{sweep['date'][:16].replace('T', ' ')}"
        )
        lines += [f"  {line}" for line in [*_within(sweep), *_best(sweep["best"])]]
    return "\n".join(lines)


def watched(result: Result) -> str:
    """How one sweep stands."""
    from sweeps.overview.standing import words

    head = f"sweep {result['sweep']}, {result['state']}: {words({**result, 'best': []})}"
    return "\n".join([head, *(f"  {line}" for line in _best(result["best"]))])


def _within(sweep: Result) -> list[str]:
    from sweeps.overview.standing import within_words

    return [] if sweep.get("within") is None else [within_words(sweep["within"])]


def _best(best: list[Result]) -> list[str]:
    return [
        f"within X = {b['x']:g}: clean accuracy {b['clean_accuracy']:.2%}, attack success "
        f"{b['attack_success']:.2%}, {counted(b['channels_pruned'], 'channel')} pruned "
        f"({b['trial_key']}, step {b['step']})"
        for b in best
        if b["trial_key"] is not None
    ]


def trials(result: Result) -> str:
    """A line a trial; where files were written, only that they were."""
    if result["written"]:
        of = f"{counted(len(result['trials']), 'trial')} of sweep {result['sweep']}"
        return "\n".join(f"wrote {of} to {path}" for path in result["written"])
    lines = [
        f"sweep {result['sweep']}: {counted(len(result['trials']), 'trial')} with a record",
        f"{'trial':20}  {'status':7}  {'valid: clean':>12}  {'attack':>7}  {'test: clean':>11}  "
        f"{'attack':>7}  {'pruned':>6}  {'hypervolume':>11}  {'seconds':>8}  settings",
    ]
    for row in result["trials"]:
        rates = [
            row[f"{split}_{rate}"]
            for split in ("valid", "test")
            for rate in ("clean_accuracy", "attack_success")
        ]
        clean, attack, test_clean, test_attack = ("" if r is None else f"{r:.2%}" for r in rates)
        pruned = "" if row["channels_pruned"] is None else row["channels_pruned"]
        volume = "" if row["hypervolume"] is None else f"{row['hypervolume']:.4f}"
        lines.append(
            f"{row['trial_key']:20}  {row['status']:7}  {clean:>12}  {attack:>7}  {test_clean:>11}  "
            f"{test_attack:>7}  {pruned:>6}  {volume:>11}  {row['seconds']:>8.1f}  {_settings(row)}"
        )
    return "\n".join([*lines, "rates are of the trial's final network; hypervolume of all its states"])


def _settings(row: Result) -> str:
    """What was done, in the words of the configuration; of a failed or stopped trial also why."""
    parts = [row["policy"], row["order"], "+".join(row["layers"]), f"X = {row['x']:g}", f"seed {row['seed']}"]
    parts += [row["repair"]] if row["repair"] != "none" else []
    return ", ".join(parts) + (f"; {row['reason']}" if row["reason"] else "")


def frontiers(result: Result) -> str:
    """One sweep's frontier, or several side by side."""
    if "sweeps" not in result:
        return frontier(result)
    names = [s["sweep"] for s in result["sweeps"]]
    wide = max(map(len, names))
    xs = [b["x"] for b in result["sweeps"][0]["best"]]
    lines = [
        f"{'sweep':{wide}}  {'trials':>11}  {'failed':>6}  {'stopped':>7}  {'frontier':>8}  "
        f"{'hypervolume':>11}" + "".join(f"  {f'within X = {x:g}':>17}" for x in xs)
    ]
    for sweep in result["sweeps"]:
        trials = sweep["trials"]
        ended = f"{trials['done']}/{trials['total']}"
        lines.append(
            f"{sweep['sweep']:{wide}}  {ended:>11}  {trials['failed']:>6}  {trials['stopped']:>7}  "
            f"{sweep['frontier_size']:>8}  "
            f"{sweep['hypervolume']:>11.4f}" + "".join(f"  {_short(b):>17}" for b in sweep["best"])
        )
    lines.append(
        f"all together: hypervolume {result['hypervolume']:.4f}; the states that none of them beats:"
    )
    for number, point in enumerate(result["points"], 1):
        test = point["test"]
        lines.append(
            f"{number:>4}  valid {_rates(point)}, test {_rates(test)}, {point['channels_pruned']:>4} pruned, "
            f"{point['trial_key']}, {point['step']}, from {' and '.join(point['sweeps'])}"
        )
    lines.append("each pair: clean accuracy/attack success; chosen on validation, test only reports")
    return "\n".join(lines)


def _short(best: Result) -> str:
    return "none" if best["trial_key"] is None else _rates(best)


def _rates(net: Result) -> str:
    return f"{net['clean_accuracy']:.2%}/{net['attack_success']:.2%}"


def reported(result: Result) -> str:
    """What the page of ``goodnet report`` says first, and where it is."""
    chosen = result["chosen"]
    said = [] if chosen is None else [chosen["why"]]
    if chosen is None and "note" in result:
        said = [result["note"]]
    if chosen is not None and not result["files"]:
        said.append(f"No file of it is measured yet: {result['repeat']['pick']}")
    missing = [name for name in ("scan", "audit") if result[name] is None]
    if missing:
        said.append(f"not in it, as nobody has made one: {', '.join(missing)}")
    return "\n".join([*said, f"wrote {result['report']} and its figures, {result['facts']}"])


def scanned(result: Result) -> str:
    """The verdict, the triggers, and the classes that need the least."""
    lines = [f"{result['model']}: {result['verdict']}: {result['why']}"]
    if result["verdict"] == "nothing found":
        lines.append("That is not to say that the network is clean; see docs/scan.md for what is not found.")
    lines.append(
        f"searched on {counted(result['images'], 'clean image')}, measured on {result['held_out']} others"
    )
    if margins := result["null"].get("margins"):
        first = ", ".join(
            f"{row['class']}: {row['margin']:.3g} (anomaly {row['anomaly']:.1f})"
            for row in margins["rows"][:3]
        )
        lines.append(f"greatest margins of any image, in logits, by class: {first}")
    for one in result["triggers"]:
        files = f" ({one['stamped']})" if one.get("stamped") else ""
        lines.append(
            f"  class {one['class']}, {one['kind']} of {_size(one['kind'], one['size'])}: leads "
            f"{one['success']:.1%} of held-out images there{files}"
        )
    lines.append(f"{'class':>6}  {'kind':5}  {'size':>12}  {'success':>8}  {'95 % interval':>15}  anomaly")
    for row in result["rows"][:10]:
        size = "none found" if row["size"] is None else _size(row["kind"], row["size"])
        odd = "" if row["anomaly"] is None else f"{row['anomaly']:.1f}"
        if row["starts"] > 1 and odd:
            odd += f" ({row['anomaly_low']:.1f} to {row['anomaly_high']:.1f} over {row['starts']} starts)"
        lines.append(
            f"{row['class']:>6}  {row['kind']:5}  {size:>12}  {row['success']:>8.1%}  "
            f"{row['success_low']:>6.1%} - {row['success_high']:>6.1%}  {odd}"
        )
    return "\n".join(lines)


def _size(kind: str, size: float) -> str:
    return f"{size:.1f} pixels" if kind == "patch" else f"{size:.1%}"
