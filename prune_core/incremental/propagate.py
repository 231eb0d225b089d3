"""What a change of mask does to the values of a network, told as differences from a base mask.

A value under the new mask has one of three forms: None, the same as under the base; a `Piece`,
changed only at some indices of one axis; or a tensor, changed throughout. What no rule covers is
computed anew from whole values, so any operator is right, and known ones are fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from prune_core.incremental.activation_cache import Kept
from prune_core.incremental.base_values import BaseValues, Rows, pruned_in
from prune_core.incremental.channel_delta import MOVE_NAMES, Piece, conv_of, convolved, depthwise, through
from prune_core.incremental.dataflow import Chain, Dataflow, Step, Values
from prune_core.masks import ChannelMask, channels_apart

Form = Piece | torch.Tensor | None
# Above this share of changed channels, a piece is no cheaper than the whole.
WHOLE_SHARE = 0.7


class Run(BaseValues):
    """One block of images under ``mask``, starting from what is kept of ``base``."""

    def __init__(
        self,
        flow: Dataflow,
        kept: Kept,
        base: ChannelMask,
        mask: ChannelMask,
        rows: Rows,
        pixels: Callable[[], torch.Tensor],
    ) -> None:
        super().__init__(flow, kept, base, rows, pixels)
        self.mask = mask
        self.apart = channels_apart(base, mask)
        self.forms: dict[str, Form] = {}
        self.raw_forms: dict[str, Form] = {}  # of nodes in chains, own mask left out
        # Largest raw value of each channel of a convolution over all images, where somebody knows
        # it. With it, raw values that a ReLU is sure to silence are left out: set it only when raw
        # values are not to be kept.
        self.ceiling: Callable[[str], torch.Tensor | None] = lambda node: None

    def go(self, steps: Sequence[Step]) -> None:
        """Find the form of each step's value; steps that are left out count as unchanged."""
        for step in steps:
            if step.chain is not None:
                self.forms[step.name] = self._advance_chain(step)
            elif any(self.forms.get(i) is not None for i in step.inputs):
                self.forms[step.name] = self._advance(step)

    def new(self, name: str) -> torch.Tensor:
        """The whole value under the new mask."""
        form = self.forms.get(name)
        if isinstance(form, Piece):
            return form.into(self.old(name))
        return self.old(name) if form is None else form

    def let_go(self) -> None:
        """Drop all values. Pieces refer back to their run, so that otherwise activations would stay
        until the next collection of cycles."""
        for values in (self.forms, self.raw_forms, self._raw, self._old):
            values.clear()

    def _advance_chain(self, step: Step) -> Form:
        chain = self.flow.chains[str(step.chain)]
        form: Form = None
        if step.name == chain.start:
            if any(self.forms.get(i) is not None for i in step.inputs):
                form = self._advance(step)
        else:
            at = chain.nodes.index(step.name)
            before = self.raw_forms[chain.nodes[at - 1]]
            if isinstance(before, Piece):
                act, index = chain.acts[at - 1], before.index
                form = before.mapped(lambda values: act(values, index), chain.axes[at])
            elif before is not None:
                form = step.call({step.inputs[0]: before})
        self.raw_forms[step.name] = form
        return self._masked_end(chain, form) if step.name == chain.end else form

    def _masked_end(self, chain: Chain, raw: Form) -> Form:
        """The form at a chain's end, both masks applied."""
        pruned = pruned_in(chain, self.mask)
        changed = sorted(c.index for c in self.apart if c.layer == chain.layer.name)
        if raw is None:
            return self.changed_piece(chain, changed) if changed else None
        if isinstance(raw, Piece):
            if not changed and raw.axis == chain.axes[-1]:
                index, axis, new = raw.index, raw.axis, raw.new
                if pruned:  # else nothing has to be read back from a GPU
                    stays = [i for i, c in enumerate(index.tolist()) if c not in set(pruned)]
                    if not stays:
                        return None
                    if len(stays) < len(index):
                        rest = torch.tensor(stays, device=index.device)
                        index, new = index[rest], new.index_select(axis, rest)
                old = lambda: self._raw_channels(chain, index)  # noqa: E731
                return Piece(axis, index, new, old)
            raw = raw.into(self.raw(chain.end))
        whole = self.flow.masked(chain, raw, pruned, self.mask.keep_bias)
        return self._narrowed(chain, whole) if len(chain.nodes) > 1 else whole

    def _narrowed(self, chain: Chain, whole: torch.Tensor) -> Form:
        """A changed tensor as a piece, when most channels of it stayed the same after all: behind
        a ReLU, many are silent."""
        raw = self.raw(chain.start) if self._at_hand(chain.start) else None
        if raw is None:
            return whole
        axis = chain.axes[-1]
        others = [a for a in range(1, whole.ndim) if a != axis]
        differs = (whole != self.old(chain.end)).any(dim=0)
        alive = differs.any(dim=[a - 1 for a in others]) if others else differs
        index = alive.nonzero().flatten()
        if len(index) == 0:
            return None
        if len(index) > WHOLE_SHARE * len(alive):
            return whole
        old = lambda: self.old(chain.end).index_select(axis, index)  # noqa: E731
        return Piece(axis, index, whole.index_select(axis, index), old)

    def changed_piece(self, chain: Chain, channels: list[int]) -> Piece:
        """Channels of a layer whose own mask changed and whose input did not, at the chain's end."""
        index = torch.tensor(channels, device=self.flow.model.device)
        old = lambda: self._channels(chain, index, self.base)  # noqa: E731
        return Piece(chain.axes[-1], index, self._channels(chain, index, self.mask), old)

    # Operators ------------------------------------------------------------------------------

    def _advance(self, step: Step) -> Form:
        if len(step.inputs) == 1:
            form = self.forms.get(step.inputs[0])
            found = self._unary(step, form) if isinstance(form, Piece) else None
        elif type(step.module).__name__ == "OnnxConcat":
            found = self._concat(step)
        else:
            found = self._binary(step) if self._adds(step) else None
        if found is not None:
            return found
        values: Values = {i: self.new(i) for i in step.inputs}
        return step.call(values)

    def _unary(self, step: Step, piece: Piece) -> Form:
        """None: no rule."""
        module = step.module
        if len(step.operands) == 1 and module is not None:
            ndim = piece.new.ndim
            found = through(module, ndim, piece.axis)
            if found is not None:
                act, axis = found
                return piece.mapped(lambda values: act(values, piece.index), axis)
            if conv_of(module) is not None and piece.axis == 1:
                return self._conv(step, module, piece)
            if isinstance(module, nn.Linear):
                if piece.axis != ndim - 1:
                    return piece.mapped(module, piece.axis)
                return self._linear(step, module.weight.T, piece)
        if type(module).__name__ == "OnnxMatMul":
            if len(step.operands) != 2 or step.operands[0] != step.inputs[0]:
                return None
            weight = self.flow.constants.get(step.operands[1])
            if weight is not None and weight.ndim == 2 and piece.axis == piece.new.ndim - 1:
                return self._linear(step, weight, piece)
            return None
        if self._adds(step) and len(set(step.operands)) == 2:
            return self._with_constant(step, piece)
        if type(module).__name__ in MOVE_NAMES:
            moves = self.flow.moves(step)
            return None if moves is None else moves.piece(piece)
        return None

    def _conv(self, step: Step, module: nn.Module, piece: Piece) -> Form:
        conv = conv_of(module)
        assert conv is not None
        if conv.groups == conv.in_channels and conv.groups > 1:
            return depthwise(module, piece)
        few = len(piece.index) <= WHOLE_SHARE * conv.in_channels
        if conv.groups > 1 or not few or not self._at_hand(step.name):
            return None
        rows = self._audible(step, conv, piece)
        if rows is None:
            return self.raw(step.name) + convolved(module, piece.change, piece.index, None, False)
        old = self.raw(step.name).index_select(1, rows)
        return Piece(1, rows, old + convolved(module, piece.change, piece.index, rows, False), lambda: old)

    def _audible(self, step: Step, conv: nn.Conv2d, piece: Piece) -> torch.Tensor | None:
        """The output channels that may be more than 0 behind the ReLU that follows, before or after
        the change, and that the layer's mask leaves alive; the others are 0 both times. None when
        they are most, or no ReLU follows."""
        ceiling = self.ceiling(step.name)
        chain = self.flow.chains.get(str(step.chain))
        if ceiling is None or chain is None or len(chain.nodes) < 2:
            return None
        if not isinstance(self.flow.steps[chain.nodes[1]].module, nn.ReLU):
            return None
        weight = conv.weight[:, piece.index]
        # Over images first: along the contiguous axes that is several times as fast.
        low, high = piece.change.amin(dim=0), piece.change.amax(dim=0)
        low, high = low.amin(dim=(1, 2)), high.amax(dim=(1, 2))
        rise = weight.clamp_min(0).sum(dim=(2, 3)) @ high.clamp_min(0)
        rise = rise + weight.clamp_max(0).sum(dim=(2, 3)) @ low.clamp_max(0)
        top = ceiling + rise * (1 + 1e-5)
        alive = top > -1e-5 * (ceiling.abs() + rise)
        if not any(c.layer == chain.layer.name for c in self.apart):
            alive[pruned_in(chain, self.mask)] = False
        alive[0] |= not alive.any()  # no operator has to cope with no channels
        rows = alive.nonzero().flatten()
        return rows if len(rows) <= WHOLE_SHARE * len(alive) else None

    def _linear(self, step: Step, weight: torch.Tensor, piece: Piece) -> Form:
        """``weight``: (in, out)."""
        few = len(piece.index) <= WHOLE_SHARE * len(weight)
        if not few or not self._at_hand(step.name):
            return None
        return self.raw(step.name) + piece.change @ weight[piece.index]

    def _with_constant(self, step: Step, piece: Piece) -> Form:
        module = step.module
        assert module is not None
        first = step.operands[0] == step.inputs[0]
        constant = self.flow.constants[step.operands[1 if first else 0]]
        ndim = piece.new.ndim
        before, after = self.flow.steps[step.inputs[0]].shape, self.flow.steps[step.name].shape
        if constant.ndim > ndim or before is None or after is None or len(before) != len(after):
            return None
        if before[piece.axis - 1] != after[piece.axis - 1]:
            return None
        along = piece.axis - (ndim - constant.ndim)
        if constant.ndim == ndim and len(constant) != 1:
            return None
        if along >= 0 and constant.shape[along] != 1:
            constant = constant.index_select(along, piece.index)
        if first:
            return piece.mapped(lambda values: module(values, constant), piece.axis)
        return piece.mapped(lambda values: module(constant, values), piece.axis)

    def _binary(self, step: Step) -> Form:
        """Two values of one shape, each of any form."""
        a, b = step.inputs
        shape = self.flow.steps[a].shape
        if shape is None or shape != self.flow.steps[b].shape:
            return None
        if any(isinstance(self.forms.get(n), torch.Tensor) for n in (a, b)):
            return None
        pieces = [p for p in (self.forms.get(a), self.forms.get(b)) if isinstance(p, Piece)]
        axis, index = pieces[0].axis, pieces[0].index
        if any(p.axis != axis for p in pieces):
            return None
        if len(pieces) == 2 and not torch.equal(index, pieces[1].index):
            index = torch.cat([p.index for p in pieces]).unique()

        def part(name: str, new: bool) -> torch.Tensor:
            form = self.forms.get(name)
            if isinstance(form, Piece) and torch.equal(form.index, index):
                return form.new if new else form.old
            values = self.old_part(name, axis, index)
            if isinstance(form, Piece) and new:
                values = values.index_copy(axis, torch.searchsorted(index, form.index), form.new)
            return values

        return Piece(
            axis,
            index,
            step.call({n: part(n, new=True) for n in (a, b)}),
            lambda: step.call({n: part(n, new=False) for n in (a, b)}),
        )

    def _concat(self, step: Step) -> Form:
        """Pieces and unchanged values, joined along the axis of the pieces."""
        forms = [self.forms.get(n) for n in step.operands]
        shape = self.flow.steps[step.name].shape
        if not forms or shape is None or any(isinstance(f, torch.Tensor) for f in forms):
            return None
        axis = int(step.module.axis) % (len(shape) + 1)  # type: ignore[union-attr, arg-type]
        pieces: list[Piece] = []
        offsets: list[int] = []
        offset = 0
        for name, form in zip(step.operands, forms, strict=True):
            part = self.flow.steps[name].shape if name in self.flow.steps else None
            if part is None or (isinstance(form, Piece) and form.axis != axis):
                return None
            if isinstance(form, Piece):
                pieces.append(form)
                offsets.append(offset)
            offset += part[axis - 1]
        return Piece(
            axis,
            torch.cat([p.index + o for p, o in zip(pieces, offsets, strict=True)]),
            torch.cat([p.new for p in pieces], dim=axis),
            lambda: torch.cat([p.old for p in pieces], dim=axis),
        )
