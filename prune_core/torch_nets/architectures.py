"""PyTorch architectures by name: ``torchvision:resnet18``, ``timm:NAME``, ``backdoorbench:NAME``,
``abl:wrn-16-1``, or the user's own ``package.module:function``."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from prune_core.errors import InputError
from prune_core.plugins.names import unknown
from prune_core.torch_nets.places import said_with_place, working_folder_importable
from prune_core.torch_nets.preact_resnet import preactresnet18, preactresnet34
from prune_core.torch_nets.torchvision_import import torchvision_models
from prune_core.torch_nets.wide_resnet import wide_resnet

FORMS = (
    "torchvision:NAME (as torchvision:resnet18), timm:NAME, backdoorbench:NAME, abl:wrn-16-1, or your own "
    "package.module:function that returns the module"
)
# BackdoorBench's names; those that are not here are torchvision's, under the same name. Its vision
# transformers enlarge images first, as part of the module: their keys begin with "1.".
_BACKDOORBENCH: Mapping[str, Callable[..., nn.Module]] = {
    "preactresnet18": preactresnet18,
    "preactresnet34": preactresnet34,
}
_BACKDOORBENCH_OF_TORCHVISION = (
    "resnet18", "resnet34", "resnet50", "alexnet", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16",
    "vgg16_bn", "vgg19", "vgg19_bn", "squeezenet1_0", "densenet121", "densenet161", "inception_v3",
    "googlenet", "shufflenet_v2_x1_0", "mobilenet_v2", "mobilenet_v3_large", "resnext50_32x4d",
    "wide_resnet50_2", "mnasnet1_0", "efficientnet_b0", "efficientnet_b3", "convnext_tiny", "vit_b_16",
    "vit_b_32", "vit_l_16", "vit_l_32",
)  # fmt: skip
BACKDOORBENCH = (*_BACKDOORBENCH, *_BACKDOORBENCH_OF_TORCHVISION)


@dataclass(frozen=True)
class Architecture:
    """A name with its arguments, as the user gave them.

    Attributes:
        kind: ``torchvision``, ``timm``, ``backdoorbench``, ``abl``, or the user's module.
        name: what is asked of it.
        arguments: keyword arguments for it.
    """

    kind: str
    name: str
    arguments: Mapping[str, Any]

    @property
    def text(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def own(self) -> bool:
        """Whether it is the user's own function."""
        return self.kind not in _MAKERS

    @property
    def sides(self) -> tuple[int, ...]:
        """Heights and widths of images, the usual one first, where no images say how large they are."""
        if self.kind in ("torchvision", "timm"):
            return (299, 224) if self.name.startswith("inception") else (224, 256)
        return (32, 64, 224)

    def made(self) -> nn.Module:
        """A new module, weights at random. Raises InputError."""
        with working_folder_importable():
            make = _MAKERS[self.kind](self.name) if not self.own else _own(self.kind, self.name)
            try:
                module = make(**self.arguments)
            except (Exception, SystemExit) as error:  # the user's code, or their arguments
                raise InputError(
                    f"architecture {self.text}{_shown(self.arguments)}: {said_with_place(error)}"
                ) from None
        if not isinstance(module, nn.Module):
            raise InputError(
                f"architecture {self.text} returned a {type(module).__name__}; expected a torch.nn.Module"
            )
        return module


def parsed(text: str, arguments: Mapping[str, Any] | None = None) -> Architecture:
    """``KIND:NAME`` or ``package.module:function``. Raises InputError for another form."""
    kind, _, name = text.partition(":")
    if not kind or not name or ":" in name:
        raise InputError(f"architecture {text!r} of PyTorch weights: expected {FORMS}")
    arguments = dict(arguments or {})
    if not all(isinstance(key, str) and key.isidentifier() for key in arguments):
        raise InputError(f"architecture_args of {text}: expected names of its arguments, as num_classes: 10")
    if kind not in _MAKERS and not (
        re.fullmatch(r"[A-Za-z_][\w.]*", kind) and re.fullmatch(r"[A-Za-z_][\w.]*", name)
    ):
        raise InputError(f"architecture {text!r}: expected {FORMS}")
    return Architecture(kind, name, arguments)


def _shown(arguments: Mapping[str, Any]) -> str:
    return f" with {', '.join(f'{k}={v!r}'[:60] for k, v in arguments.items())}" if arguments else ""


def _torchvision(name: str) -> Callable[..., nn.Module]:
    try:
        models = torchvision_models()
    except Exception as error:
        raise InputError(
            f"architecture torchvision:{name}: torchvision cannot be imported: {error}"
        ) from None
    known = [n for n in models.list_models() if "/" not in n and not n.endswith(("fpn", "raft_large"))]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        raise InputError(
            f"torchvision's network {name!r} is unknown; near it are {', '.join(near) or 'none'} "
            "(torchvision.models.list_models() has all)"
        )

    def make(**arguments: Any) -> nn.Module:
        # GoogLeNet and Inception draw their first weights slowly; they are replaced anyway.
        quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        found: nn.Module = models.get_model(name, **{"weights": None, **quick, **arguments})
        return found

    return make


def _timm(name: str) -> Callable[..., nn.Module]:
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise InputError(f"architecture timm:{name}: timm cannot be imported: {error}") from None
        raise InputError(
            f"architecture timm:{name} needs timm, which is not installed: pip install timm"
        ) from None
    except Exception as error:
        raise InputError(f"architecture timm:{name}: timm cannot be imported: {error}") from None
    if not timm.is_model(name):
        near = [n for n in timm.list_models() if n.startswith(name[:6])][:8]
        raise InputError(f"timm's network {name!r} is unknown; near it are {', '.join(near) or 'none'}")

    def make(**arguments: Any) -> nn.Module:
        found: nn.Module = timm.create_model(name, **{"pretrained": False, **arguments})
        return found

    return make


def _backdoorbench(name: str) -> Callable[..., nn.Module]:
    if name not in BACKDOORBENCH:
        raise InputError(unknown("BackdoorBench's network", name, BACKDOORBENCH))
    made = _BACKDOORBENCH.get(name) or _torchvision(name)

    def make(**arguments: Any) -> nn.Module:
        found = made(**{"num_classes": 10, **arguments})
        return enlarging(found) if name.startswith("vit_") else found

    return make


def enlarging(net: nn.Module) -> nn.Module:
    """A network for images of 224 x 224, and what makes images so large in front of it."""
    return nn.Sequential(nn.Upsample(size=(224, 224), mode="bilinear"), net)


def _abl(name: str) -> Callable[..., nn.Module]:
    found = re.fullmatch(r"wrn-(\d{1,3})-(\d{1,2})", name.lower())
    if found is None or int(found[1]) < 10 or (int(found[1]) - 4) % 6 or not int(found[2]):
        raise InputError(
            f"architecture abl:{name}: expected abl:wrn-DEPTH-WIDTH with a depth of 6 k + 4, as abl:wrn-16-1"
        )
    return lambda **arguments: wide_resnet(int(found[1]), int(found[2]), **arguments)


_MAKERS: Mapping[str, Callable[[str], Callable[..., nn.Module]]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "backdoorbench": _backdoorbench,
    "abl": _abl,
}


def _own(module: str, function: str) -> Callable[..., Any]:
    """The user's function, imported from where Python finds it or from the working folder."""
    what = f"architecture {module}:{function}"
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise InputError(f"{what}: {module} is a part of Python itself; expected {FORMS}")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(error.name + ".")):
            raise InputError(
                f"{what}: there is no module {error.name!r}, neither installed nor in the working folder; "
                f"expected {FORMS}"
            ) from None
        raise InputError(f"{what}: importing it failed: {said_with_place(error)}") from None
    except (Exception, SystemExit) as error:  # the user's code
        raise InputError(f"{what}: importing it failed: {said_with_place(error)}") from None
    there = [n for n in vars(found) if callable(getattr(found, n)) and not n.startswith("_")]
    for part in function.split("."):
        if not hasattr(found, part):
            raise InputError(f"{what}: " + unknown(f"function of {module}", part, there[:30]))
        found = getattr(found, part)
        if inspect.ismodule(found):
            raise InputError(
                f"{what}: {part} is a module; expected a function that returns the module of torch"
            )
    if not callable(found):
        raise InputError(f"{what} is a {type(found).__name__}; expected a function that returns the module")
    home = getattr(found, "__module__", None) if inspect.isroutine(found) or inspect.isclass(found) else None
    if isinstance(home, str) and home.partition(".")[0] in sys.stdlib_module_names:
        raise InputError(f"{what} is a function of Python itself ({home}), not yours; expected {FORMS}")
    function_found: Callable[..., Any] = found
    return function_found


def takes_classes(architecture: Architecture) -> bool:
    """Whether ``num_classes`` may be put in for the user: not for their own function without it."""
    if "num_classes" in architecture.arguments:
        return False
    if not architecture.own:
        return True
    with working_folder_importable():
        made = _own(architecture.kind, architecture.name)
    try:
        return "num_classes" in inspect.signature(made).parameters
    except (TypeError, ValueError):
        return False
