"""Does anything answer at MLflow's address? An answer within seconds, in one line."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from prune_core.errors import InputError, Unavailable

SQLITE = "sqlite:///"
SERVERS = ("http://", "https://", "postgresql://", "postgresql+", "mysql://", "mysql+", "mssql+")
_EXPECTED = "expected http(s)://host:port of an MLflow server, or sqlite:///path/of/mlflow.db"

# What MLflow's long messages come down to.
_REASONS = (
    ("Invalid Host header", "it refuses this host name; start it with --allowed-hosts"),
    ("Connection refused", "nothing listens there (connection refused)"),
    ("NameResolutionError", "the host name is not known"),
    ("Name or service not known", "the host name is not known"),
    ("timed out", "it does not answer"),
    ("error code 401", "it requires a login (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD)"),
    ("error code 403", "it refuses access (403)"),
    ("error code 404", "something answers, but it is not an MLflow server (404)"),
    ("database is locked", "its SQLite file is locked by another process"),
    ("database or disk is full", "the disk is full"),
    ("disk I/O error", "its SQLite file cannot be written; is the disk full?"),
    ("No space left on device", "the disk is full"),
    (
        "out-of-date database schema",
        "its database was made by another version of MLflow; back it up and run mlflow db upgrade with this "
        "address, or, if the newer MLflow made it, install that one here",
    ),
)


# A proxy's 502 is to MLflow what every error is, and databases have one kind for all that happens to them: of
# these the words are all that tells that it may pass by itself.
_AWAY_WORDS = ("error code 50", "Connection refused", "timed out", "could not translate host name")


# What MLflow says to a driver that another was faster than: its run, param or tag is there, or is deleted.
_REFUSALS = ("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS")


class TrackingAway(Unavailable):
    """MLflow does not answer now, and may later."""


def check_address(uri: str, seconds: float, ask: Callable[[], None]) -> None:
    """Raises InputError within about ``seconds`` unless MLflow can be used at ``uri``; TrackingAway when
    that may change by itself.

    ``ask`` puts a question to MLflow; it is called for all but new SQLite files, which are opened
    by hand, since the first use of a new file through MLflow takes many seconds.
    """
    try:
        if uri.startswith(SQLITE):
            if _check_sqlite(sqlite_path(uri)):
                with contextlib.suppress(TimeoutError):  # nobody but us and the disk is asked
                    _within(seconds, ask)
        elif uri.startswith(SERVERS):
            _within(seconds, ask)
        else:
            raise InputError(f"tracking.uri {shown(uri)!r}: {_EXPECTED}")
    except InputError:
        raise
    except Exception as error:  # every client library behind MLflow has its own
        kind = TrackingAway if _away(error) else InputError
        raise kind(f"MLflow at {shown(uri)}: {why(error)}; {_EXPECTED}") from None


def _away(error: BaseException) -> bool:
    """Whether it may pass by itself: nothing answers, or only that something is out of order."""
    import requests  # both are MLflow's, which is there where an error of it is
    from sqlalchemy.exc import OperationalError

    silent = (TimeoutError, ConnectionError, socket.gaierror, requests.ConnectionError, requests.Timeout)
    link: BaseException | None = error
    while link is not None:
        worded = isinstance(link, OperationalError) or hasattr(link, "get_http_status_code")  # of MLflow
        if (
            isinstance(link, silent)
            or getattr(link, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            or (worded and any(words in str(link) for words in _AWAY_WORDS))
        ):
            return True
        link = link.__cause__ or link.__context__
    return False


def refused(error: BaseException) -> bool:
    """Whether MLflow is there and does not take what it was given, as when another driver of the same sweep
    writes the same at the same moment."""
    return getattr(error, "error_code", None) in _REFUSALS


def sqlite_path(uri: str) -> Path:
    """The file of a ``sqlite:///`` address."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def shown(uri: str) -> str:
    """The address without the password in it."""
    return re.sub(r"//[^/@]*@", "//", uri)


def why(error: BaseException) -> str:
    """An MLflow error in a few words and one line, without passwords."""
    text = " ".join(str(error).split())
    known = next((words for sign, words in _REASONS if sign in text), None)
    return known or shown(text)[:200] or type(error).__name__


def _within(seconds: float, ask: Callable[[], None]) -> None:
    """``ask()`` in a thread that is left behind when it takes longer: name look-ups and servers
    that send a byte now and then escape every time limit of the HTTP client."""
    errors: list[Exception] = []

    def work() -> None:
        try:
            ask()
        except Exception as error:  # handed to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work, name="mlflow-check", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    if errors:
        raise errors[0]


def _check_sqlite(path: Path) -> bool:
    """Whether MLflow's tables are there. Raises unless the database, or a new file in its folder, can be
    written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(f"its folder {path.parent} cannot be written")
        return False
    database = sqlite3.connect(path, timeout=3)
    try:
        database.execute("BEGIN IMMEDIATE")
        database.rollback()
        known = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
        return database.execute(known).fetchone() is not None
    finally:
        database.close()
