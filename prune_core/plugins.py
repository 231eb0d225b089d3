"""Orders and policies of other people: registered in this process, or offered by installed packages.

A package offers one by an entry point (``goodnet.orders``, ``goodnet.policies``). Entry points are listed
when a name is asked for that is not built in, and loaded when it is theirs: so workers on other machines
see them too, and a package that is broken harms nobody who does not name it.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from prune_core.errors import InputError
from prune_core.names import unknown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")

# What an order or a policy may declare to need, beyond the network; from the least to the most.
NEEDS = (
    "nothing",
    "clean images",
    "clean and poisoned images",
    "pairs of clean and poisoned images",
    "poisoned images with true labels",
)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Plugin(Generic[T]):
    """One that was not built in.

    Attributes:
        name: what configurations call it.
        value: the thing itself.
        version: a part of the key of every trial that uses it, so that what an earlier version found is
            never shown for this one.
    """

    name: str
    value: T
    version: str


class Plugins(Generic[T]):
    """Those of one kind.

    Args:
        what: the kind, in words: "order", "policy".
        group: of entry points.
        builtin: the names that are taken.
        made: from what an entry point holds to the thing and the version it declares. Raises InputError.
    """

    def __init__(
        self,
        what: str,
        group: str,
        builtin: Callable[[], Iterable[str]],
        made: Callable[[object], tuple[T, str | None, Callable[..., Any]]],
    ) -> None:
        self.what, self.group, self.builtin, self.made = what, group, builtin, made
        self._here: dict[str, Plugin[T]] = {}
        self._offered: dict[str, list[EntryPoint]] | None = None
        self._loaded: dict[str, Plugin[T]] = {}

    def names(self) -> tuple[str, ...]:
        """Registered ones, then those of packages; nothing is loaded."""
        return (*self._here, *(n for n in self._entry_points() if n not in self._here))

    def find(self, name: str) -> Plugin[T] | None:
        """The one of that name; None where there is none. Raises InputError, one line with the name of
        the package, where a package offers it and cannot give it."""
        if name in self._here:
            return self._here[name]
        if name not in self._loaded:
            offered = self._entry_points().get(name)
            if offered is None:
                return None
            self._loaded[name] = self._load(name, offered)
        return self._loaded[name]

    def register(
        self, name: str, value: T, function: Callable[..., Any], version: str | None, replace: bool
    ) -> None:
        """Raises InputError for a name that is taken or is no name."""
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "none":
            raise InputError(
                f"{self.what} name {name!r}: expected small letters, digits, '.', '_' and '-', at most 64"
            )
        taken = name in self.builtin() or name in self._entry_points()
        if taken or (name in self._here and not replace):
            hint = "" if taken else " (replace=True takes the place of one registered before)"
            raise InputError(f"{self.what} {name!r} exists already; choose another name{hint}")
        self._here[name] = Plugin(name, value, version or _source_version(self.what, name, function))

    def registered(self, names: Iterable[str]) -> list[Plugin[T]]:
        """Those of ``names`` that only this process knows."""
        return [self._here[name] for name in dict.fromkeys(names) if name in self._here]

    def adopt(self, plugins: Iterable[Plugin[T]]) -> None:
        """Take what another process has registered."""
        self._here.update((plugin.name, plugin) for plugin in plugins)

    def forget(self, name: str) -> None:
        """Undo ``register``; for tests."""
        self._here.pop(name, None)

    def unknown(self, name: object) -> str:
        """What is said of a name that is neither built in nor a plugin's."""
        return unknown(self.what, name, (*self.builtin(), *self.names()))

    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        if self._offered is None:
            from importlib.metadata import entry_points  # takes a while, and is rarely wanted

            self._offered = {}
            taken = set(self.builtin())
            for point in entry_points(group=self.group):
                if point.name not in taken:  # a package cannot change what is built in
                    self._offered.setdefault(point.name, []).append(point)
        return self._offered

    def _load(self, name: str, offered: list[EntryPoint]) -> Plugin[T]:
        packages = sorted({_package(point) for point in offered})
        if len({point.value for point in offered}) > 1:
            raise InputError(
                f"{self.what} {name!r} is offered by more than one package ({', '.join(packages)}); "
                "uninstall all but one"
            )
        where = f"{self.what} {name!r} of package {packages[0]}"
        try:
            value, version, function = self.made(offered[0].load())
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        except Exception as error:  # someone else's module can fail in any way
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise InputError(f"{where} cannot be loaded ({offered[0].value}): {reason}") from None
        version = version or _source_version(self.what, name, function)
        return Plugin(name, value, f"{packages[0]}: {version}")


def check_needs(what: str, needs: object) -> None:
    """Raises InputError for words that are not of ``NEEDS``."""
    if needs not in NEEDS:
        raise InputError(f"{what}: needs {needs!r} is unknown; expected one of {', '.join(map(repr, NEEDS))}")


def check_function(what: str, function: object, arguments: str) -> None:
    """Raises InputError for what cannot be called."""
    if not callable(function):
        raise InputError(f"{what}: got a {type(function).__name__}; expected a function of ({arguments})")


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value


def _source_version(what: str, name: str, function: Callable[..., Any]) -> str:
    """A digest of the file that a function is written in (of its own text where there is no file, as in
    a notebook) and of its default arguments: a change of either is another version."""
    plain = inspect.unwrap(function)
    if not inspect.isfunction(plain) or plain.__closure__:
        raise InputError(
            f"{what} {name!r}: give version='...', a text that changes whenever its results do; only of a "
            "plain function without variables from around it can that be worked out"
        )
    try:
        file = Path(inspect.getfile(plain))
        source = file.read_bytes() if file.is_file() else inspect.getsource(plain).encode()
    except (OSError, TypeError):
        raise InputError(
            f"{what} {name!r}: its source cannot be read; give version='...', a text that changes whenever "
            "its results do"
        ) from None
    defaults = repr((plain.__qualname__, plain.__defaults__, plain.__kwdefaults__))
    return "source " + hashlib.sha256(source + defaults.encode()).hexdigest()[:16]
