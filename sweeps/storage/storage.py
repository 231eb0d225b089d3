"""Where results live: a folder, or a URI that pyarrow.fs opens (s3://, gs://, hdfs://)."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from prune_core.errors import InputError, Unavailable

ONE_REQUEST = 2**22  # bytes that pyarrow holds back until an S3 object is closed; its parts are 10 MiB
MARK = ".goodnet"  # a file in every folder that a sweep has begun in


def open_storage(place: str) -> Storage:
    """The storage of a configuration or an option: opened once, where a command begins, and handed on.
    Raises InputError for a URI that no file system answers to, and for a file."""
    return Storage(place)


_NOT_LET = {
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "EROFS", "ENOTDIR", "EISDIR", "EEXIST", "EINVAL", "ENAMETOOLONG", "ELOOP")
}
# Of object stores pyarrow raises a plain OSError without a number: the service's own name of the error, in
# its text, is all that tells one that refuses from one that is away. Only ``_refused`` reads it.
_REFUSALS = ("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID",
             "SIGNATURE_DOES_NOT_MATCH", "UNRECOGNIZED_CLIENT", "PERMISSION_DENIED")  # fmt: skip


class Away(Unavailable, OSError):
    """The storage does not answer, or its folder is not the one that a sweep has begun in. Of two kinds:
    whoever waits for storages waits for it as for any OSError; whoever does not, ends with status 3."""

    reason = ""  # without the place, for who says that anyway

    @classmethod
    def of(cls, place: str, reason: str) -> Away:
        away = cls(f"storage {place!r} does not answer ({reason}); the same command goes on once it is back")
        away.reason = reason
        return away


class Refused(InputError, OSError):
    """The storage answers, and does not let us: no access, no such bucket, a file in the way."""


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
            text = _told(error)
            if begun:  # it could be opened then
                raise Away.of(place, text) from None
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
        """Unless a file can be written, read and deleted again: raises InputError where that is refused,
        Unavailable where nothing answers."""
        name = f".probe-{uuid.uuid4().hex}"
        try:
            self.write_bytes(name, b"goodnet")
            self.delete(name)
        except (Refused, FileNotFoundError) as error:
            raise InputError(f"storage {self.place!r}: cannot be written: {_told(error)}") from None

    def begin(self) -> Storage:
        """From now on the folder is this one or away. May be called again, by any driver."""
        if self.local is not None and not self.begun:
            if self.read_bytes(MARK) is None:
                self.write_bytes(MARK, b"A sweep of goodnet has begun here.\n")
            self.begun = True
        return self

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Within it what a file system raises is of one of the two kinds above, or FileNotFoundError."""
        try:
            yield
        except (FileNotFoundError, Away, Refused):
            raise
        except (OSError, pa.ArrowException) as error:
            text = _told(error)
            if _refused(error):
                raise Refused(text) from None
            raise Away.of(self.place, text) from None

    def _check_there(self) -> None:
        if self.begun and self.local is not None and not (self.local / MARK).is_file():
            reason = f"the folder is gone or was replaced: it has no file {MARK}"
            raise Away.of(self.place, reason)

    def write_bytes(self, name: str, data: bytes) -> None:
        self._check_there()
        target = self.full(name)
        if self.fs.type_name == "s3" and len(data) <= ONE_REQUEST:
            # An object appears whole when its upload is closed, and not before: no folder, no rename.
            with self._answering(), self.fs.open_output_stream(target) as stream:
                stream.write(data)
            return
        temporary = f"{target}.{uuid.uuid4().hex}.tmp"
        with self._answering():
            self.fs.create_dir(target.rpartition("/")[0], recursive=True)
            with self.fs.open_output_stream(temporary) as stream:
                stream.write(data)
            self.fs.move(temporary, target)

    def read_bytes(self, name: str) -> bytes | None:
        """None when there is no such file."""
        try:
            with self._answering(), self.fs.open_input_stream(self.full(name)) as stream:
                return stream.read()
        except FileNotFoundError:
            self._check_there()
            return None

    def modified(self, name: str) -> float | None:
        """When a file was written, seconds since the epoch; None when there is no such file, or its file
        system does not tell."""
        with self._answering():
            written = self.fs.get_file_info(self.full(name)).mtime_ns
        return None if written is None else written / 1e9

    def delete(self, name: str) -> None:
        """Also when there is no such file."""
        with suppress(FileNotFoundError), self._answering():
            self.fs.delete_file(self.full(name))

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted; empty when there is no such folder."""
        return sorted(self.written(folder))

    def written(self, folder: str) -> dict[str, tuple[int, int | None]]:
        """The files in a folder by name: bytes, and nanoseconds since the epoch at which each was written
        where its file system tells."""
        self._check_there()
        selector = fs.FileSelector(self.full(folder), allow_not_found=True)
        with self._answering():
            found = self.fs.get_file_info(selector)
        return {
            f.base_name: (f.size, f.mtime_ns) for f in found if f.is_file and not f.base_name.endswith(".tmp")
        }


def _refused(error: BaseException) -> bool:
    if getattr(error, "errno", None) is not None:
        return getattr(error, "errno", None) in _NOT_LET
    return any(name in str(error) for name in _REFUSALS)


def _told(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
