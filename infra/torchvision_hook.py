"""Makes ``import torchvision`` (hence ``import onnx2torch``) work beside a torch that it was not built for.

Package indexes serve torchvision for CUDA. Beside a torch for the CPU its C++ library does not load, which
it bears, but for two operators that it describes without a look whether they are there: "operator
torchvision::nms does not exist". Here they are declared first, and only where that library does not load.
What needs the library still says so when it is called; everything else works.

``python infra/torchvision_hook.py`` writes it into the environment of that Python, as ``make`` does where the
import fails. Each start of that Python then takes about a millisecond more.
"""

import sys

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
NAME = "_goodnet_torchvision_hook"
_declared = []  # what is declared goes with the object that declared it


class Finder:
    """Finds torchvision as ever; what is to be declared is, when it is run and not when it is looked for."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "torchvision":
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module):
            declare(spec.submodule_search_locations or ())
            run(module)

        spec.loader.exec_module = exec_module
        return spec


def declare(folders):
    """The operators of SCHEMAS, unless torchvision's own library brings them."""
    from pathlib import Path

    import torch

    for library in (found for folder in folders for found in Path(folder).glob("_C*.so")):
        try:
            torch.ops.load_library(str(library))
            return
        except OSError:
            continue
    _declared.append(torch.library.Library("torchvision", "FRAGMENT"))
    for schema in SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):  # others do the same by hand
            _declared[-1].define(schema)


def install():
    if Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)


def write():
    """Into the folder of this Python's packages."""
    import sysconfig
    from pathlib import Path

    folder = Path(sysconfig.get_path("purelib"))
    (folder / f"{NAME}.py").write_text(Path(__file__).read_text())
    (folder / f"{NAME}.pth").write_text(f"import {NAME}; {NAME}.install()\n")


if __name__ == "__main__":
    write()
