"""What is meant for the person at the keyboard."""


class UserError(Exception):
    """Something that the user can mend: says what was wrong, where, and what would be right.

    Scripts print its message without a traceback and exit with status 2.
    """


def printable(text: object) -> str:
    r"""Return a text as a terminal may show it: control characters become `\x1b` and the like.

    Names of files and what summaries hold may be anybody's choice.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


class DivergenceError(Exception):
    """Some runs lost their numbers to NaN or infinity; names them. Scripts exit with status 1."""
