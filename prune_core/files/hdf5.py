"""HDF5 names without leaving the file, and data sets without surprises."""

from __future__ import annotations

import math

import h5py

FREE_BYTES = 256 * 2**20  # a data set of so many bytes may be as well packed as it likes
MOST_PACKED = 50  # beyond: so many times the file
# gzip, shuffle, checksum, szip, n-bit, scale-offset: those of HDF5 itself. Others would be plugins.
FILTERS = (1, 2, 3, 4, 5, 6, 32000)  # 32000: LZF, which h5py brings


def link_kind(group: h5py.Group, name: str) -> str | None:
    """``hard``, ``soft``, ``external`` or ``other``; None when there is no such name. Does not follow
    the link, as ``name in group`` and ``group.get(name, getlink=True)`` of h5py do."""
    key = name.encode("utf-8", "surrogateescape")
    if not name or "/" in name or name == "." or not group.id.links.exists(key):
        return None
    kinds = {h5py.h5l.TYPE_HARD: "hard", h5py.h5l.TYPE_SOFT: "soft", h5py.h5l.TYPE_EXTERNAL: "external"}
    return kinds.get(group.id.links.get_info(key).type, "other")


def link_out(file: h5py.File) -> str | None:
    """What is wrong with the first link anywhere in a file that is neither hard nor soft, hence leads to
    another file. Links are looked at and not followed, those of a group once, so that circles end."""

    def seen(name: bytes, info: h5py.h5l.LinkInfo) -> str | None:
        within = info.type in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT)
        return None if within else name.decode("utf-8", "replace")

    name = file.id.links.visit(seen, info=True)
    if name is None:
        return None
    return f"{name!r} goes through an external link ({name.rpartition('/')[2]!r}); refused"


def unfit(dataset: h5py.Dataset, file_bytes: int) -> str | None:
    """What is wrong with reading all of a data set of a file of that size; None when nothing is.
    Nothing is allocated for it."""
    if dataset.external or dataset.is_virtual:
        return "keeps its data in another file; refused"
    plist = dataset.id.get_create_plist()
    for number in range(plist.get_nfilters()):
        code = plist.get_filter(number)[0]
        if code not in FILTERS:
            return f"needs the HDF5 filter {code}, which is not part of HDF5; refused"
    claimed = int(dataset.size or 0) * dataset.dtype.itemsize
    chunk = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
    for what, size in (("", claimed), ("in one chunk ", chunk)):
        if size > FREE_BYTES and size > MOST_PACKED * file_bytes:
            return (
                f"claims {size:,} bytes {what}in a file of {file_bytes:,}; data may be compressed at most "
                f"{MOST_PACKED} times"
            )
    return None
