"""The C++ compiler and the processor it compiles for."""

from __future__ import annotations

import functools
import shutil
import subprocess
from dataclasses import dataclass

AVX512_REGISTERS = 32


@dataclass(frozen=True)
class Target:
    """A compiler and what it says about this processor's vectors."""

    compiler: str
    macros: str
    """What it predefines: its version, and all that `-march=native` stands for on this machine."""
    lanes: int
    """Floats in a vector register."""
    registers: int

    @property
    def widest_tile(self) -> int:
        """Vectors in a row of a product's tile, at most."""
        return 5 if self.registers >= AVX512_REGISTERS else 2


FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    # What -ffast-math allows, but for infinities and not-a-number: a run that diverges must show.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
    # Scratch memory holds floats here and integers there.
    "-fno-strict-aliasing",
    "-shared",
    "-fPIC",
)


@functools.cache
def find_target() -> Target | None:
    """Find a C++ compiler that works, if there is one."""
    for name in ("g++", "clang++", "c++"):
        path = shutil.which(name)
        macros = _predefined_macros(path) if path else None
        if path and macros is not None:
            return Target(path, macros, *_vectors(macros))
    return None


def _predefined_macros(compiler: str) -> str | None:
    """Ask a compiler what it knows about this processor; None if it does not work."""
    command = [compiler, *FLAGS[:3], "-dM", "-E", "-x", "c++", "-"]
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            command, input="", capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _vectors(macros: str) -> tuple[int, int]:
    """Return the floats in a vector register, and how many registers there are."""
    if "__AVX512F__" in macros:
        return 16, AVX512_REGISTERS
    if "__AVX__" in macros:
        return 8, 16
    return (4, 16) if "__SSE2__" in macros else (4, 32)
