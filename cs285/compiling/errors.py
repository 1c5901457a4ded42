"""Why a function could not be compiled."""


class CompilationError(Exception):
    """A function that cannot be compiled; its caller runs it uncompiled instead."""


class UnsupportedOperationError(CompilationError):
    """There is no rule for an operation of the function."""


class CompilerError(CompilationError):
    """The C++ compiler failed, or there is none; the message is its first complaint."""
