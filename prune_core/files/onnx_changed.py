"""Networks of which version 0.1 made another function than ONNX says: counts kept then are not theirs."""

from __future__ import annotations

import onnx

# In every form that 0.1 read: CumSum ran from the other end, IsInf took both signs, NonZero gave its
# indices by rows.
_ALWAYS = ("CumSum", "IsInf", "NonZero")


def was_read_otherwise(model: onnx.ModelProto) -> bool:
    """Whether version 0.1 read one of the model's operators as something else. ``model``: as the file has
    it, or ``normalized``."""
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    return any(_read_otherwise(node, opset) for node in model.graph.node)


def _read_otherwise(node: onnx.NodeProto, opset: int) -> bool:
    fields = {a.name: a for a in node.attribute}
    if node.op_type == "AveragePool":  # the last window, where it hangs over the edge, had another size
        return "ceil_mode" in fields and fields["ceil_mode"].i != 0
    if node.op_type == "Pad" and opset < 11:  # the value was taken for 0
        return "value" in fields and fields["value"].f != 0.0
    if node.op_type == "Slice" and opset < 10:
        return True
    return node.op_type in _ALWAYS
