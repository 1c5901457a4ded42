"""Opens untrusted zip archives, which are checked before they are unpacked."""

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
"""Maximum size of a zip that is opened, in bytes: four times the limit for a hand-in."""
MAX_CONTENTS = 4_000_000
"""Maximum size of a zip's central directory, in bytes: enough for 20,000 names."""
MAX_ENTRIES = 20_000
MAX_DEPTH = 40
"""Maximum nesting of folders; functions that recurse into each of them fail at a thousand."""
MAX_TOTAL = 1_000_000_000
"""Maximum size of the unpacked archive, in bytes."""
MAX_RATIO = 200
"""Maximum compression ratio of a member; text and logs reach about 30."""
_RATIO_COUNTS_FROM = 1_000_000
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


class UnsafeHandInError(UserError):
    """A hand-in that is not safe to unpack; the message says why."""


def printable(text: object, longest: int = 150) -> str:
    """Return text from a hand-in in a form that is safe to print: short, no control characters."""
    plain = re.sub(r"[^ -~]", lambda found: ascii(found[0])[1:-1], str(text))
    return plain if len(plain) <= longest else f"{plain[: longest - 3]}..."


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive after checking its table of contents.

    Raises:
        UnsafeHandInError: If it is unsafe or broken, even if that shows only inside the context.
    """
    try:
        with path.open("rb") as file:
            _check_size(file.fileno())
            with zipfile.ZipFile(file) as archive:
                check_members(archive.infolist())
                for member in archive.infolist():
                    if member.compress_type not in _METHODS:
                        name = printable(member.filename)
                        raise UnsafeHandInError(f"{name!r} is compressed by an unsupported method")
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
        raise UnsafeHandInError(f"not a readable zip ({printable(error)})") from None


def _check_size(descriptor: int) -> None:
    """Check the size of a zip and of its table of contents, which opening loads into memory."""
    size = os.fstat(descriptor).st_size
    if size > MAX_ARCHIVE:
        raise UnsafeHandInError(
            f"{size / 1e6:,.0f} MB is too large for a hand-in; it is not opened"
        )
    tail = os.pread(descriptor, 1 << 17, max(0, size - (1 << 17)))
    end = tail.rfind(b"PK\5\6")
    contents = struct.unpack_from("<I", tail, end + 12)[0] if 0 <= end <= len(tail) - 22 else 0
    # Zip64 archives store the size elsewhere; they are larger than anything that is opened here.
    if contents > MAX_CONTENTS or b"PK\6\7" in tail[max(0, end - 20) : max(0, end)]:
        raise UnsafeHandInError("a zip bomb: its table of contents is too long")


def check_members(members: list[zipfile.ZipInfo]) -> None:
    """Check an archive's table of contents before anything is unpacked.

    Raises:
        UnsafeHandInError: If a name leads outside or appears twice, if a member is encrypted or is
            not a file or folder, or if the unpacked archive would be too large.
    """
    if len(members) > MAX_ENTRIES:
        raise UnsafeHandInError(f"a zip bomb: {len(members)} members, at most {MAX_ENTRIES}")
    total = sum(member.file_size for member in members)
    if total > MAX_TOTAL:
        raise UnsafeHandInError(f"a zip bomb: it would unpack to {total / 1e6:,.0f} MB")
    counts = Counter(member.orig_filename for member in members)
    for name, count in counts.most_common(1):
        if count > 1:
            raise UnsafeHandInError(f"the name {name!r} appears twice")
    for member in members:
        if problem := _problem(member):
            raise UnsafeHandInError(problem)


def _problem(member: zipfile.ZipInfo) -> str:
    """Return what makes one member unsafe; empty if nothing does."""
    # The name as stored in the archive: `filename` ends at the first zero byte.
    name = member.orig_filename
    parts = name.replace("\\", "/").split("/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    checks = {
        f"the absolute or malformed name {name!r}": (
            name.startswith(("/", "\\")) or ":" in parts[0] or "\0" in name
        ),
        f"the name {name!r} leads out of the archive": ".." in parts,
        f"the name {printable(name, 60)!r} is {len(parts) - 1} folders deep": len(parts)
        > MAX_DEPTH,
        f"{name!r} is a symbolic link": kind == stat.S_IFLNK,
        f"{name!r} is a device, not a file": kind
        not in {0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK},
        f"{name!r} is encrypted": bool(member.flag_bits & 1),
        f"a zip bomb: {name!r} unpacks to {member.file_size / 1e6:,.0f} MB from "
        f"{member.compress_size / 1e3:,.0f} kB": member.file_size
        > max(_RATIO_COUNTS_FROM, MAX_RATIO * member.compress_size),
    }
    return next((text for text, unsafe in checks.items() if unsafe), "")
