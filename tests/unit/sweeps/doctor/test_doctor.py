"""The doctor names what is wrong and never falls over itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sweeps.config.schema import Config, make_config
from sweeps.doctor.checks import diagnose


def config(tmp_path: Path, **changes: Any) -> Config:
    data = {
        f"{kind}_{split}": str(tmp_path / f"{kind}_{split}.h5")
        for kind in ("clean", "poisoned")
        for split in ("valid", "test")
    }
    tree = {
        "name": "example",
        "badnet": str(tmp_path / "bad.onnx"),
        "data": data,
        "storage": str(tmp_path / "runs"),
        "data_hint": "Ask the lab.",
    }
    return make_config({**tree, **changes}, "a test")


def by_name(checks: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert all(set(check) >= {"name", "ok", "level", "detail"} for check in checks)
    assert all(check["ok"] == (check["level"] != "error") for check in checks)
    return {check["name"]: check for check in checks}


def test_without_a_configuration_it_looks_at_the_machine() -> None:
    found = by_name(diagnose(None))
    assert list(found) == ["python", "packages", "machine", "gpu"]
    assert found["python"]["ok"]


def test_missing_files_are_findings_with_the_hint(tmp_path: Path) -> None:
    found = by_name(diagnose(config(tmp_path)))
    assert found["storage"]["ok"]
    assert not found["data.clean_valid"]["ok"] and not found["badnet"]["ok"]
    assert found["data.clean_valid"]["detail"].endswith("clean_valid.h5: no such file. Ask the lab.")
    assert "attack" not in found  # nothing to try it on


def test_storage_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = by_name(diagnose(config(tmp_path, storage=str(tmp_path / "file" / "runs"))))["storage"]
    assert not storage["ok"] and "is a file; expected a folder" in storage["detail"]


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    gpu = by_name(diagnose(config(tmp_path, resources={"gpu": 1})))["gpu"]
    assert gpu["ok"] == torch.cuda.is_available()


def test_the_gpus_that_are_there_and_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "is_available": True,
        "device_count": 1,
        "get_device_name": "A card",
        "mem_get_info": (6 * 2**30, 2**33),
    }
    for name, value in said.items():
        monkeypatch.setattr(torch.cuda, name, lambda *number, value=value: value)
    gpu = by_name(diagnose(None))["gpu"]
    assert gpu["detail"] == "A card, 6.0 of 8.0 GiB free; not used (resources.gpu is 0)"


def test_tracking_and_workers_are_asked() -> None:
    def broken() -> str:
        raise RuntimeError("no route\nto host")

    def worker() -> list[dict[str, Any]]:
        return [{"name": "worker: python", "ok": True, "level": "ok", "detail": "3.11"}]

    found = by_name(diagnose(None, tracking=broken, worker=worker))
    assert not found["tracking"]["ok"] and found["tracking"]["detail"] == "RuntimeError: no route to host"
    assert found["worker: python"]["ok"]
    assert not by_name(diagnose(None, worker=broken))["worker"]["ok"]  # type: ignore[arg-type]
