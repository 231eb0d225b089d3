"""The audits of a frontier over workers: each of them makes the entries of a net, and keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prune_core.audits.plan import Bench
from prune_core.audits.subject import Subject
from prune_core.errors import InputError, Unavailable
from prune_core.masks import ChannelMask
from sweeps.auditing.state import Auditor
from sweeps.config.schema import ResourcesConfig
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.results import FrontierPoint
from sweeps.storage.audit_store import AuditStore
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage


@dataclass(frozen=True)
class NetToAudit:
    """``trial`` and ``weights``: where changed weights are, and their digest; None of a net that is pruned
    and no more. ``audits``: names."""

    trial: str
    weights: str | None
    mask: ChannelMask
    audits: tuple[str, ...]


def spread(
    auditor: Auditor, points: Sequence[FrontierPoint], resources: ResourcesConfig, storage: Storage
) -> None:
    """Have workers make what is missing of the audits of these states and of the BadNet. A net that fails
    there is said and left to the caller, who finds its entries missing."""
    from sweeps.execution.ray_cluster import over_workers  # ray takes seconds to import

    badnet = NetToAudit("", None, ChannelMask(), auditor.audits)
    states = [NetToAudit(p.trial_key, p.weights, p.mask, auditor.audits) for p in points]
    nets = {(one.mask.digest, one.weights): one for one in (badnet, *states)}.values()
    todo, done = [one for one in nets if auditor.left(_subject(auditor.inputs, storage, one))], 0
    if not todo:
        return
    try:
        for found in over_workers(audit_net, todo, auditor.inputs, storage, resources, auditor.say):
            done += 1
            if isinstance(found, Exception):
                auditor.say(f"audits of a net failed in a worker: {' '.join(str(found).split())[:200]}")
            auditor.tell("over the workers", done, len(todo), f"{len(todo) - done} nets are left")
    except (InputError, Unavailable) as error:
        auditor.say(f"audits are made in this process: {error}")


def audit_net(inputs: TrialInputs, storage: Storage, one: NetToAudit) -> None:
    """In a worker: what is missing of a net's audits, each kept as soon as it is there. Raises InputError."""
    bench = Bench.of(Subject(inputs.model), inputs.valid, inputs.test)
    store = AuditStore(storage)
    auditor = Auditor("", inputs, store, bench, None, one.audits, lambda line: None, lambda *of: None)
    auditor.audited("goodnet", _subject(inputs, storage, one))


def _subject(inputs: TrialInputs, storage: Storage, one: NetToAudit) -> Subject:
    weights = RecordStore(storage).weights(one.trial, one.weights)
    return Subject(inputs.model.with_weights(weights), one.mask)
