"""The pages for people: links lead somewhere, lists are whole, and commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from prune_core.methods import ALL_POLICIES, REPAIRS
from prune_core.orders import ORDERS
from sweeps.config.schema import Config
from sweeps.config.search import Section

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "infra/README.md"])


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ +(.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), target


def test_the_readme_is_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


def test_every_order_policy_and_repair_is_explained() -> None:
    text = (ROOT / "docs/methods.md").read_text()
    rows = set(re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^\|.*$", text, re.M))))
    assert {*ORDERS, *ALL_POLICIES, *REPAIRS} - {"none"} <= rows


def keys(section: type[Section], prefix: str = "") -> set[str]:
    """Every key that a configuration may have, dotted; a range's and a trigger's own are left out."""
    found = set()
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            found |= keys(inner, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


def test_every_key_of_the_configuration_is_explained() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    firsts = re.findall(r"^\| *(`[^|]*) *\|", text, re.M)
    assert keys(Config) - set(re.findall(r"`([^`]+)`", "\n".join(firsts))) == set()


def rooms(package: str) -> set[str]:
    folders = (ROOT / package).iterdir()
    return {f"{package}/{f.name}/" for f in folders if f.is_dir() and any(f.glob("*.py"))}


def test_every_room_is_on_the_plan() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    explained = set(re.findall(r"^\| `([^`]+/)` \|", text, re.M))
    assert explained == rooms("prune_core") | rooms("sweeps")
    (picture,) = re.findall(r"^```mermaid\nflowchart TB\n(.*?)^```", text, re.S | re.M)
    drawn = set(re.findall(r"\w+/(?!>)", picture))
    assert drawn == {f"{room.split('/')[1]}/" for room in explained}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_and_files_that_commands_name_are_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    if page.name == "CHANGELOG.md":  # speaks of other times
        return
    text = page.read_text()
    for target in re.findall(r"(?:^|`)make ((?:[a-z]+-?)+)\b", text, re.M):
        assert target in targets, target
    for block in re.findall(r"^```(?:sh|text)\n(.*?)^```", text, re.S | re.M):
        for line in block.splitlines():
            words = shlex.split(line.partition("#")[0])
            for word in words:
                if re.fullmatch(r"(configs|tests|infra)/[\w./-]+", word.partition("=")[2] or word):
                    assert (ROOT / (word.partition("=")[2] or word)).exists(), word
