"""All who follow a sweep while it runs, beside a person's terminal and MLflow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sweeps.events import Everyone, SweepEvents
from sweeps.following.live import Live, Renew
from sweeps.following.notify import Notifier, Webhook
from sweeps.following.study import StudyCopy, study_address
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.progress import Tell
from sweeps.storage.manifest import Manifest
from sweeps.storage.storage import Storage


@contextlib.contextmanager
def followed(
    manifest: Manifest, inputs: TrialInputs, storage: Storage, renew: Renew, tell: Tell
) -> Iterator[SweepEvents]:
    """Within it they hear of the sweep; after it each has said its last word. ``renew``: gets files that show
    the sweep as it stands, now and then, in a thread. ``tell``: gets a line where one of them fails."""
    sweep = manifest.config.sweep
    with contextlib.ExitStack() as at_the_end:
        live = Live(manifest, storage, renew)
        at_the_end.callback(live.close)
        followers: list[SweepEvents] = [live]
        address = study_address(sweep.study, storage)
        if address is not None:
            study = StudyCopy(manifest, inputs, address, tell)
            at_the_end.callback(study.close)
            followers.append(study)
        if sweep.notify is not None:
            webhook = Webhook(sweep.notify, tell)
            at_the_end.callback(webhook.close)
            followers.append(Notifier(sweep, webhook.send))
        yield Everyone(*followers)
