"""Files named by a path or by a URI that pyarrow.fs opens: what comes from afar is kept beside."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from prune_core.errors import InputError


def local_file(place: str) -> Path:
    """The file itself, or a copy of it in the user's cache, fetched again when size or time of the
    original change. Raises InputError for a URI where no file can be read."""
    if "://" not in place:
        return Path(place)
    try:
        system, path = fs.FileSystem.from_uri(place)
        if isinstance(system, fs.LocalFileSystem):
            return Path(path)
        info = system.get_file_info(path)
        if info.type != fs.FileType.File:
            raise InputError(f"{place}: no such file")
        state = f"{place} {info.size} {info.mtime_ns}"
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        copy = cache / "goodnet" / "files" / hashlib.sha256(state.encode()).hexdigest()[:16] / info.base_name
        if not copy.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            part = copy.with_name(f".{uuid.uuid4().hex}")
            with system.open_input_stream(path) as source, part.open("wb") as target:
                shutil.copyfileobj(source, target)
            part.replace(copy)
        return copy
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{place}: cannot be read: {text}") from None
