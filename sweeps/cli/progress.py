"""What a person sees while a sweep runs, here or elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from sweeps.cli.console import escape, printable, rates, say, stderr
from sweeps.events import SweepEvents
from sweeps.execution.throttle import Throttle
from sweeps.following.course import Course
from sweeps.overview.standing import over, progress_words, words

if TYPE_CHECKING:
    from prune_core.data.checks.findings import Finding
    from sweeps.progress import Progress as TrialProgress
    from sweeps.records.trial_record import TrialRecord
    from sweeps.storage.manifest import Manifest


class Bar:
    """Trials that are over, of those planned, and a line about them; on a terminal only."""

    def __init__(self, quiet: bool = False) -> None:
        one_line = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        self.shown = stderr().is_terminal and not quiet
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", table_column=one_line),
            console=stderr(),
            expand=True,
        )
        self.task = self.bar.add_task("trials", total=None, detail="")

    def show(self, done: float | None = None, total: int | None = None, detail: str = "") -> None:
        self.bar.update(self.task, completed=done, total=total, detail=escape(printable(detail)))

    def start(self) -> None:
        if self.shown:
            self.bar.start()

    def stop(self) -> None:
        if self.shown:
            self.bar.stop()


class SweepProgress(SweepEvents):
    """How a sweep goes: a bar on a terminal; a line every few seconds elsewhere."""

    def __init__(self, quiet: bool = False) -> None:
        """``quiet``: only what is amiss is told."""
        self.quiet = quiet
        self.bar = Bar(quiet)
        self.course = Course()
        self.preparing_what = ""
        self.due, self.redraw = Throttle(5.0), Throttle(0.5)

    def __enter__(self) -> SweepProgress:
        self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.stop()

    def preparing(self, what: str, fraction: float) -> None:
        if what != self.preparing_what or self.due():
            self.preparing_what = what
            if not self.bar.shown:
                self._tell(f"{what} ({fraction:.0%})")
        self.bar.show(detail=f"{what} {fraction:.0%}")

    def looked(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            if finding.level != "note" or not self.quiet:
                say(f"{finding.level}: {finding.detail}")

    def planned(self, manifest: Manifest, there: Sequence[TrialRecord], total: int) -> None:
        self.course.planned(manifest, there, total)
        trials = f"{total} trial{'s' if total != 1 else ''}"
        self._tell(f"sweep {manifest.name}: {trials}, {len(there)} of them done before")
        self.bar.show(self.course.over, total)

    def candidates(self, key: str, progress: TrialProgress) -> None:
        self.course.candidates(key, progress)
        self._show(f"last tried {progress.done} of {progress.total} candidates")

    def ended(self, record: TrialRecord) -> None:
        self.course.ended(record)
        head = f"[{self.course.over}/{self.course.total}] {record.settings}"
        if record.status == "failed":
            say(f"{head}: failed{_whose(record)}: {record.reason}")
        elif not self.bar.shown and record.valid is not None:
            stopped = f", stopped ({record.reason})" if record.status == "stopped" else ""
            pruned = f"{len(record.mask)} channels pruned"
            self._tell(f"{head}: {rates(record.valid)}, {pruned}, {record.seconds:.1f} s{stopped}")
        self._show()

    def trouble(self, line: str) -> None:
        say(line)

    def _tell(self, text: str) -> None:
        if not self.quiet:
            say(text)

    def _show(self, more: str = "") -> None:
        """What stands there takes a moment to work out: not for every candidate."""
        if not self.bar.shown and (self.quiet or not more or not self.due()):
            return
        if self.bar.shown and more and not self.redraw():
            return
        standing = self.course.standing().to_json()
        detail = ", ".join([part for part in (progress_words(standing), more) if part])
        self.bar.show(round(self.course.done, 1), detail=detail)
        if not self.bar.shown:
            say(f"[{self.course.done:.1f}/{self.course.total}] {detail}")


class WatchProgress:
    """The same of a sweep that another process runs, told of how it stands."""

    def __init__(self, quiet: bool = False) -> None:
        self.bar, self.due, self.quiet = Bar(quiet), Throttle(5.0), quiet
        self.last = ""

    def __enter__(self) -> WatchProgress:
        self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.stop()

    def __call__(self, standing: dict[str, Any]) -> None:
        trials = standing["trials"]
        self.bar.show(over(trials), trials["total"], progress_words(standing))
        line, silent = words(standing), self.bar.shown or self.quiet
        if not silent and standing["state"] == "running" and line != self.last and self.due():
            self.last = line
            say(line)


def _whose(record: TrialRecord) -> str:
    """Whose fault a failed trial was, where its record says so."""
    said = {"input": "what was given", "machine": "the machine", "fault": "a fault of ours"}
    return f" ({said[record.failure]})" if record.failure in said else ""
