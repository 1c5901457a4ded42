"""Errors of the compiler."""


class CompilationError(Exception):
    """A function cannot be compiled; its caller runs it uncompiled instead."""


class UnsupportedOperationError(CompilationError):
    """There is no rule for an operation of the function."""


class CompilerError(CompilationError):
    """The C++ compiler failed, or there is none; the message is its first error."""
