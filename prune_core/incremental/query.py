"""One question to the incremental evaluator: what a net does with every image, or as much of it
as settles the matter."""

from __future__ import annotations

import torch

from prune_core.counts import Ask, Counts
from prune_core.incremental.base_values import Rows
from prune_core.incremental.bases import Base, Outcome, check_finite, layers_apart
from prune_core.incremental.kept_bases import KeptBases
from prune_core.incremental.output_bounds import Decisions, distance
from prune_core.masks import ChannelMask

RISKY = 512  # images at a time when looking for an early refusal, on a CPU


class Question:
    """One mask, asked from one base."""

    def __init__(self, nets: KeptBases, base: Base, mask: ChannelMask, ask: Ask) -> None:
        self.nets, self.base, self.mask, self.ask = nets, base, mask, ask
        self.cut = nets.first_poisoned
        self.layers = layers_apart(base.mask, mask)
        self.steps = nets.flow.behind(self.layers, nets.output.goal)
        self.afresh = nets.costs.of(base.mask, mask) > nets.costs.whole
        self.block = nets.block_afresh if self.afresh else nets.block(base.mask, mask)
        self.wins = base.outcome.wins.clone()
        self.doubt = torch.zeros_like(self.wins)
        self.margins: torch.Tensor | None = None

    def answer(self) -> Outcome | Counts:
        """The outcome; or what ``ask`` is told of a net that misses a limit."""
        self.changed = self.nets.changed(self.base.mask, self.mask)
        # Ask.told looks at the attack first. Without a limit there, clean accuracy alone can
        # refuse, so it goes first.
        attack_first = self.ask.limits_attack
        if attack_first and self._poisoned_miss():
            return self._missed(attack=True)
        if self._clean_misses():
            return self._missed(attack=False)
        if not attack_first:
            self._poisoned_miss()
        rounded = None if self.changed[self.cut :].any() else self.base.outcome.rounded
        return Outcome(self.wins, self.margins, rounded)

    def _missed(self, attack: bool) -> Counts:
        return self.ask.missed(self.cut, self.nets.total - self.cut, attack)

    def _clean_misses(self) -> bool:
        limit = self.ask.clean_correct
        todo = self.changed[: self.cut].clone()
        if limit is not None and self._risky_first(todo, self.cut - limit) > self.cut - limit:
            return True
        self._decide_all(todo, 0)
        self._settle(slice(0, self.cut))
        return limit is not None and int(self.wins[: self.cut, 0].sum()) < limit

    def _risky_first(self, todo: torch.Tensor, allowed: int) -> int:
        """Try to show more than ``allowed`` wrong clean images: those that are wrong in the base
        first, then by how little keeps them right. Returns how many are certainly wrong."""
        right = self.base.outcome.wins[: self.cut, 0].cpu()
        wrong = int((~right & ~todo).sum())
        rows = todo.nonzero().flatten()
        risk = torch.where(right, self.base.slack[: self.cut].cpu(), -torch.inf)[rows]
        rows = rows[risk.argsort()]
        size = min(RISKY, self.block) * self.nets.images.times
        for start in range(0, len(rows), size):
            some = rows[start : start + size].sort().values
            todo[some] = False
            found = self._decide(some.to(self.wins.device), margins=False)
            wrong += found
            if wrong > allowed or found < size // 8:
                break
        return wrong

    def _poisoned_miss(self) -> bool:
        if self.ask.margin:
            self.margins = self.of_base_margins().clone()
        self._decide_all(self.changed[self.cut :], self.cut)
        self._settle(slice(self.cut, self.nets.total))
        attacked = self.wins[self.cut :, 0]
        return self.ask.attack_missed(int(attacked.sum()), int((attacked & self.nets.agrees).sum()))

    def of_base_margins(self) -> torch.Tensor:
        """The base's margins, computed when nobody has asked for them yet."""
        outcome = self.base.outcome
        if outcome.margins is None:
            parts = []
            block = self.nets.block(self.base.mask, self.base.mask)
            for rows in self.nets.images.slices(block, start=self.cut):
                hidden = self.nets.run(self.base.mask, self.base.mask, rows).old(self.nets.output.goal)
                told = self._told(hidden, torch.arange(rows.start, rows.stop))
                parts.append(told.margin)
            outcome.margins = torch.cat(parts)
        return outcome.margins

    def _decide_all(self, todo: torch.Tensor, offset: int) -> None:
        """Decide the images marked in ``todo``; the first is image ``offset``."""
        for rows in self.nets.images.chosen(todo, self.block, offset):
            self._decide(rows, margins=offset == self.cut)

    def _decide(self, rows: Rows, margins: bool) -> int:
        """Decide some images; how many are certainly not given their first label."""
        hidden = self.nets.afresh(self.mask, rows) if self.afresh else self._by_differences(rows)
        every = rows
        if isinstance(rows, slice):
            every = torch.arange(rows.start, rows.stop, device=self.wins.device)
        assert isinstance(every, torch.Tensor)
        wants_margins = margins and self.margins is not None
        if self.nets.output.bounded and not wants_margins:
            moved = distance(hidden, self.base.anchor[rows])
            open_ = ~(moved < self.base.radius[rows].amin(dim=1))
            hidden, every = hidden[open_], every[open_]
        if len(every):
            told = self._told(hidden, every)
            self.wins[every], self.doubt[every] = told.wins, told.unsure
            if wants_margins and self.margins is not None:
                self.margins[every - self.cut] = told.margin
        if isinstance(rows, slice):
            return 0
        return int((~self.wins[rows, 0] & ~self.doubt[rows, 0]).sum())

    def _by_differences(self, rows: Rows) -> torch.Tensor:
        run = self.nets.run(self.base.mask, self.mask, rows)
        run.ceiling = lambda node: self.nets.ceiling(node, self.base.mask)
        run.go(self.steps)
        hidden = run.new(self.nets.output.goal)
        run.let_go()
        return hidden

    def _told(self, hidden: torch.Tensor, rows: torch.Tensor) -> Decisions:
        told = self.nets.output.decide(hidden, self.nets.labels[rows], self.nets.logit_size[rows], False)
        check_finite(told.margin)
        return told

    def _settle(self, rows: slice) -> None:
        doubt = torch.zeros_like(self.doubt)
        doubt[rows] = self.doubt[rows]
        if doubt.any():
            self.nets.settle(self.mask, self.wins, doubt)
