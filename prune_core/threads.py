"""One thread for every float32 sum whose last bits are kept: the same seed, the same result.

Sums of float32 depend on their order, and kernels split them among however many threads there are. A
count does not care (see `prune_core/evaluation/numerics.py`), but training does: of a difference in the
last bit, some hundred steps make another net. So whatever trains, or puts channels in an order, does so
on one thread, whatever the caller has set; docs/decisions, training threads, says what that costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

THREADS = 1  # what a worker of a sweep has by default (``resources.cpu``)

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def fixed_threads() -> Iterator[None]:
    """``THREADS`` threads for torch's kernels; as many as before on leaving, errors included.

    Also a decorator, ``@fixed_threads()``, for functions that return; for generators there is
    ``steps_on_fixed_threads``.
    """
    import torch  # here: whoever only names an order does not wait for it

    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def steps_on_fixed_threads(generator: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """The generator function, its own work on ``THREADS`` threads. What its caller does between two
    results, or after it has lost interest, is done on the caller's."""

    @wraps(generator)
    def stepping(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        results = generator(*args, **kwargs)
        while True:
            with fixed_threads():
                try:
                    result = next(results)
                except StopIteration:
                    return
            yield result

    return stepping
