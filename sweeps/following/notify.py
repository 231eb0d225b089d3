"""Word of a sweep to a webhook: at its end, at the first state that is good enough, when trials fail.

The address is a secret (who has it can write there): it is neither kept in the storage nor logged, and no
message shows more of it than its host.
"""

from __future__ import annotations

import json
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from sweeps.config.sweep import SweepConfig
from sweeps.events import SweepEvents
from sweeps.following.course import Course

if TYPE_CHECKING:
    from sweeps.inputs.trial_inputs import TrialInputs
    from sweeps.progress import Tell
    from sweeps.records.trial_record import TrialRecord
    from sweeps.storage.manifest import Manifest
    from sweeps.sweep_result import SweepResult

TIMEOUT = 5.0  # seconds that a call may take
ATTEMPTS = 3
LAST = 20.0  # seconds that the sweep's end waits for calls under way


class Webhook:
    """JSON by HTTP POST, in a thread: whoever hands something in waits for nothing."""

    def __init__(self, url: str, tell: Tell, pause: float = 1.0) -> None:
        """``tell`` gets one line at the first message that is not taken; ``pause``: before the second
        attempt, seconds."""
        self.url, self.tell, self.pause = url, tell, pause
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._told = False
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
        self._thread.start()

    def send(self, message: dict[str, Any]) -> None:
        self._messages.put(message)

    def close(self, timeout: float = LAST) -> None:
        """Wait for what is under way, so long and no longer."""
        self._messages.put(None)
        self._thread.join(timeout)

    def _work(self) -> None:
        while (message := self._messages.get()) is not None:
            try:
                self._post(json.dumps(message, allow_nan=False).encode())
            except Exception as error:  # whatever is wrong with it, the sweep goes on
                if not self._told:
                    self._told = True
                    self.tell(
                        f"sweep.notify: {urlsplit(self.url).hostname} has not taken word of the sweep "
                        f"({_why(error)}); the sweep goes on without"
                    )

    def _post(self, data: bytes) -> None:
        attempts = Retrying(
            retry=retry_if_exception_type(OSError),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(self.pause),
            reraise=True,
        )
        attempts(self._once, data)

    def _once(self, data: bytes) -> None:
        request = urllib.request.Request(self.url, data, {"Content-Type": "application/json"}, method="POST")
        with _OPENER.open(request, timeout=TIMEOUT):
            pass


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A webhook that has moved is named anew: an answer does not decide where the sweep's figures go."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _why(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    return " ".join(str(getattr(error, "reason", "") or error).split())[:100] or type(error).__name__


class Notifier(SweepEvents):
    """Decides what is worth a word; ``send`` gets the messages."""

    def __init__(self, sweep: SweepConfig, send: Callable[[dict[str, Any]], None]) -> None:
        self.below, self.most, self.send = sweep.notify_below, sweep.notify_failures, send
        self.course = Course()
        self.new = False  # what is found from now on is found by this call
        self.reached = False
        self.in_a_row = 0

    def planned(self, manifest: Manifest, there: Sequence[TrialRecord], total: int) -> None:
        self.course.planned(manifest, there, total)
        self.reached = bool(there) and self._good_enough(there) is not None

    def ended(self, record: TrialRecord) -> None:
        self.course.ended(record)
        self.new = True
        self.in_a_row = self.in_a_row + 1 if record.status == "failed" else 0
        if self.in_a_row == self.most:
            self._say("failures", f"{self.most} trials in a row have failed, the last: {record.reason}")
        if not self.reached and (found := self._good_enough([record])) is not None:
            self.reached = True
            self._say(
                "reached",
                f"attack success {found['attack_success']:.2%} at clean accuracy "
                f"{found['clean_accuracy']:.2%} on validation",
                state=found,
            )

    def finished(self, result: SweepResult, inputs: TrialInputs) -> None:
        """Not of a call that had nothing to do."""
        if self.new:
            state = "interrupted" if result.stopped or result.left else "finished"
            trials = f"{len(result.records)} of {self.course.total} trials"
            self._say(state, f"{state}: {trials}, hypervolume {result.frontier.hypervolume:.4f}")

    def _good_enough(self, records: Sequence[TrialRecord]) -> dict[str, Any] | None:
        """The first state within its trial's X whose attack succeeds on at most ``below``."""
        for record in records if self.below is not None else ():
            for state in record.states():
                if state.counts.attack_success <= (self.below or 0.0):
                    return {
                        "trial_key": record.key,
                        "step": state.step,
                        "clean_accuracy": state.counts.clean_accuracy,
                        "attack_success": state.counts.attack_success,
                        "settings": str(record.settings),
                    }
        return None

    def _say(self, event: str, words: str, **more: Any) -> None:
        """``text`` is what chat services show of a message; ``sweep`` how it stands, as ``goodnet watch
        --json`` has it."""
        state = event if event in ("finished", "interrupted") else "running"
        standing = self.course.standing(state).to_json()  # type: ignore[arg-type]
        text = f"goodnet, sweep {standing['sweep']}: {words}"
        self.send({"event": event, "text": text, "sweep": standing, **more})
