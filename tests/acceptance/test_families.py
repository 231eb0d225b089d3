"""The networks of the field, by both of torch's exporters, through all that the product does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from every_file import check_network
from families import EXPORTERS, FAMILIES, exported, family, split_of

# Each cell takes a minute or more. GOODNET_FAMILIES=FILE runs all of them, and gives FILE a line for each.
TABLE = os.environ.get("GOODNET_FAMILIES")
ALL = [(name, exporter) for name in FAMILIES for exporter in EXPORTERS]
CELLS = ALL if TABLE else [("resnet18", "dynamo"), ("squeezenet1_1", "torchscript")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exporter"), CELLS)
def test_a_family_is_read_pruned_and_written(name: str, exporter: str, tmp_path: Path) -> None:
    net, side = family(name)
    path = exported(net, exporter, side, tmp_path / "net.onnx")
    found = check_network(net, side, path, split_of(net, side, 100), split_of(net, side, 20))
    assert found["images"] == 200
    if TABLE:
        with Path(TABLE).open("a") as file:
            file.write(json.dumps({"family": name, "exporter": exporter, "side": side, **found}) + "\n")
