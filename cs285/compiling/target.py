"""The C++ compiler and the processor it compiles for."""

from __future__ import annotations

import functools
import shutil
import subprocess
from dataclasses import dataclass

AVX512_REGISTERS = 32


@dataclass(frozen=True)
class Target:
    """A compiler and the vector registers of the processor that it compiles for."""

    compiler: str
    macros: str
    """Its predefined macros: its version, and the meaning of `-march=native` on this machine."""
    lanes: int
    """Number of floats in a vector register."""
    registers: int

    @property
    def widest_tile(self) -> int:
        """Maximum number of vectors in a row of a product's tile."""
        return 5 if self.registers >= AVX512_REGISTERS else 2


FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    # What -ffast-math allows, except for infinities and NaN, which must show that a run diverges.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
    # Scratch memory is reused for floats and integers.
    "-fno-strict-aliasing",
    "-shared",
    "-fPIC",
)


@functools.cache
def find_target() -> Target | None:
    """Return the first C++ compiler that works, or None."""
    for name in ("g++", "clang++", "c++"):
        path = shutil.which(name)
        macros = _predefined_macros(path) if path else None
        if path and macros is not None:
            return Target(path, macros, *_vectors(macros))
    return None


def _predefined_macros(compiler: str) -> str | None:
    """Return a compiler's predefined macros for this processor; None if it does not work."""
    command = [compiler, *FLAGS[:3], "-dM", "-E", "-x", "c++", "-"]
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            command, input="", capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _vectors(macros: str) -> tuple[int, int]:
    """Return the number of floats in a vector register, and the number of registers."""
    if "__AVX512F__" in macros:
        return 16, AVX512_REGISTERS
    if "__AVX__" in macros:
        return 8, 16
    return (4, 16) if "__SSE2__" in macros else (4, 32)
