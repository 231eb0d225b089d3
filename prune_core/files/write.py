"""Files that are whole or not there."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path

from prune_core.errors import InputError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, then rename it. Raises InputError when that fails."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        aside.replace(path)
    except BaseException as error:
        with suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError):
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
        raise
