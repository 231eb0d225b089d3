"""Where results live: a folder, or a URI that pyarrow.fs opens (s3://, gs://, hdfs://)."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from prune_core.errors import InputError

MARK = ".goodnet"  # a file in every folder that a sweep has begun in


def open_storage(place: str) -> Storage:
    """The storage of a configuration or an option: opened once, where a command begins, and handed on.
    Raises InputError for a URI that no file system answers to, and for a file."""
    return Storage(place)


class Away(OSError):
    """A folder that is not the one that a sweep has begun in."""


class Storage:
    """Files by relative name. Writes are atomic: a temporary name, then a rename."""

    def __init__(self, place: str, begun: bool = False) -> None:
        """Raises InputError for a URI that no file system answers to, and for a file.

        ``begun``: a sweep has begun here. Then a folder that is gone, or empty as the one below a mount, is
        away (OSError): nothing is looked for in it, and no new one is made in its place.
        """
        self.place, self.begun = place, begun
        try:
            if "://" in place:
                self.fs, self.root = fs.FileSystem.from_uri(place)
            else:
                self.fs, self.root = fs.LocalFileSystem(), str(Path(place).resolve())
        except (pa.ArrowException, OSError, ValueError) as error:
            text = " ".join(str(error).split())[:200]
            if begun:  # it could be opened then
                raise Away(text) from None
            raise InputError(f"storage {place!r}: cannot be opened: {text}") from None
        if self.local is not None and not begun:
            there = next(p for p in (self.local, *self.local.parents) if p.exists())
            if not there.is_dir():
                raise InputError(f"storage {place!r}: {there} is a file; expected a folder")

    @property
    def address(self) -> str:
        """The place, as a process with another working folder must name it."""
        return self.place if self.local is None else self.root

    @property
    def local(self) -> Path | None:
        """The folder, when it is one of this machine."""
        return Path(self.root) if isinstance(self.fs, fs.LocalFileSystem) else None

    def full(self, name: str) -> str:
        return f"{self.root}/{name}"

    def check_writable(self) -> None:
        """Raises InputError unless a file can be written, read and deleted again."""
        name = f".probe-{uuid.uuid4().hex}"
        try:
            self.write_bytes(name, b"goodnet")
            self.fs.delete_file(self.full(name))
        except (OSError, pa.ArrowException) as error:
            text = " ".join(str(error).split())[:200]
            raise InputError(f"storage {self.place!r}: cannot be written: {text}") from None

    def begin(self) -> Storage:
        """From now on the folder is this one or away. May be called again, by any driver."""
        if self.local is not None and not self.begun:
            if self.read_bytes(MARK) is None:
                self.write_bytes(MARK, b"A sweep of goodnet has begun here.\n")
            self.begun = True
        return self

    def _check_there(self) -> None:
        if self.begun and self.local is not None and not (self.local / MARK).is_file():
            raise Away(f"the folder is gone or was replaced: it has no file {MARK}")

    def write_bytes(self, name: str, data: bytes) -> None:
        self._check_there()
        target = self.full(name)
        temporary = f"{target}.{uuid.uuid4().hex}.tmp"
        self.fs.create_dir(target.rpartition("/")[0], recursive=True)
        with self.fs.open_output_stream(temporary) as stream:
            stream.write(data)
        self.fs.move(temporary, target)

    def read_bytes(self, name: str) -> bytes | None:
        """None when there is no such file."""
        try:
            with self.fs.open_input_stream(self.full(name)) as stream:
                return stream.read()
        except FileNotFoundError:
            self._check_there()
            return None

    def delete(self, name: str) -> None:
        """Also when there is no such file."""
        with suppress(FileNotFoundError):
            self.fs.delete_file(self.full(name))

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted; empty when there is no such folder."""
        self._check_there()
        selector = fs.FileSelector(self.full(folder), allow_not_found=True)
        found = self.fs.get_file_info(selector)
        return sorted(f.base_name for f in found if f.is_file and not f.base_name.endswith(".tmp"))
