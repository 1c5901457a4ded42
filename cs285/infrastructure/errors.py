"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """Something that the user can mend: says what was wrong, where, and what would be right.

    Scripts print its message without a traceback and exit with status 2.
    """


class DivergenceError(Exception):
    """Some runs lost their numbers to NaN or infinity; names them. Scripts exit with status 1."""
