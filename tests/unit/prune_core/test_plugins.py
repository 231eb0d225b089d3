"""Orders and policies of other people: registered here, or offered by a package that is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import prune_core.orders as orders
from prune_core.api import prune
from prune_core.errors import InputError
from prune_core.methods import ALL_POLICIES, CLEAN, TRUE_LABELS, method_of
from prune_core.plugins.registry import Plugins
from prune_core.policies import registry
from prune_core.testing.net import images_for, tiny_net
from sweeps.config.schema import make_config
from sweeps.records.settings import TrialSettings, trial_key


def last_first(given):
    return {n: -np.arange(given.model.layer(n).channels) for n in given.layers}


def in_order(evaluator, order, x):
    yield from registry.prune("in-order", x, evaluator, order)


@pytest.fixture
def registered() -> Iterator[None]:
    orders.register_order("last-first", last_first, needs="clean images", version="1")
    registry.register_policy("mine", in_order, needs="clean images")
    yield
    orders.OTHERS.forget("last-first")
    registry.OTHERS.forget("mine")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], None]]:
    """Installs a package: its name, the text of its module, and its entry points."""

    def install(name: str, module: str, points: str) -> None:
        (tmp_path / f"{name}.py").write_text(module)
        info = tmp_path / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(points)

    monkeypatch.syspath_prepend(str(tmp_path))
    plugins: tuple[Plugins, ...] = (orders.OTHERS, registry.OTHERS)
    for one in plugins:
        monkeypatch.setattr(one, "_offered", None)
        monkeypatch.setattr(one, "_loaded", {})
    yield install


def settings(order: str = "l1", policy: str = "margin") -> TrialSettings:
    return TrialSettings(order, ("first",), 4.0, policy)


def key(order: str = "l1", policy: str = "margin") -> str:
    return trial_key(settings(order, policy), "b", "v", "t")


@pytest.mark.usefixtures("registered")
def test_a_registered_order_and_policy_work_as_built_in_ones() -> None:
    given = {"layers": ["third", "second"], "policy": "mine", "x": 100.0}
    split = images_for("true")
    ours = prune(tiny_net(), split, order="last-first", **given)
    assert (
        ours.steps == prune(tiny_net(), split, order="reverse-index", **given | {"policy": "in-order"}).steps
    )
    assert prune(tiny_net(), split, order="across:last-first", **given).steps != ours.steps
    config = {"badnet": "embedded", "sweep": {"orders": ["across:last-first"], "policies": ["mine"]}}
    assert make_config({"name": "a", **config}, "a test").sweep.policies == ("mine",)
    assert method_of("mine").assumption == CLEAN
    assert settings("last-first", "mine").method.assumption == CLEAN


def test_a_name_that_nobody_knows_is_refused_by_configurations_too() -> None:
    config = {"name": "a", "badnet": "embedded", "sweep": {"orders": ["last-firts"]}}
    with pytest.raises(
        InputError, match="'sweep.orders': order 'last-firts' is unknown; expected one of index"
    ):
        make_config(config, "a test")


def test_keys_of_built_in_ones_are_as_they_were() -> None:
    # Worked out by the version before: settings, digests and ALGORITHM_VERSION 4 alone.
    assert key() == "9952a6f54a9fdd419ce3"
    assert key("across:taylor", "best-first") == "39bf980eac405fec3017"


@pytest.mark.usefixtures("registered")
def test_another_version_is_another_trial() -> None:
    before = key("across:last-first")
    orders.register_order("last-first", last_first, version="2", replace=True)
    assert key("across:last-first") != before
    with_policy = key(policy="mine")  # its version is worked out of this file and the function's defaults
    registry.register_policy("mine", lambda e, o, x, more=1: in_order(e, o, x), replace=True)
    assert key(policy="mine") != with_policy


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("name", ["index", "taylor", "last-first"])
def test_a_name_that_exists_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"order '{name}' exists already; choose another name"):
        orders.register_order(name, last_first)


@pytest.mark.parametrize("name", [*ALL_POLICIES, "Big", "none", "a b", ""])
def test_names_of_built_in_policies_and_no_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="exists already|expected small letters"):
        registry.register_policy(name, in_order, replace=True)


def test_what_cannot_be_used_is_refused() -> None:
    shift = 3

    def closure(given):
        return {n: s + shift for n, s in last_first(given).items()}

    for arguments, line in (
        ((closure,), "give version="),
        (("text",), "got a str; expected a function of"),
        ((last_first, "magic"), "needs 'magic' is unknown; expected one of 'nothing'"),
    ):
        with pytest.raises(InputError, match=line):
            orders.register_order("new", arguments[0], **dict(zip(["needs"], arguments[1:], strict=False)))
    assert "new" not in orders.order_names()


def test_a_policy_that_breaks_the_bound_is_stopped() -> None:
    registry.register_policy("bold", lambda e, o, x: registry.prune("in-order", 100.0, e, o))
    try:
        with pytest.raises(InputError, match="policy 'bold': it accepted .* at most X = 1 may be"):
            prune(tiny_net(), images_for("true"), layers="last:3", order="l1", policy="bold", x=1.0)
    finally:
        registry.OTHERS.forget("bold")


def test_a_package_offers_an_order_and_a_policy(installed) -> None:
    module = (
        "import numpy as np\n"
        "from prune_core.orders import KnownOrder\n"
        "from prune_core.policies.registry import prune\n"
        "def score(given): return {n: -np.arange(given.model.layer(n).channels) for n in given.layers}\n"
        "order = KnownOrder(score, 'nothing', scale=None)\n"
        "def walk(evaluator, order, x): return prune('in-order', x, evaluator, order)\n"
    )
    points = (
        "[goodnet.orders]\nlast = offering:order\nplain = offering:score\nindex = offering:score\n"
        "[goodnet.policies]\nwalk = offering:walk\n"
    )
    installed("offering", module, points)
    split, layers = images_for("true"), ["second"]
    found = prune(tiny_net(), split, layers=layers, order="last", policy="walk", x=50.0)
    assert (
        found.steps
        == prune(tiny_net(), split, layers=layers, order="reverse-index", policy="in-order", x=50.0).steps
    )
    assert {"last", "plain"} <= set(orders.order_names())
    assert orders.find_order("plain").needs == TRUE_LABELS_IN_WORDS and method_of("margin", "none").kind
    assert settings("plain").method.assumption == TRUE_LABELS
    assert orders.order_version("last").startswith("offering 1.2: source ")
    assert orders.find_order("index") is orders.ORDERS["index"]  # what is built in stays
    with pytest.raises(InputError, match="order 'last' exists already"):
        orders.register_order("last", last_first, replace=True)


TRUE_LABELS_IN_WORDS = "poisoned images with true labels"


def test_a_broken_package_is_one_line_and_harms_nobody_else(installed) -> None:
    installed("broken_plugin", "import not_there_at_all\n", "[goodnet.orders]\nbad = broken_plugin:score\n")
    assert "bad" in orders.order_names() and orders.find_order("l1")
    with pytest.raises(
        InputError, match=r"order 'bad' of package broken_plugin 1.2 cannot be loaded .*ModuleNotFoundError"
    ):
        orders.find_order("across:bad")
    assert str(settings("bad")) and settings("bad").method  # an old record can still be shown


def test_two_packages_with_one_name_are_told(installed) -> None:
    for name in ("one", "other"):
        installed(name, "def score(given): ...\n", f"[goodnet.orders]\ntwice = {name}:score\n")
    with pytest.raises(InputError, match="more than one package \\(one 1.2, other 1.2\\)"):
        orders.find_order("twice")
