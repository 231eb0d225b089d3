"""What we need of Ray that Ray does not offer: the only file that touches its private parts.

Each part says why it is needed and which issue of ray-project/ray asks for it. They are applied to the
versions they were tested with; with any other Ray, and where a name is gone, a sweep goes on without them
and one line says what that costs. ``tests/unit/sweeps/execution/test_ray_private.py`` fails when upstream
changes a part, so that a new version is tested before it is added to ``TESTED``.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import ray
from packaging.specifiers import SpecifierSet
from ray.exceptions import RayActorError, RayError, RayTaskError

TESTED = SpecifierSet("==2.60.*")


@cache
def tested() -> bool:
    """Whether this Ray is one that the parts below were tested with. Where it is not, one line says so."""
    if TESTED.contains(ray.__version__):
        return True
    logging.getLogger(__name__).warning(
        f"goodnet: Ray {ray.__version__} is not a version that was tested ({TESTED}), so its private parts "
        "are left alone: a Ray started here listens on all networks, a token is only sent with "
        "RAY_AUTH_MODE=token, a worker killed for memory ends the sweep, and the driver keeps every trial"
    )
    return False


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within it ``owner.name`` is ``value``."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def only_on_this_machine() -> Iterator[None]:
    """Within it a Ray that ``ray.init`` starts has all its ports on 127.0.0.1; one that runs already is
    joined as ever. Whoever reaches a port of Ray can run code, and Ray listens on the network where it is
    started on Linux (ray issue 7418); it does this by itself only on other systems."""
    if not tested():
        yield
        return
    from ray._private import ray_constants, services

    alone = services.canonicalize_bootstrap_address(None) is None  # type: ignore[arg-type]
    with _replaced(ray_constants, "ENABLE_RAY_CLUSTER", not alone):
        yield


def show_token() -> None:
    """Token authentication where this machine has a token. Ray does that by itself for a cluster that it
    finds by itself, not for a named one (ray pull request 57835)."""
    if not tested():
        return
    from ray._private.authentication.authentication_token_setup import (
        maybe_enable_token_auth_if_token_available,
    )

    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Within it what Ray's own processes complain of is one warning, the last line of it, told once. Ray
    prints it whole on the driver's standard output, tracebacks too, whatever ``log_to_driver`` says (ray
    issue 28216)."""
    if not tested():
        yield
        return
    from ray._private import worker

    told: set[str] = set()

    def tell(data: dict[str, Any], **_: Any) -> None:
        line = next(
            (text.strip() for text in reversed("\n".join(data["lines"]).splitlines()) if text.strip()), ""
        )
        if line and line not in told:
            told.add(line)
            logging.getLogger("goodnet").warning(f"Ray says: {line}")

    with _replaced(worker, "print_to_stdstream", tell):
        yield


@contextlib.contextmanager
def every_loss_is_one_trial() -> Iterator[None]:
    """Within it Tune takes any word of Ray that a worker's answer will not come as the loss of that worker.
    By itself it knows two kinds, and ends the sweep on others: a worker that Ray has killed for memory is
    such a one. No upstream issue tells of it."""
    if not tested():
        yield
        return
    from ray.air.execution._internal import RayActorManager

    real: Callable[..., None] = RayActorManager._actor_task_failed

    def told(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayTaskError | RayActorError):
            exception = RayActorError(error_msg=_first_line(exception))
        real(self, tracked_actor_task, exception)

    with _replaced(RayActorManager, "_actor_task_failed", told):
        yield


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), 'no message')}"


def forget(tune_controller: Any, trial: Any) -> None:
    """Take a trial that is over out of Tune's lists. Tune keeps every trial, and its state as text, to
    write and restore snapshots that are of no use here: 40 kB of the driver a trial (ray issue 64231)."""
    if not tested():
        return
    for name in ("_trials", "_live_trials", "_stopped_trials", "_trials_to_cache"):
        kept: Any = getattr(tune_controller, name, None)
        if kept and trial in kept:
            kept.remove(trial)
    getattr(tune_controller, "_trial_metadata", {}).pop(trial.trial_id, None)
