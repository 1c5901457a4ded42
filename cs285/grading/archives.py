"""Zip archives from people unknown: looked at before they are opened, refused as a whole."""

from __future__ import annotations

import os
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cs285.infrastructure.errors import UserError

MAX_ARCHIVE = 64_000_000
"""Bytes of a zip that is opened at all: four times what a hand-in may have."""
MAX_CONTENTS = 4_000_000
"""Bytes of a zip's table of contents: enough for 20,000 names, read before it is opened."""
MAX_ENTRIES = 20_000
MAX_TOTAL = 1_000_000_000
"""Bytes that a whole archive may unpack to."""
MAX_RATIO = 200
"""How much smaller than its content a member may be packed; text and logs reach about 30."""
_RATIO_COUNTS_FROM = 1_000_000
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


class UnsafeHandInError(UserError):
    """A hand-in that no tool should unpack; the message says why."""


def printable(text: object, longest: int = 150) -> str:
    """Return text from a hand-in as it may be shown: short and without control characters."""
    plain = re.sub(r"[^ -~]", lambda found: ascii(found[0])[1:-1], str(text))
    return plain if len(plain) <= longest else f"{plain[: longest - 3]}..."


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive whose table of contents has been looked at.

    Raises:
        UnsafeHandInError: If it is unsafe or broken, also while the context lasts.
    """
    try:
        with path.open("rb") as file:
            _check_size(file.fileno())
            with zipfile.ZipFile(file) as archive:
                check_members(archive.infolist())
                for member in archive.infolist():
                    if member.compress_type not in _METHODS:
                        name = printable(member.filename)
                        raise UnsafeHandInError(f"{name!r} is packed by an uncommon method")
                yield archive
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        ValueError,
        EOFError,
        OSError,
        zlib.error,
    ) as error:
        raise UnsafeHandInError(f"not a zip that can be read ({printable(error)})") from None


def _check_size(descriptor: int) -> None:
    """Look at the end of a zip: a long table of contents takes memory before it can be judged."""
    size = os.fstat(descriptor).st_size
    if size > MAX_ARCHIVE:
        raise UnsafeHandInError(f"{size / 1e6:,.0f} MB: a hand-in that large is not opened")
    tail = os.pread(descriptor, 1 << 17, max(0, size - (1 << 17)))
    end = tail.rfind(b"PK\5\6")
    contents = struct.unpack_from("<I", tail, end + 12)[0] if 0 <= end <= len(tail) - 22 else 0
    # Zip64 tells another size elsewhere, for archives beyond what is opened here.
    if contents > MAX_CONTENTS or b"PK\6\7" in tail[max(0, end - 20) : max(0, end)]:
        raise UnsafeHandInError("a zip bomb: its table of contents is too long")


def check_members(members: list[zipfile.ZipInfo]) -> None:
    """Look at an archive's table of contents before anything is unpacked.

    Raises:
        UnsafeHandInError: If a name leads elsewhere or comes twice, if a member is encrypted or
            anything but a file or a folder, or if the whole would unpack to too much.
    """
    if len(members) > MAX_ENTRIES:
        raise UnsafeHandInError(f"a zip bomb: {len(members)} members, at most {MAX_ENTRIES}")
    total = sum(member.file_size for member in members)
    if total > MAX_TOTAL:
        raise UnsafeHandInError(f"a zip bomb: it would unpack to {total / 1e6:,.0f} MB")
    counts = Counter(member.orig_filename for member in members)
    for name, count in counts.most_common(1):
        if count > 1:
            raise UnsafeHandInError(f"the name {name!r} comes twice")
    for member in members:
        if problem := _problem(member):
            raise UnsafeHandInError(problem)


def _problem(member: zipfile.ZipInfo) -> str:
    """Say what makes one member unsafe, if anything."""
    # The name as it is packed: zipfile cuts it at a zero byte.
    name = member.orig_filename
    parts = name.replace("\\", "/").split("/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    checks = {
        f"the absolute or malformed name {name!r}": (
            name.startswith(("/", "\\")) or ":" in parts[0] or "\0" in name
        ),
        f"the name {name!r} leads out of the archive": ".." in parts,
        f"{name!r} is a symbolic link": kind == stat.S_IFLNK,
        f"{name!r} is a device, not a file": kind
        not in {0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK},
        f"{name!r} is encrypted": bool(member.flag_bits & 1),
        f"a zip bomb: {name!r} unpacks to {member.file_size / 1e6:,.0f} MB from "
        f"{member.compress_size / 1e3:,.0f} kB": member.file_size
        > max(_RATIO_COUNTS_FROM, MAX_RATIO * member.compress_size),
    }
    return next((text for text, unsafe in checks.items() if unsafe), "")
