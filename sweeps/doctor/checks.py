"""Checks before a long run: versions, machine, storage, data, BadNet, tracking; in workers too."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import Requirement

from prune_core.data.images import Files, read_images
from prune_core.errors import InputError
from sweeps.config.schema import Config
from sweeps.doctor.findings import Check, check, failed
from sweeps.doctor.sweep import diagnose_sweep
from sweeps.inputs.load import InputFiles, input_files, load_inputs
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.storage.storage import open_storage

FREE_BYTES = 2**30  # what a sweep may need for records, MLflow's files and GoodNets


def diagnose(
    config: Config | None,
    *,
    tracking: Callable[[], str] | None = None,
    worker: Callable[[], list[Check]] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[Check]:
    """Every check as ``{"name", "ok", "level", "detail"}``, in the order in which to mend them; ``level`` is
    "ok", "note", "warning" or "error", and ``ok`` is False for an error. A check that breaks is one that
    failed; nothing is raised. Without ``config``: versions and machine only.

    Args:
        tracking: asks MLflow; returns what to say when it answers, raises when it does not.
        worker: what ``nodes.diagnose_nodes`` finds where trials will run.
        progress: told when the embedded BadNet has to be made first.
    """
    if config is None:
        checks = diagnose_worker()
    else:
        checks = diagnose_worker(config.resources.gpu, config.storage)
        checks += _diagnose_inputs(config, progress)
    if tracking is not None:
        checks.append(check("tracking", tracking))
    if worker is not None:
        try:
            checks += worker()
        except Exception as error:  # a cluster can fail in any way; that is what is asked
            checks.append(failed("worker", error))
    return checks


def diagnose_worker(gpu: float = 0, place: str | None = None) -> list[Check]:
    """What must be right on every machine that runs trials, each with ``gpu`` GPUs; ``place``: the
    storage, where there is one."""
    checks = [check("python", _python), check("packages", _packages)]
    checks.append(check("machine", _machine))
    checks.append(check("gpu", lambda: _gpu(gpu)))
    if place is not None:
        checks.append(check("storage", lambda: _storage(place)))
    return checks


def _diagnose_inputs(config: Config, progress: Callable[[str, float], None] | None) -> list[Check]:
    """Each image file by itself, then all of it together, then whether it is a BadNet."""
    try:
        files = input_files(config, progress)
    except Exception as error:  # making the embedded data can fail like any program
        return [failed("data", error)]
    named = {
        "data.clean_valid": (files.clean_valid,),
        "data.poisoned_valid": files.poisoned_valid,
        "data.clean_test": (files.clean_test,),
        "data.poisoned_test": files.poisoned_test,
    }
    checks = [
        check(name, lambda path=path, name=name: _images(path, files, "poisoned" in name))  # type: ignore[misc]
        for name, paths in named.items()
        for path in paths
    ]
    opened: list[TrialInputs] = []

    def fits() -> str:
        opened.append(load_inputs(files, config.sweep.repair))
        layers = ", ".join(f"{la.name} ({la.channels})" for la in opened[0].model.layers)
        return f"{files.badnet} is readable and fits the images; convolutions: {layers}"

    checks.append(check("badnet", fits))
    if opened:
        checks += diagnose_sweep(config, opened[0])
    return checks


def _python() -> str:
    wanted = metadata.metadata("goodnet")["Requires-Python"] or ""
    version = platform.python_version()
    if not Requirement(f"python{wanted}").specifier.contains(version):
        raise InputError(f"Python {version}; expected {wanted}")
    return f"Python {version}"


def _packages() -> str:
    """Against the pins that the installed goodnet declares; those of extras do not count."""
    wanted = [Requirement(line) for line in metadata.requires("goodnet") or ()]
    wanted = [need for need in wanted if need.marker is None or need.marker.evaluate({"extra": ""})]
    wrong = []
    for need in wanted:
        try:
            found = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{need.name} is missing (expected {need.specifier})")
            continue
        if not need.specifier.contains(found, prereleases=True):
            wrong.append(f"{need.name} is {found} (expected {need.specifier})")
    if wrong:
        raise InputError("; ".join(wrong))
    return f"{len(wanted)} packages as pinned, torch {torch.__version__}"


def _machine() -> str:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    page = os.sysconf("SC_PAGE_SIZE")
    memory = " of ".join(
        f"{os.sysconf(name) * page / 2**30:.1f}"
        for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES")
        if name in os.sysconf_names
    )
    return f"{cpus} CPUs, {memory} GiB of memory free, {platform.node()}"


def _gpu(wanted: float) -> str:
    if not torch.cuda.is_available():
        if wanted:
            raise InputError(
                f"resources.gpu is {wanted:g}, but torch {torch.__version__} sees no GPU here; "
                "set it to 0, or install a CUDA build of torch"
            )
        return "none; trials run on the CPU"
    names = []
    for number in range(torch.cuda.device_count()):
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info(number))
        names.append(f"{torch.cuda.get_device_name(number)}, {free:.1f} of {total:.1f} GiB free")
    use = f"{wanted:g} a trial" if wanted else "not used (resources.gpu is 0)"
    return f"{'; '.join(names)}; {use}"


def _storage(place: str) -> str:
    storage = open_storage(place)
    storage.check_writable()
    if storage.local is None:
        return f"{place} can be written"
    free = shutil.disk_usage(storage.local).free
    if free < FREE_BYTES:
        raise InputError(f"{place}: {free / 2**30:.2f} GiB free; expected at least 1 GiB")
    return f"{place} can be written, {free / 2**30:.1f} GiB free"


def _images(place: Files, files: InputFiles, poisoned: bool) -> str:
    try:
        classes = read_images(files.clean_valid, files.form).classes if poisoned else ()
        images = read_images(place, files.form, poisoned=poisoned, classes=classes)
    except InputError as error:
        missing = "no such file" in str(error) and files.hint
        if missing:
            raise InputError(f"{str(error).partition(';')[0]}. {files.hint}") from None
        raise
    about = f"; {images.about}" if images.about else ""
    name = place if isinstance(place, (str, Path)) else images.name
    return f"{name}: {len(images)} images of {images.shape}, {images.pixels.dtype}{about}"
