"""The one exception that means: the caller gave us something we cannot use."""


class InputError(ValueError):
    """A mistake in what was handed in: a file, a field, an option.

    The message is one line that says what is wrong, where, and what would be right.
    The command line prints it and exits with status 2; it never becomes a traceback.
    """
