"""Word of a sweep to a webhook: which, when, and never in the sweep's way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from factories import make_frontier, make_manifest, make_record

from prune_core.errors import InputError
from sweeps.config.schema import Config, make_config
from sweeps.config.search import checked_webhook
from sweeps.following.notify import Notifier, Webhook
from sweeps.sweep_result import SweepResult

BUSY = 60.0  # seconds that a loaded machine may take


class Receiver(HTTPServer):
    """A webhook on this machine; ``statuses`` are its answers in turn, then 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[Any] = []
        self.statuses: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/secret"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers["Content-Type"], json.loads(data)))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.send_header("Location", f"{self.server.url}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(BUSY)


def config(**sweep: Any) -> Config:
    return make_config({"name": "example", "badnet": "embedded", "sweep": sweep}, "a test")


def told(records: list[Any], there: list[Any] = [], **sweep: Any) -> list[dict[str, Any]]:  # noqa: B006
    """What is sent of a sweep with these trials, to its end."""
    sent: list[dict[str, Any]] = []
    notifier = Notifier(config(notify="http://host/path", **sweep).sweep, sent.append)
    manifest = make_manifest([*there, *records])
    notifier.planned(manifest, there, len(there) + len(records))
    for record in records:
        notifier.ended(record)
    everything = [*there, *records]
    result = SweepResult(manifest, everything, make_frontier(everything), len(there))
    notifier.finished(result, None)  # type: ignore[arg-type]
    return sent


def test_the_end_is_told() -> None:
    (end,) = told([make_record("a", [(980, 250)])])
    assert (end["event"], end["sweep"]["state"], end["sweep"]["trials"]["done"]) == (
        "finished",
        "finished",
        1,
    )
    assert end["text"] == "goodnet, sweep sweep-1: finished: 1 of 1 trials, hypervolume 0.5000"


def test_a_call_with_nothing_to_do_tells_nothing() -> None:
    assert told([], there=[make_record("a", [(980, 250)])], notify_below=0.9) == []


def test_the_first_state_that_is_good_enough_is_told_once() -> None:
    records = [
        make_record("a", [(980, 250)]),
        make_record("b", [(970, 50), (960, 0)]),
        make_record("c", [(970, 5)]),
    ]
    reached, end = told(records, notify_below=0.1)
    assert reached["event"] == "reached" and end["event"] == "finished"
    assert (reached["state"]["trial_key"], reached["state"]["step"]) == ("b", 1)
    assert (reached["state"]["clean_accuracy"], reached["state"]["attack_success"]) == (0.97, 0.1)
    assert reached["sweep"]["state"] == "running"


def test_what_an_earlier_call_has_reached_is_not_told_again() -> None:
    (end,) = told([make_record("c", [(970, 5)])], there=[make_record("b", [(970, 50)])], notify_below=0.1)
    assert end["event"] == "finished"


def test_failures_in_a_row_are_told_once_each_time() -> None:
    def failed(*keys: str) -> list[Any]:
        return [make_record(key, reason=f"{key} has no pairs") for key in keys]

    trials = [*failed("a"), make_record("b"), *failed("c", "d", "e"), make_record("f"), *failed("g", "h")]
    sent = told(trials, notify_failures=2)
    assert [message["event"] for message in sent] == ["failures", "failures", "finished"]
    assert "2 trials in a row have failed, the last: d has no pairs" in sent[0]["text"]


def test_a_webhook_gets_json(receiver: Receiver) -> None:
    webhook = Webhook(receiver.url, pytest.fail)
    webhook.send({"event": "finished", "text": "ü"})
    webhook.close(BUSY)
    assert receiver.got == [("/secret", "application/json", {"event": "finished", "text": "ü"})]


def test_it_is_tried_again(receiver: Receiver) -> None:
    receiver.statuses = [503, 500]
    webhook = Webhook(receiver.url, pytest.fail, pause=0.0)
    webhook.send({"event": "finished"})
    webhook.close(BUSY)
    assert len(receiver.got) == 3


@pytest.mark.parametrize(("status", "said"), [(404, "HTTP 404"), (302, "HTTP 302"), (307, "HTTP 307")])
def test_what_is_not_taken_is_told_once_without_the_address(
    receiver: Receiver, status: int, said: str
) -> None:
    """Without the address; and an answer that points elsewhere is followed nowhere."""
    receiver.statuses = [status] * 6
    lines: list[str] = []
    webhook = Webhook(receiver.url, lines.append, pause=0.0)
    webhook.send({"event": "reached"})
    webhook.send({"event": "finished"})
    webhook.close(BUSY)
    assert {path for path, *_ in receiver.got} == {"/secret"} and len(receiver.got) == 6
    assert len(lines) == 1 and said in lines[0] and "secret" not in lines[0] and "goes on" in lines[0]


def test_nobody_there_is_told_and_nothing_raised() -> None:
    server = Receiver()
    url = server.url
    server.server_close()
    lines: list[str] = []
    webhook = Webhook(url, lines.append, pause=0.0)
    webhook.send({"event": "finished"})
    webhook.close(BUSY)
    assert len(lines) == 1


def test_a_webhook_is_no_part_of_the_sweep() -> None:
    """Neither of its manifest nor of its name nor of what MLflow shows."""
    plain = config()
    told = config(notify="https://host/secret", notify_below=0.1, notify_failures=5)
    assert told.model_dump(mode="json") == plain.model_dump(mode="json")
    assert "secret" not in repr(told) and told.sweep.notify == "https://host/secret"


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "host/path", "ftp://host/x", "http://", "https://h o/x", ""]
)
def test_what_is_no_webhook_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InputError, match="'sweep.notify': not the address of a webhook; expected"):
        config(notify=url)
    with pytest.raises(ValueError):
        checked_webhook(url)


def test_a_limit_needs_a_webhook() -> None:
    with pytest.raises(InputError, match="notify_below .* goes with sweep.notify"):
        config(notify_below=0.1)
