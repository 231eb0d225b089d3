"""Versions of operators that took in more types of numbers, or options that have to be left out, and
otherwise do what the version before did."""

from __future__ import annotations

from prune_core.model.converters.registry import converts, is_registered, registered

# operator: (the version that onnx2torch converts, those that do the same)
SAME: dict[str, tuple[tuple[int, tuple[int, ...]], ...]] = {
    "Acos": ((7, (22,)),),
    "ArgMax": ((11, (1,)),),
    "ArgMin": ((11, (1,)),),
    "Asin": ((7, (22,)),),
    "Atan": ((7, (22,)),),
    "Cast": ((9, (6,)), (13, (19, 21, 23, 24, 25, 28))),
    "Celu": ((12, (28,)),),
    "ConstantOfShape": ((9, (20, 21, 23, 24, 25)),),
    "Conv": ((11, (22,)),),
    "Cos": ((7, (22,)),),
    "DepthToSpace": ((13, (28,)), (11, (1,))),
    "Dropout": ((10, (7,)), (13, (22,))),
    "Einsum": ((12, (28,)),),
    "Elu": ((6, (22,)),),
    "Equal": ((13, (19,)),),
    "EyeLike": ((9, (22,)),),
    "Flatten": ((9, (1,)), (13, (21, 23, 24, 25))),
    "Gemm": ((9, (7,)),),
    "GlobalAveragePool": ((1, (22,)),),
    "GreaterOrEqual": ((12, (16,)),),
    "HardSigmoid": ((6, (22,)),),
    "HardSwish": ((14, (22,)),),
    "Identity": ((16, (19, 21, 23, 24, 25)),),
    "InstanceNormalization": ((6, (22,)),),
    "IsNaN": ((13, (9, 20)),),
    "LessOrEqual": ((12, (16,)),),
    "Max": ((8, (6,)),),
    "Mean": ((8, (6,)),),
    "Min": ((8, (6,)),),
    "Mod": ((13, (28,)),),
    "Range": ((11, (27,)),),
    "Round": ((11, (22,)),),
    "ScatterND": ((16, (18,)),),
    "Selu": ((6, (22,)),),
    "Shape": ((15, (19, 21, 23, 24, 25)),),
    "Sin": ((7, (22,)),),
    "Softplus": ((1, (22,)),),
    "Softsign": ((1, (22,)),),
    "Sum": ((8, (6,)),),
    "Tan": ((7, (22,)),),
    "Transpose": ((13, (21, 23, 24, 25)),),
    "Unsqueeze": ((13, (21, 23, 24, 25)),),
}

for _operator, _groups in SAME.items():
    for _known, _versions in _groups:
        for _version in _versions:
            if not is_registered(_operator, _version):
                converts(_operator, _version)(registered(_operator, _known))
