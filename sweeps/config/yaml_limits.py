"""Bounds on YAML, before it is parsed."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

MAX_YAML = 2**15  # letters; ours have one thousand


MAX_DEPTH = 50  # brackets within brackets: PyYAML takes quadratic time for them


MAX_NODES = 20_000  # values, with what aliases stand for counted each time


def check_yaml(text: str) -> None:
    """Raises ValueError for YAML that is too large, too deep, expands too far or asks for anything
    but values and ``${oc.env:NAME,default}``. Nothing is expanded to find out."""
    if len(text) > MAX_YAML:
        raise ValueError(f"{len(text)} characters; a configuration has at most {MAX_YAML}")
    depth = 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if depth > MAX_DEPTH:
            raise ValueError("too deeply nested")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _count(root, {}, set())
    except RecursionError:
        raise ValueError("too deeply nested") from None


def _count(node: yaml.Node, known: dict[int, int], within: set[int]) -> int:
    """Values below a node and itself, those that an alias repeats each time."""
    if id(node) in within:
        raise ValueError("an alias contains itself")
    if id(node) in known:
        return known[id(node)]
    if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
        raise ValueError(f"tag {node.tag!r}; only plain values are read")
    total = 1
    within.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        _check_text(node.value)
    else:
        parts: Iterable[yaml.Node] = node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        for part in parts:
            total += _count(part, known, within)
            if total > MAX_NODES:
                raise ValueError(f"more than {MAX_NODES} values, aliases counted")
    within.discard(id(node))
    known[id(node)] = total
    return total


def _check_text(text: str) -> None:
    """Interpolations of other keys can double a text again and again; only the environment's."""
    for part in text.split("${")[1:]:
        if not part.startswith("oc.env:") or "${" in part:
            raise ValueError("only ${oc.env:NAME,default} is resolved")
