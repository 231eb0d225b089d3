"""All who follow a sweep while it runs, beside a person's terminal and MLflow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sweeps.events import Everyone, SweepEvents
from sweeps.following.live import Live, Renew
from sweeps.storage.manifest import Manifest
from sweeps.storage.storage import Storage


@contextlib.contextmanager
def followed(manifest: Manifest, storage: Storage, renew: Renew) -> Iterator[SweepEvents]:
    """Within it they hear of the sweep; after it each has said its last word. ``renew``: gets files that show
    the sweep as it stands, now and then, in a thread."""
    live = Live(manifest, storage, renew)
    try:
        yield Everyone(live)
    finally:
        live.close()
