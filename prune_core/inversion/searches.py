"""The searches of a scan, each made once: what is found is kept in a folder, if there is one."""

from __future__ import annotations

import hashlib
import io
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from prune_core.data.labeled import LabeledImages
from prune_core.files.write import write_whole
from prune_core.inversion.kinds import Stamps
from prune_core.inversion.search import Effort, Inverted, Span, invert
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel

VERSION = 1  # of the search: what is kept of another one does not count
GROUP = 16  # classes that are searched together


@dataclass(frozen=True, eq=False)
class Searches:
    """Searches triggers in one network on the same images.

    Attributes:
        images: clean ones; ``pixels`` and ``labels`` are those as tensors.
        span: of a pixel as the network takes it.
        folder: where finished searches are kept; None for nowhere.
        tell: called with image passes (one image through the network, forth and back) done since the last
            call.
        spent: CPU seconds of all searches, also of those taken over; one entry each.
    """

    net: PrunableModel
    images: LabeledImages
    pixels: torch.Tensor
    labels: torch.Tensor
    span: Span
    seed: int
    folder: Path | None = None
    tell: Callable[[int], None] = lambda passes: None
    spent: list[float] = field(default_factory=list)

    def __call__(
        self,
        targets: Sequence[int],
        kind: str,
        effort: Effort,
        start: int = 0,
        mask: ChannelMask | None = None,
        keep: bool = True,
    ) -> Inverted:
        """Search a trigger for each of ``targets``, from the ``start``-th random start, in the network with
        ``mask`` pruned. Without ``keep`` the triggers themselves are not kept, only what they reach."""
        parts = [
            self._group(targets[at : at + GROUP], kind, effort, start, mask or ChannelMask(), keep)
            for at in range(0, len(targets), GROUP)
        ]
        sizes, margins = (torch.cat([getattr(p, name) for p in parts]) for name in ("size", "margin"))
        stamps = [p.stamps for p in parts]
        covers, patterns, sized = (
            torch.cat([getattr(s, name) for s in stamps]) for name in ("mask", "pattern", "size")
        )
        return Inverted(sizes, Stamps(kind, covers, patterns, sized), margins)

    def _group(
        self,
        targets: Sequence[int],
        kind: str,
        effort: Effort,
        start: int,
        mask: ChannelMask,
        keep: bool,
    ) -> Inverted:
        what = repr((list(map(int, targets)), kind, effort, start, sorted(mask.channels), keep))
        path = self._path(what)
        passes = len(targets) * min(effort.images, len(self.pixels)) * effort.steps
        if path is not None and (there := _read(path, kind, self.pixels.device)) is not None:
            found, seconds = there
            self.spent.append(seconds)
            self.tell(passes)
            return found
        began = time.process_time()
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {what}".encode()))
        goals = torch.tensor(list(targets), device=self.pixels.device)
        each = passes // effort.steps
        with self.net.pruned(mask) as net:
            found = invert(
                net,
                self.pixels,
                self.labels,
                goals,
                kind,
                effort,
                self.span,
                generator,
                lambda step: self.tell(each),
            )
        if not keep:
            found = Inverted(found.size, found.stamps.of(slice(0, 0)), found.margin)
        self.spent.append(time.process_time() - began)
        if path is not None:
            write_whole(path, _packed(found, self.spent[-1]))
        return found

    @property
    def begun(self) -> bool:
        """Whether there are finished searches, of this network or another."""
        return self.folder is not None and next(self.folder.glob("*.npz"), None) is not None

    def _path(self, what: str) -> Path | None:
        if self.folder is None:
            return None
        about = f"{VERSION} {self.net.digest} {self.images.digest} {self.seed} {what}"
        return self.folder / f"{hashlib.sha256(about.encode()).hexdigest()[:20]}.npz"


def _packed(found: Inverted, seconds: float) -> bytes:
    out = io.BytesIO()
    size, margin, mask, pattern, sized = (
        tensor.detach().cpu().numpy()
        for tensor in (
            found.size,
            found.margin,
            found.stamps.mask,
            found.stamps.pattern,
            found.stamps.size,
        )
    )
    np.savez(out, size=size, margin=margin, mask=mask, pattern=pattern, sized=sized, seconds=seconds)
    return out.getvalue()


def _read(path: Path, kind: str, device: torch.device) -> tuple[Inverted, float] | None:
    """None where it is not there, or is no such file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            a = {name: torch.from_numpy(file[name]).to(device) for name in file.files if name != "seconds"}
            stamps = Stamps(kind, a["mask"], a["pattern"], a["sized"])
            return Inverted(a["size"], stamps, a["margin"]), float(file["seconds"])
    except (OSError, ValueError, KeyError, EOFError, TypeError):
        return None


def tensor_of(images: LabeledImages, device: torch.device) -> torch.Tensor:
    """(N, C, H, W) as the network takes them."""
    return torch.from_numpy(images.floats(0, len(images))).to(device)
