"""Options of architectures: what they are read as, and one line where they are mistyped."""

from __future__ import annotations

import pytest

from prune_core.errors import InputError
from sweeps.cli.values import arguments_of, image_of, keys_of, words_of


def test_values_are_yaml() -> None:
    given = ["num_classes=43", "widths=[4, 6]", "bias=false", "name=a b", "empty="]
    assert arguments_of(given) == {
        "num_classes": 43,
        "widths": [4, 6],
        "bias": False,
        "name": "a b",
        "empty": None,
    }
    assert arguments_of([]) == {}


@pytest.mark.parametrize("given", ["num_classes", "num classes=3", "=3", "a=[", "a=!!python/name:os.system"])
def test_mistyped_arguments(given: str) -> None:
    with pytest.raises(InputError, match="^--architecture-arg "):
        arguments_of([given])


def test_a_size() -> None:
    assert image_of("3x32x48") == (3, 32, 48) and image_of(None) is None


@pytest.mark.parametrize("given", ["32", "3x32", "0x32x32", "3x32x32x1", "3 x 32 x 32", "-3x2x2"])
def test_mistyped_sizes(given: str) -> None:
    with pytest.raises(InputError, match="expected channels x height x width, as 3x32x32"):
        image_of(given)


def test_names_of_fields_and_of_classes() -> None:
    assert (
        keys_of(["images=pixels", "label=a=b"]) == {"images": "pixels", "label": "a=b"} and keys_of([]) == {}
    )
    assert words_of("--classes", "cat, dog") == ("cat", "dog") and words_of("--classes", None) == ()


@pytest.mark.parametrize("given", [["images"], ["=x"], ["images="], ["label=a", "label=b"]])
def test_mistyped_names_of_fields(given: list[str]) -> None:
    with pytest.raises(InputError, match="^--keys .*: expected role=name"):
        keys_of(given)


@pytest.mark.parametrize("given", ["", "cat,", "cat,,dog"])
def test_mistyped_names_of_classes(given: str) -> None:
    with pytest.raises(InputError, match="^--classes .*expected names with commas"):
        words_of("--classes", given)
