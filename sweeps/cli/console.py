"""What a person sees while a command runs: progress and words on standard error."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeps.events import SweepEvents
from sweeps.execution.throttle import Throttle

if TYPE_CHECKING:
    from rich.console import Console

    from prune_core.counts import Counts
    from prune_core.data.checks.findings import Finding
    from sweeps.progress import Progress as TrialProgress
    from sweeps.records.trial_record import TrialRecord
    from sweeps.storage.manifest import Manifest


@functools.cache
def stderr() -> Console:
    """The terminal; made when something is said, as rich takes its time to import."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def escape(text: str) -> str:
    """Text that rich shows as it is, with no markup in it."""
    from rich.markup import escape

    return escape(text)


def printable(text: str) -> str:
    """Text with a question mark for every character that would steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def say(text: str) -> None:
    """One line for the person; what comes from files is shown as text, never as markup."""
    stderr().print(escape(printable(text)), soft_wrap=True)


class SweepProgress(SweepEvents):
    """A bar of trials and their candidates on a terminal; a line every few seconds elsewhere."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}"),
            console=stderr(),
        )
        self.task = self.bar.add_task("sweep", total=None, detail="")
        self.live: dict[str, float] = {}
        self.over = self.total = 0
        self.preparing_what = ""
        self.due = Throttle(5.0)

    def __enter__(self) -> SweepProgress:
        if stderr().is_terminal:
            self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if stderr().is_terminal:
            self.bar.stop()

    def preparing(self, what: str, fraction: float) -> None:
        if what != self.preparing_what or self.due():
            self.preparing_what = what
            if not stderr().is_terminal:
                say(f"{what} ({fraction:.0%})")
        self.bar.update(self.task, detail=escape(f"{what} {fraction:.0%}"))

    def looked(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            say(f"{finding.level}: {finding.detail}")

    def planned(self, manifest: Manifest, there: Sequence[TrialRecord], total: int) -> None:
        self.over, self.total = len(there), total
        trials = f"{self.total} trial{'s' if self.total != 1 else ''}"
        say(f"sweep {manifest.name}: {trials}, {self.over} of them done before")
        self.bar.update(self.task, total=self.total, completed=self.over, detail="")

    def candidates(self, key: str, progress: TrialProgress) -> None:
        self.live[key] = progress.done / max(progress.total, 1)
        self._show(f"{len(self.live)} running, last tried {progress.done} of {progress.total} candidates")

    def ended(self, record: TrialRecord) -> None:
        self.live.pop(record.key, None)
        self.over += 1
        if record.status == "failed":
            say(f"[{self.over}/{self.total}] {record.settings}: failed{_whose(record)}: {record.reason}")
        elif not stderr().is_terminal and record.valid is not None:
            say(
                f"[{self.over}/{self.total}] {record.settings}: {rates(record.valid)}, "
                f"{len(record.mask)} channels pruned, {record.seconds:.1f} s"
            )
        self._show("")

    def trouble(self, line: str) -> None:
        say(line)

    def _show(self, detail: str) -> None:
        done = self.over + sum(self.live.values())
        self.bar.update(self.task, completed=round(done, 1), detail=escape(detail))
        if detail and not stderr().is_terminal and self.due():
            say(f"[{done:.1f}/{self.total}] {detail}")


def rates(counts: Counts) -> str:
    """Both rates of a split with their counts, in per cent."""
    clean, attack, *_ = counts.rates()
    return (
        ", ".join(
            f"{name} {rate.rate:.2%} ({rate.hits}/{rate.total})"
            for name, rate in (("clean accuracy", clean), ("attack success", attack))
        )
        + counts.trigger_words()
    )


def _whose(record: TrialRecord) -> str:
    """Whose fault a failed trial was, where its record says so."""
    said = {"input": "what was given", "machine": "the machine", "fault": "a fault of ours"}
    return f" ({said[record.failure]})" if record.failure in said else ""
