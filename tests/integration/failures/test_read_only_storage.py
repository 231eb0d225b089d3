"""What only looks at a sweep leaves its storage as it is, which may be one that cannot be written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq

from sweeps.storage.storage import Storage


def listing(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file and folder, with the time of its last change and the digest of its bytes."""
    return {
        str(path): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in (folder, *folder.rglob("*"))
    }


def as_before(runs: Path) -> None:
    """Records and manifest as version 0.1 wrote them."""
    for path in (runs / "trials").glob("*.parquet"):
        table = pq.read_table(path)
        head = json.loads(table.schema.metadata[b"goodnet"])
        for added in ("failure", "nets", "ran"):
            head.pop(added, None)
        pq.write_table(table.replace_schema_metadata({b"goodnet": json.dumps(head).encode()}), path)
    (manifest,) = (runs / "sweeps").glob("*.json")
    told = json.loads(manifest.read_text())
    del told["findings"], told["looked"]
    manifest.write_text(json.dumps(told))


def test_looking_changes_nothing(goodnet, smoke_config, tmp_path, monkeypatch) -> None:
    """Of records as they are now, and as version 0.1 wrote them; states have to be measured on test each
    time."""
    given = ("sweep.orders=[l1]", f"tracking.uri=sqlite:///{tmp_path}/mlflow/mlflow.db")
    options = [part for one in given for part in ("--set", one)]
    swept = goodnet("sweep", smoke_config, "--executor", "inline", "--json", *options)
    assert swept.status == 0, swept.err
    runs = tmp_path / "runs"
    (kept,) = (runs / "sweeps").glob("*.frontier.parquet")
    kept.unlink()

    def refused(*given: object) -> None:
        raise PermissionError(13, "Permission denied", str(runs))

    for verb in ("write_bytes", "begin"):
        monkeypatch.setattr(Storage, verb, refused)
    pick = ("pick", "--knee", "--no-register", "--out", tmp_path / "out")
    looks = (("frontier",), ("frontier", "--json"), ("list",), ("trials",), pick)
    for older in (False, True):
        if older:
            as_before(runs)
        before = listing(runs)
        for command in looks[: len(looks) - (not older)]:
            said = goodnet(*command, "--storage", runs)
            assert said.status == 0, said.err
        assert listing(runs) == before
