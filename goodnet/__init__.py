"""Repair a backdoored convolutional network (a BadNet) by pruning channels.

Everything here is imported from ``prune_core`` and ``sweeps`` when it is first used, so that
``import goodnet`` takes no time and loads neither PyTorch nor Ray nor MLflow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goodnet import testing as testing
    from prune_core.api import PruneResult as PruneResult
    from prune_core.api import prune as prune
    from prune_core.counts import Ask as Ask
    from prune_core.counts import Counts as Counts
    from prune_core.data.images import Split as Split
    from prune_core.errors import InputError as InputError
    from prune_core.errors import Unavailable as Unavailable
    from prune_core.export.apply_mask import apply_mask as apply_mask
    from prune_core.export.zeroed import ExportMismatch as ExportMismatch
    from prune_core.greedy import PruneStep as PruneStep
    from prune_core.inversion.result import ScanResult as ScanResult
    from prune_core.inversion.scan import scan as scan
    from prune_core.masks import Channel as Channel
    from prune_core.masks import ChannelMask as ChannelMask
    from prune_core.model.from_module import from_module as from_module
    from prune_core.model.model import PrunableModel as PrunableModel
    from prune_core.model.model import load_model as load  # noqa: F401
    from prune_core.orders import KnownOrder as KnownOrder
    from prune_core.orders import OrderInput as OrderInput
    from prune_core.orders import register_order as register_order
    from prune_core.policies.registered import KnownPolicy as KnownPolicy
    from prune_core.policies.registry import register_policy as register_policy
    from prune_core.version import __version__ as __version__
    from sweeps.api import Sweep as Sweep
    from sweeps.api import sweep as sweep

# Where each name comes from, and what it is called there.
_FROM = {
    "Ask": "prune_core.counts:Ask",
    "Channel": "prune_core.masks:Channel",
    "ChannelMask": "prune_core.masks:ChannelMask",
    "Counts": "prune_core.counts:Counts",
    "ExportMismatch": "prune_core.export.zeroed:ExportMismatch",
    "InputError": "prune_core.errors:InputError",
    "KnownOrder": "prune_core.orders:KnownOrder",
    "KnownPolicy": "prune_core.policies.registered:KnownPolicy",
    "OrderInput": "prune_core.orders:OrderInput",
    "PrunableModel": "prune_core.model.model:PrunableModel",
    "PruneResult": "prune_core.api:PruneResult",
    "PruneStep": "prune_core.greedy:PruneStep",
    "Split": "prune_core.data.images:Split",
    "Sweep": "sweeps.api:Sweep",
    "Unavailable": "prune_core.errors:Unavailable",
    "apply_mask": "prune_core.export.apply_mask:apply_mask",
    "from_module": "prune_core.model.from_module:from_module",
    "load": "prune_core.model.model:load_model",
    "prune": "prune_core.api:prune",
    "scan": "prune_core.inversion.scan:scan",
    "ScanResult": "prune_core.inversion.result:ScanResult",
    "register_order": "prune_core.orders:register_order",
    "register_policy": "prune_core.policies.registry:register_policy",
    "sweep": "sweeps.api:sweep",
    "testing": "goodnet.testing:",
    "__version__": "prune_core.version:__version__",
}
__all__ = list(_FROM)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"module 'goodnet' has no attribute {name!r}")
    module, _, attribute = _FROM[name].partition(":")
    found = importlib.import_module(module)
    value = getattr(found, attribute) if attribute else found
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_FROM})
