"""Options whose values have a form of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from prune_core.errors import InputError
from sweeps.config.yaml_limits import check_yaml


def arguments_of(given: Sequence[str]) -> dict[str, Any]:
    """``NAME=VALUE`` options as a mapping; values are YAML. Raises InputError."""
    found = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise InputError(f"--architecture-arg {text}: expected name=value, as num_classes=10")
        try:
            check_yaml(value)
            found[name] = yaml.safe_load(value)
        except (InputError, yaml.YAMLError, ValueError) as error:
            raise InputError(f"--architecture-arg {text}: {' '.join(str(error).split())[:200]}") from None
    return found


def image_of(given: str | None) -> tuple[int, int, int] | None:
    """``CxHxW`` as three numbers. Raises InputError."""
    if given is None:
        return None
    found = re.fullmatch(r"(\d{1,4})x(\d{1,5})x(\d{1,5})", given)
    if found is None or "0" in found.groups():
        raise InputError(f"--image-size {given}: expected channels x height x width, as 3x32x32")
    return int(found[1]), int(found[2]), int(found[3])


def keys_of(given: Sequence[str]) -> dict[str, str]:
    """``ROLE=NAME`` options as a mapping. Raises InputError."""
    found: dict[str, str] = {}
    for text in given:
        role, sign, name = text.partition("=")
        if not sign or not role or not name or role in found:
            raise InputError(f"--keys {text}: expected role=name, each role once, as images=pixels")
        found[role] = name
    return found


def words_of(option: str, given: str | None) -> tuple[str, ...]:
    """``a,b,c`` as words; none where nothing was given. Raises InputError."""
    words = () if given is None else tuple(word.strip() for word in given.split(","))
    if not all(words):
        raise InputError(f"{option} {given}: expected names with commas between them, as cat,dog")
    return words


def numbers_of(option: str, text: str) -> list[float]:
    """Numbers with commas between them. Raises InputError."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"{option} {text}: expected a number, or one for each channel as 0.5,0.5,0.5"
        ) from None


def indices_of(option: str, text: str) -> list[int]:
    """``K,K,...`` as whole numbers. Raises InputError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise InputError(f"{option} {text}: expected classes with commas between them, as 0,3")
    return [int(part) for part in parts]
