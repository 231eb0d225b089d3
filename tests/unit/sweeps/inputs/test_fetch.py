"""Data named by URI: read where it is, or fetched once and again when it changes."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from pyarrow import fs

from prune_core.errors import InputError
from sweeps.inputs import fetch
from sweeps.inputs.fetch import local_file


def test_paths_and_files_of_this_machine_stay_where_they_are(tmp_path) -> None:
    assert local_file("data/x.h5") == Path("data/x.h5")
    assert local_file(f"file://{tmp_path}/x.h5") == tmp_path / "x.h5"


def test_a_file_from_afar_is_fetched_once(tmp_path, monkeypatch) -> None:
    """A store that pyarrow would open by URI, stood in for by a folder that is no local file system."""
    store = tmp_path / "store"
    store.mkdir()
    afar = fs.SubTreeFileSystem(str(store), fs.LocalFileSystem())
    opened = SimpleNamespace(from_uri=lambda uri: (afar, uri.removeprefix("s3://")))
    monkeypatch.setattr(
        fetch,
        "fs",
        SimpleNamespace(FileSystem=opened, LocalFileSystem=fs.LocalFileSystem, FileType=fs.FileType),
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (store / "x.h5").write_bytes(b"one")
    copy = local_file("s3://x.h5")
    assert copy.name == "x.h5" and copy.read_bytes() == b"one"
    before = copy.stat().st_mtime_ns
    assert local_file("s3://x.h5") == copy and copy.stat().st_mtime_ns == before
    (store / "x.h5").write_bytes(b"other")
    os.utime(store / "x.h5", (1, 1))
    assert local_file("s3://x.h5").read_bytes() == b"other"
    with pytest.raises(InputError, match=r"s3://none\.h5: no such file"):
        local_file("s3://none.h5")


def test_an_unknown_scheme_is_one_line() -> None:
    with pytest.raises(InputError, match=r"nowhere://x: cannot be read: "):
        local_file("nowhere://x")


def test_a_sweep_whose_data_are_uris(goodnet, smoke_config) -> None:
    tree = yaml.safe_load(smoke_config.read_text())
    tree["data"] = {name: f"file://{path}" for name, path in tree["data"].items()}
    tree["badnet"] = f"file://{tree['badnet']}"
    smoke_config.write_text(yaml.safe_dump(tree))
    said = goodnet("sweep", smoke_config, "--executor", "inline", "--json", "--set", "sweep.orders=[l1]")
    assert said.status == 0, said.err
    assert said.json["done"] == said.json["trials"] == 4
