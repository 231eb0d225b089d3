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
from prune_core.inversion.margins import STARTS, STEPS, Margins, greatest_margins
from prune_core.inversion.search import Effort, Inverted, Span, invert, loss_of
from prune_core.inversion.windows import JUDGED, LOOK, look_passes, windows_of
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel

VERSION = 1  # of the search: what is kept of another one does not count
MARGINS = 128  # random images that are climbed from together
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
        windows: Sequence[int] = (),
        whole: bool = False,
    ) -> Inverted:
        """Search a trigger for each of ``targets``, from the ``start``-th random start, in the network with
        ``mask`` pruned. Without ``keep`` the triggers themselves are not kept, only what they reach.
        ``windows``: the one (``windows_of``) that each target's patch lies in, on all of it
        if ``whole``; then ``margin`` is minus the loss on ``JUDGED`` images."""
        parts = [
            self._group(
                targets[at : at + GROUP],
                kind,
                effort,
                start,
                mask or ChannelMask(),
                keep,
                windows[at : at + GROUP],
                whole,
            )
            for at in range(0, len(targets), GROUP)
        ]
        sizes, margins = (torch.cat([getattr(p, name) for p in parts]) for name in ("size", "margin"))
        stamps = [p.stamps for p in parts]
        covers, patterns, sized = (
            torch.cat([getattr(s, name) for s in stamps]) for name in ("mask", "pattern", "size")
        )
        return Inverted(sizes, Stamps(kind, covers, patterns, sized), margins)

    def smallest(
        self,
        targets: Sequence[int],
        kind: str,
        effort: Effort,
        start: int = 0,
        mask: ChannelMask | None = None,
    ) -> Inverted:
        """The same, but a ``patch`` is also sought in one window, the one that leads most surely to the
        class when all of it is covered; the smaller of the two is taken. ``margin`` is the first one's."""
        found = self(targets, kind, effort, start, mask)
        if kind != "patch":
            return found
        count = len(windows_of(*self.pixels.shape[2:]))
        every = [(target, window) for target in targets for window in range(count)]
        looked = self(
            [target for target, _ in every],
            kind,
            LOOK,
            mask=mask,
            keep=False,
            windows=[window for _, window in every],
            whole=True,
        )
        chosen = looked.margin.view(len(targets), count).argmax(1).tolist()
        near = self(targets, kind, effort, start, mask, windows=chosen)
        less = near.size < found.size
        each = less[:, None, None, None]
        a, b = near.stamps, found.stamps
        stamps = Stamps(
            kind,
            torch.where(each, a.mask, b.mask),
            torch.where(each, a.pattern, b.pattern),
            torch.where(less, a.size, b.size),
        )
        return Inverted(torch.where(less, near.size, found.size), stamps, found.margin)

    def _group(
        self,
        targets: Sequence[int],
        kind: str,
        effort: Effort,
        start: int,
        mask: ChannelMask,
        keep: bool,
        windows: Sequence[int],
        whole: bool,
    ) -> Inverted:
        what = repr((list(map(int, targets)), kind, effort, start, sorted(mask.channels), keep))
        within = None
        if windows:
            what += f" {list(windows)} {whole}"
            within = windows_of(*self.pixels.shape[2:])[list(windows)].to(self.pixels.device)
        path = self._path(what)
        each = len(targets) * min(effort.images, len(self.pixels))
        passes = len(targets) * look_passes(len(self.pixels)) if whole else each * effort.steps
        if path is not None and (there := _read(path, kind, self.pixels.device)) is not None:
            found, seconds = there
            self.spent.append(seconds)
            self.tell(passes)
            return found
        began = time.process_time()
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {what}".encode()))
        goals = torch.tensor(list(targets), device=self.pixels.device)
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
                within,
                whole,
            )
            if whole:
                count = len(self.pixels)  # of all classes, also where images lie class by class
                some = torch.linspace(0, count - 1, min(JUDGED, count)).round().long()
                loss = loss_of(net, self.pixels[some], self.labels[some], goals, found.stamps, self.span)
                found = Inverted(found.size, found.stamps, -loss)
                self.tell(passes - each * effort.steps)
        if not keep:
            found = Inverted(found.size, found.stamps.of(slice(0, 0)), found.margin)
        self.spent.append(time.process_time() - began)
        if path is not None:
            write_whole(path, _packed(found, self.spent[-1]))
        return found

    def margins(self, targets: Sequence[int], starts: int = STARTS, steps: int = STEPS) -> Margins:
        """The greatest margins of ``targets``, from random images."""
        found = []
        each = max(1, MARGINS // starts)
        for part in (targets[at : at + each] for at in range(0, len(targets), each)):
            what = f"margins {list(map(int, part))} {starts} {steps}"
            path = self._path(what)
            kept = None if path is None else _read_margins(path, (len(part), starts))
            if kept is None:
                kept = self._climbed(part, starts, steps, what)
                if path is not None:
                    out = io.BytesIO()
                    np.savez(out, margins=kept[0], seconds=kept[1])
                    write_whole(path, out.getvalue())
            else:
                self.tell(len(part) * starts * steps)
            found.append(kept[0])
            self.spent.append(kept[1])
        return Margins(np.array(targets, np.int64), np.concatenate(found))

    def _climbed(
        self, targets: Sequence[int], starts: int, steps: int, what: str
    ) -> tuple[np.ndarray, float]:
        """(targets, starts) margins, and CPU seconds."""
        began = time.process_time()
        goals = torch.tensor(list(targets), device=self.pixels.device).repeat_interleave(starts)
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {what}".encode()))
        channels, height, width = self.pixels.shape[1:]
        found = greatest_margins(
            self.net,
            (channels, height, width),
            goals,
            self.span,
            steps,
            generator,
            lambda: self.tell(len(goals)),
        )
        margins = found.view(len(targets), starts).cpu().numpy().astype(np.float64)
        return margins, time.process_time() - began

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


def _read_margins(path: Path, shape: tuple[int, int]) -> tuple[np.ndarray, float] | None:
    """None where it is not there, or is no such file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            margins = file["margins"].astype(np.float64)
            return (margins, float(file["seconds"])) if margins.shape == shape else None
    except (OSError, ValueError, KeyError, EOFError, TypeError):
        return None


def tensor_of(images: LabeledImages, device: torch.device) -> torch.Tensor:
    """(N, C, H, W) as the network takes them."""
    return torch.from_numpy(images.floats(0, len(images))).to(device)
