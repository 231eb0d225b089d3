"""Where in a checkpoint the network's weights are, and what else it says of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from prune_core.errors import InputError

T = TypeVar("T")

# Keys under which training scripts keep the network, the likeliest first.
KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "netC",  # the classifier beside a generator of triggers (input-aware attacks, WaNet)
    "network",
    "classifier",
    "model_state",
    "net_state_dict",
    "weights",
    "params",
    "module",
)
MAX_DEPTH = 4
MAX_TENSORS = 100_000
MAX_NAME = 500
_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and its kin, and of torch.compile


def state_of(saved: Any, is_tensor: Callable[[Any], bool], source: str) -> dict[str, Any]:
    """The state_dict in what ``torch.load`` returns: itself, or under one of ``KEYS``, nested ones too;
    without the names of wrappers. Raises InputError."""
    found = _find(saved, is_tensor, MAX_DEPTH)
    if found is None:
        keys = ", ".join(repr(str(k))[:40] for k in list(saved)[:5]) if isinstance(saved, Mapping) else ""
        holds = f"it holds {keys}" if keys else f"it holds a {type(saved).__name__}"
        raise InputError(
            f"{source}: no weights found in it ({holds}); expected a state_dict, as "
            "torch.save(net.state_dict(), ...) writes it"
        )
    if len(found) > MAX_TENSORS:
        raise InputError(f"{source}: {len(found)} tensors; at most {MAX_TENSORS}")
    for name in found:
        if len(name) > MAX_NAME or not name.isprintable():
            raise InputError(f"{source}: a tensor's name is too long or not printable: {name[:40]!r}")
    return unwrapped(found)


def _find(saved: Any, is_tensor: Callable[[Any], bool], depth: int) -> dict[str, Any] | None:
    if not isinstance(saved, Mapping) or depth == 0:
        return None
    for key in KEYS:
        if isinstance(saved.get(key), Mapping) and (found := _find(saved[key], is_tensor, depth - 1)):
            return found
    own = {k: v for k, v in saved.items() if isinstance(k, str) and is_tensor(v)}
    if own:
        return own
    inner = [found for value in saved.values() if (found := _find(value, is_tensor, depth - 1))]
    return inner[0] if len(inner) == 1 else None


def unwrapped(state: Mapping[str, T]) -> dict[str, T]:
    """``state`` without the names that wrappers put before others: ``module.`` in front of all, and
    ``_orig_mod.`` anywhere. Names that would then be equal keep theirs."""
    names = {key: key for key in state}
    while True:
        front = next((w for w in _WRAPPERS if all(n.startswith(w) and n != w for n in names.values())), None)
        if front is None:
            break
        names = {key: name.removeprefix(front) for key, name in names.items()}
    inner = {key: name.replace("._orig_mod.", ".").removeprefix("_orig_mod.") for key, name in names.items()}
    if len(set(inner.values())) == len(inner):
        names = inner
    return {names[key]: value for key, value in state.items()}


def said_of(saved: Any) -> dict[str, Any]:
    """What BackdoorBench's ``attack_result.pt`` says of its network: ``model_name``, ``num_classes`` and
    ``img_size`` (height, width, channels); {} of another file."""
    if not isinstance(saved, Mapping):
        return {}
    name, classes, size = (saved.get(key) for key in ("model_name", "num_classes", "img_size"))
    if not isinstance(name, str) or not isinstance(classes, int) or not 0 < classes < 10**6:
        return {}
    found: dict[str, Any] = {"model_name": name[:100], "num_classes": int(classes)}
    if isinstance(size, (list, tuple)) and len(size) == 3 and all(isinstance(s, int) for s in size):
        found["img_size"] = [int(s) for s in size]
    return found
