"""The networks of the field, by both of torch's exporters, through all that the product does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from every_file import check_network
from families import EXPORTERS, FAMILIES, exported, family, split_of

TABLE = os.environ.get("GOODNET_FAMILIES")  # a file that gets a line for each


@pytest.mark.slow
@pytest.mark.skipif(not TABLE, reason="a minute or more each; GOODNET_FAMILIES=FILE runs them and fills FILE")
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_read_pruned_and_written(name: str, exporter: str, tmp_path: Path) -> None:
    net, side = family(name)
    path = exported(net, exporter, side, tmp_path / "net.onnx")
    found = check_network(net, side, path, split_of(net, side, 100), split_of(net, side, 20))
    assert found["images"] == 200
    if TABLE:
        with Path(TABLE).open("a") as file:
            file.write(json.dumps({"family": name, "exporter": exporter, "side": side, **found}) + "\n")
