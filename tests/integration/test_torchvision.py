"""``import onnx2torch`` as users write it, in the environment that ``make`` makes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOOK = Path(__file__).resolve().parents[2] / "infra" / "torchvision_hook.py"
SAYS = "import onnx2torch, torchvision; print(torchvision.models.resnet18(num_classes=3).fc.out_features)"


def said(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_as_users_write_it(tmp_path: Path) -> None:
    assert said(SAYS, tmp_path) == "3"


def test_beside_the_same_by_hand(tmp_path: Path) -> None:
    """Programs that declare the operators before their import, as is advised, go on working."""
    by_hand = "import torch; made = torch.library.Library('torchvision', 'FRAGMENT'); "
    by_hand += "made.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'); "
    assert said(by_hand + SAYS, tmp_path) == "3"


def test_torch_is_not_loaded_by_a_look_for_torchvision(tmp_path: Path) -> None:
    """As libraries do that use it where it is there; and the hook may be installed twice."""
    shutil.copyfile(HOOK, tmp_path / "hook.py")
    look = "import hook, importlib.util, sys; hook.install(); hook.install(); "
    look += "print(importlib.util.find_spec('torchvision') is not None, 'torch' in sys.modules)"
    assert said(look, tmp_path) == "True False"


TORCH = """
class ops:
    class torchvision: pass
    def load_library(path):
        if {there}: return
        raise OSError("libcudart.so.13: cannot open shared object file")
class library:
    class Library:
        def __init__(self, *given): pass
        def define(self, schema): print(schema.split("(")[0])
"""


@pytest.mark.parametrize(("there", "declared"), [(False, "nms qnms"), (True, "")])
def test_operators_are_declared_only_where_they_are_not_there(
    tmp_path: Path, there: bool, declared: str
) -> None:
    """``there``: a package whose library loads and brings them."""
    shutil.copyfile(HOOK, tmp_path / "hook.py")
    (tmp_path / "torch.py").write_text(TORCH.format(there=there))
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "_C.so").write_bytes(b"")
    (tmp_path / "torchvision" / "__init__.py").write_text("")
    code = "import hook, sys; "  # a finder may be an object without a name
    code += "sys.meta_path[:] = [f for f in sys.meta_path if getattr(f, '__name__', '') != 'Finder']; "
    code += "sys.path.insert(0, '.'); hook.install(); import torchvision"
    assert said(code, tmp_path).split() == declared.split()
