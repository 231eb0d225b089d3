"""Orders and policies that only the driver's process knows, on their way to the workers of a sweep."""

from __future__ import annotations

from dataclasses import dataclass

from ray import cloudpickle

from prune_core import orders
from prune_core.errors import InputError
from prune_core.plugins.registry import Plugin, Plugins
from prune_core.policies import registry
from sweeps.config.sweep import SweepConfig

_KINDS: tuple[Plugins, ...] = (orders.OTHERS, registry.OTHERS)


@dataclass(frozen=True)
class Travelling:
    """What the driver has registered and its sweep names, as bytes that workers unpack. It is the user's
    own code, of the process that started the sweep; nothing from a file is unpacked here."""

    packed: tuple[tuple[int, bytes], ...] = ()

    @classmethod
    def of(cls, sweep: SweepConfig) -> Travelling:
        """Raises InputError, one line, for one that cannot travel."""
        plain = [name.removeprefix(orders.ACROSS) for name in sweep.orders]
        packed = [
            (kind, _packed(_KINDS[kind].what, plugin))
            for kind, names in enumerate((plain, sweep.policies))
            for plugin in _KINDS[kind].registered(names)
        ]
        return cls(tuple(packed))

    def unpack(self) -> None:
        """Make them known to this process. Raises InputError where it has not what they are made of."""
        for kind, data in self.packed:
            try:
                plugin: Plugin = cloudpickle.loads(data)
            except Exception as error:  # a module that is not here, mostly
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                raise InputError(
                    f"a registered {_KINDS[kind].what} cannot be unpacked in a worker: {reason}; install its "
                    "package there, best with an entry point (docs/api.md)"
                ) from None
            _KINDS[kind].adopt([plugin])


def _packed(what: str, plugin: Plugin) -> bytes:
    try:
        data: bytes = cloudpickle.dumps(plugin)
    except Exception as error:  # a function can hold on to anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"{what} {plugin.name!r} is registered in this process alone and cannot be sent to workers "
            f"({reason}); offer it by an entry point of an installed package (docs/api.md), or sweep with "
            "executor inline"
        ) from None
    return data
