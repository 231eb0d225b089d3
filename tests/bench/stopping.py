"""What stopping trials and samplers save: ``python -m tests.bench.stopping CONFIG... --out docs/search.png``.

Each configuration is a grid. What is missing of it is run whole, once; then each rule, and each way to
search, is replayed from the records: a trial has the same steps whoever asks for it, so what a sweep would
have come to can be read off exactly. The cost is told in questions (candidates tried), in networks (questions
that no trial before has asked, for the others are answered from memory), and in CPU seconds: what a network
took on average in trials of the same layer set when the grid was run, so run it with one thread.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from prune_core.frontier import hypervolume
from prune_core.masks import ChannelMask
from sweeps.config.schema import load_config
from sweeps.config.search import StopConfig
from sweeps.events import SweepEvents
from sweeps.execution.behind import StoppingRule
from sweeps.execution.inline import InlineExecutor
from sweeps.inputs.load import input_files, load_inputs
from sweeps.planning.objectives import objectives
from sweeps.planning.optuna_queue import Study, Suggested
from sweeps.planning.search_space import SearchSpace
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.storage import open_storage
from sweeps.sweep import run_sweep
from sweeps.trial import volume_of

SEEDS = range(5)
LEAST = 1e-6  # of a logarithmic axis: nothing is missing
Point = tuple[int, int, float, float]  # questions, networks, CPU seconds, hypervolume so far


class CpuOfTrials(SweepEvents):
    """CPU seconds of each trial in this process, by key; kept in a file, as a grid may take several calls."""

    def __init__(self, file: Path) -> None:
        self.file, self.last = file, time.process_time()
        self.seconds: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}

    def planned(self, *what: object) -> None:
        self.last = time.process_time()

    def ended(self, record: TrialRecord) -> None:
        self.seconds[record.key] = time.process_time() - self.last
        self.file.write_text(json.dumps(self.seconds))
        self.last = time.process_time()


@dataclass(frozen=True)
class Grid:
    """A grid's records, all of them done; ``cpu``: seconds of each by key, in the order in which they ran."""

    name: str
    space: SearchSpace
    records: dict[TrialSettings, TrialRecord]
    cpu: dict[str, float]
    asked: dict[TrialSettings, list[ChannelMask]] = field(default_factory=dict)
    volumes: dict[tuple[TrialSettings, int], float] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, overrides: Sequence[str]) -> Grid:
        config = load_config(path, overrides)
        storage = open_storage(config.storage)
        executor = InlineExecutor(config.evaluator, config.resources)
        cpu = CpuOfTrials(Path(config.storage) / f"cpu-{config.name}.json")
        cpu.file.parent.mkdir(parents=True, exist_ok=True)
        result = run_sweep(config, storage, executor, cpu)
        assert all(record.status == "done" for record in result.records)
        inputs = load_inputs(input_files(config))
        space = SearchSpace.of(config.sweep, inputs.model)
        records = {record.settings: record for record in result.records}
        return cls(config.name, space, records, cpu.seconds)

    @cached_property
    def price(self) -> dict[tuple[str, ...], float]:
        """CPU seconds of a network that nobody has asked about, by layer set."""
        seconds: dict[tuple[str, ...], float] = defaultdict(float)
        networks = Counter[tuple[str, ...]]()
        known: set[ChannelMask] = set()
        of_keys = {record.key: record for record in self.records.values()}
        for key, spent in self.cpu.items():
            settings = of_keys[key].settings
            seconds[settings.layers] += spent
            networks[settings.layers] += len(set(self.nets(settings)) - known)
            known.update(self.nets(settings))
        return {layers: spent / max(1, networks[layers]) for layers, spent in seconds.items()}

    def nets(self, settings: TrialSettings) -> list[ChannelMask]:
        """What each question of a trial was about."""
        if settings not in self.asked:
            self.asked[settings] = self._nets(settings)
        return self.asked[settings]

    def _nets(self, settings: TrialSettings) -> list[ChannelMask]:
        record = self.records[settings]
        mask, asked = ChannelMask(keep_bias=record.mask.keep_bias), []
        for step in record.steps:
            asked.append(step.after(mask))
            mask = step.mask
        return asked

    def volume(self, settings: TrialSettings, asked: int) -> float:
        if (settings, asked) not in self.volumes:
            self.volumes[settings, asked] = volume_of(self.records[settings].steps[:asked])
        return self.volumes[settings, asked]

    def course(self, trials: Iterable[TrialSettings], stop: StopConfig | None) -> tuple[list[Point], int]:
        """A point for each trial's end, and how many were stopped."""
        rule = None if stop is None else StoppingRule(stop)
        known: set[ChannelMask] = set()
        questions, stopped, seconds, points = 0, 0, 0.0, list[Point]()
        front = np.empty((0, 2))
        for settings in trials:
            record = self.records[settings]
            end = len(record.steps)
            if rule is not None:
                end = self._end(rule, settings)
                rule.ended(replace(record, steps=record.steps[:end]))  # no more than it came to
            stopped += end < len(record.steps)
            questions += end
            new = set(self.nets(settings)[:end]) - known
            known |= new
            seconds += len(new) * self.price[settings.layers]
            found = [(s.now.clean_accuracy, s.now.attack_success) for s in record.steps[:end] if s.accepted]
            front = np.concatenate([front, np.array(found).reshape(-1, 2)])
            points.append((questions, len(known), seconds, hypervolume(front[:, 0], front[:, 1])))
        return points, stopped

    def _end(self, rule: StoppingRule, settings: TrialSettings) -> int:
        record = self.records[settings]
        for asked in filter(rule.due, range(1, len(record.steps) + 1)):
            if rule.judge(settings.policy, record.key, asked, self.volume(settings, asked)):
                return asked
        return len(record.steps)

    def shuffled(self, seed: int) -> list[TrialSettings]:
        return random.Random(seed).sample(list(self.records), len(self.records))

    def drawn(self, seed: int, samples: int) -> list[TrialSettings]:
        """As ``search: random`` draws."""
        order = np.random.default_rng(seed).permutation(len(self.records))[:samples]
        return [list(self.records)[place] for place in sorted(order)]

    def suggested(self, sampler: str, seed: int, samples: int) -> Iterator[TrialSettings]:
        startup = min(10, max(4, samples // 4))
        queue = Suggested(Study(self.space, seed, startup, sampler=sampler), samples)
        while (settings := queue.next()) is not None:
            yield settings
            queue.ended(settings, objectives(self.records[settings]))


Runs = dict[str, list[tuple[list[Point], int]]]


def measured(grid: Grid, samplers: Sequence[str]) -> tuple[Runs, Runs]:
    """Each rule on the grid in five orders, each search of a third of it with five seeds."""
    rules = {"none": None, **{name: StopConfig(rule=name) for name in ("asha", "median")}}  # type: ignore[arg-type]
    stops = {name: [grid.course(grid.shuffled(seed), rule) for seed in SEEDS] for name, rule in rules.items()}
    samples = len(grid.records) // 3
    ways: dict[str, Callable[[int], Iterable[TrialSettings]]] = {
        "random": lambda seed: grid.drawn(seed, samples)
    }
    for sampler in samplers:
        ways[sampler] = lambda seed, sampler=sampler: grid.suggested(sampler, seed, samples)  # type: ignore[misc]
    searches = {name: [grid.course(way(seed), None) for seed in SEEDS] for name, way in ways.items()}
    return stops, searches


def table(runs: Runs, whole: Point, trials: str) -> str:
    """Shares of the whole grid: mean, and from the lowest to the highest of five."""
    lines = [
        f"| | {trials} | questions | networks | CPU seconds | hypervolume |",
        "|---|---|---|---|---|---|",
    ]
    for name, five in runs.items():
        counts = [stopped if trials == "stopped" else len(points) for points, stopped in five]
        cells = [f"{min(counts)}-{max(counts)}" if min(counts) < max(counts) else str(counts[0])]
        for part, digits in ((0, 0), (1, 0), (2, 0), (3, 2)):
            shares = [100 * points[-1][part] / whole[part] for points, _ in five]
            cells.append(
                f"{np.mean(shares):.{digits}f} % ({min(shares):.{digits}f}-{max(shares):.{digits}f})"
            )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(found: dict[str, tuple[Runs, Runs, float]], out: Path) -> None:
    """What is missing of the whole grid's hypervolume, against CPU seconds: the median of five, their range,
    and where each of them ends."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2 * len(found)), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(found), 2, squeeze=False)
    for row, (name, (*both, whole)) in enumerate(found.items()):
        for place, runs, what in zip(axes[row], both, ("stopping", "searching"), strict=True):
            for (label, five), style in zip(runs.items(), ("-", "--", ":", "-."), strict=False):
                most = max(points[-1][2] for points, _ in five)
                grid = np.linspace(0, most, 200)
                curves = np.array([_steps(points, grid) for points, _ in five])
                curves = np.maximum(whole - curves, LEAST)
                (line,) = place.plot(grid, np.median(curves, axis=0), style, label=label)
                ends = [(p[-1][2], max(whole - p[-1][3], LEAST)) for p, _ in five]
                place.plot(*zip(*ends, strict=True), "o", color=line.get_color(), markersize=5)
                place.fill_between(grid, curves.min(0), curves.max(0), color=line.get_color(), alpha=0.15)
            place.set(title=f"{name}, {what}", xlabel="CPU seconds", ylabel="missing hypervolume")
            place.set_yscale("log")
            place.grid(color="#E8EAEE", linewidth=0.8)
            place.legend(loc="upper right")
    figure.tight_layout()
    figure.savefig(out, dpi=90)


def _steps(points: Sequence[Point], grid: np.ndarray) -> np.ndarray:
    at = np.searchsorted([seconds for _, _, seconds, _ in points], grid, side="right")
    return np.array([0.0, *(volume for *_, volume in points)])[at]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stopping", description=__doc__)
    parser.add_argument("configs", type=Path, nargs="+", help="grids, as configs/default.yaml")
    parser.add_argument("--set", action="append", default=[], help="for all of them, as of goodnet sweep")
    parser.add_argument("--samplers", nargs="*", default=["tpe", "nsga2", "gp"])
    parser.add_argument("--out", type=Path, help="a picture")
    given = parser.parse_args()
    found = {}
    for path in given.configs:
        grid = Grid.of(path, given.set)
        whole = grid.course(grid.records, None)[0][-1]
        print(f"\n{grid.name}: {len(grid.records)} trials, {whole[0]:,} questions, {whole[1]:,} networks, "
              f"{whole[2]:.0f} CPU s, hypervolume {whole[3]:.4f}\n", flush=True)  # fmt: skip
        found[grid.name] = (*measured(grid, given.samplers), whole[3])
        print(table(found[grid.name][0], whole, "stopped"), end="\n\n")
        print(table(found[grid.name][1], whole, "trials"), flush=True)
    if given.out is not None:
        picture(found, given.out)


if __name__ == "__main__":
    main()
