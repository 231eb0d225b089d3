"""Errors by kind: what was given, what is away, what we wrote wrongly. All else is a fault of ours."""


class InputError(ValueError):
    """A mistake in what was handed in: a file, a field, an option.

    The message is one line that says what is wrong, where, and what would be right.
    The command line prints it and exits with status 2; it never becomes a traceback.
    """


class Unavailable(Exception):
    """Something outside is away: a storage, an MLflow server, Ray. Nothing that was given has to change.

    The message is one line that says what does not answer, and that the same command goes on once it
    does. The command line prints it and exits with status 3.
    """


class ExportMismatch(RuntimeError):
    """A written file does not do what the pruned network did: a fault of ours, not the caller's. Exit
    status 1."""
