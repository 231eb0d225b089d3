"""What is kept of the audits of a state: taken for this very net alone, and never two nets in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import factories
import pytest

from prune_core.audits.entries import AUDITS_VERSION, Entry
from prune_core.masks import ChannelMask
from sweeps.auditing.state import Auditor
from sweeps.decision.evidence import evidence_of
from sweeps.results import FrontierPoint
from sweeps.storage.audit_store import AuditStore
from sweeps.storage.storage import Storage

COUNTS = factories.make_counts(95, 5)
POINT = FrontierPoint("trial-1", 1, ChannelMask.of({"conv_4": [1]}), COUNTS, COUNTS)
AS_IT_IS = Entry("as-it-is", {}, None, (9, 10), (1, 100), (1, 100), (9, 10), "").to_json()
INT8 = {**AS_IT_IS, "audit": "int8"}


def kept(**changes: Any) -> dict[str, Any]:
    state = {
        "version": AUDITS_VERSION,
        "sweep": "sweep-1",
        "trial": "trial-1",
        "step": 1,
        "model_digest": "b" * 8,
        "mask_digest": POINT.mask.digest,
        "weights_digest": None,
        "data_digests": {"valid": "v" * 8, "test": "t" * 8},
        "subjects": {"goodnet": [AS_IT_IS], "badnet": [AS_IT_IS]},
        "skipped": [],
    }
    return {**state, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"model_digest": "another"},
        {"mask_digest": "another"},
        {"data_digests": {"valid": "v" * 8, "test": "other images"}},
        {"skipped": ["int8"]},
        {"version": AUDITS_VERSION - 1},
        {"version": None},
    ],
)
def test_a_report_shows_audits_of_this_very_net_alone(tmp_path: Path, changes: dict[str, Any]) -> None:
    storage, manifest = Storage(str(tmp_path)), factories.make_manifest()
    AuditStore(storage).keep_state(kept())
    assert evidence_of(storage, manifest, POINT, None).audit == kept()
    AuditStore(storage).keep_state(kept(**changes))
    assert evidence_of(storage, manifest, POINT, None).audit is None


def test_an_audit_of_another_version_is_told_from_none(tmp_path: Path) -> None:
    store = AuditStore(Storage(str(tmp_path)))
    assert not store.outdated("sweep-1", "trial-1", 1)
    for version, outdated in ((AUDITS_VERSION, False), (AUDITS_VERSION - 1, True), (None, True)):
        store.keep_state(kept(version=version))
        assert store.outdated("sweep-1", "trial-1", 1) == outdated


@pytest.mark.parametrize(
    ("now", "shown"),
    [({"benign_digest": "one"}, ["as-it-is", "int8"]), ({"benign_digest": "other"}, ["int8"]), ({}, None)],
)
def test_two_benign_nets_are_never_one_column(
    tmp_path: Path, now: dict[str, str], shown: list[str] | None
) -> None:
    nothing: Any = None
    store = AuditStore(Storage(str(tmp_path)))
    auditor = Auditor("sweep-1", nothing, store, nothing, nothing, (), print, print)
    both = {"goodnet": [AS_IT_IS], "benign": [AS_IT_IS]}
    store.keep_state(kept(subjects=both, benign_digest="one"))
    subjects = {"goodnet": [INT8], **({"benign": [INT8]} if now else {})}
    merged = auditor._with_earlier(kept(subjects=subjects, **now))
    assert [entry["audit"] for entry in merged["subjects"]["goodnet"]] == ["as-it-is", "int8"]
    assert [entry["audit"] for entry in merged["subjects"]["benign"]] == (shown or ["as-it-is"])
    assert merged["benign_digest"] == now.get("benign_digest", "one")
