"""Networks of the field through all that the product does: some whole ones, by each way in. All of them,
by all ways: ``make families``, which writes docs/families.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from every_file import check_network
from families import family, file_of, split_of

WHOLE = [  # quick ones of different operators; docs/families.md has all of them
    ("alexnet", "dynamo"),
    ("mobilenet_v3_small", "state_dict"),
    ("shufflenet_v2_x0_5", "dynamo"),
    ("squeezenet1_1", "torchscript"),
    ("timm_convnext", "state_dict"),
    ("vit", "dynamo"),
    ("vit", "state_dict"),
    ("wrn_16_1", "state_dict"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name, way", WHOLE)
def test_a_family_is_read_pruned_and_written(name: str, way: str, tmp_path: Path) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm", reason="pip install timm")
    net, side = family(name)
    given = file_of(name, net, way, tmp_path)
    found = check_network(net, side, given, split_of(net, side, 100), split_of(net, side, 20))
    assert found["images"] == 200
    assert found["classes"] > 1
