"""A look at the data: what may make a figure mean something else than it says.

Pure functions from splits and the BadNet's answers to findings (``docs/data-checks.md`` explains each). The
rules are statistical: a rate counts as different where 99.9 % intervals do not meet.
"""

from prune_core.data.checks.findings import (
    LEVELS,
    Answers,
    Finding,
    Level,
    Seen,
    refuse_errors,
    worst_first,
)

__all__ = ["LEVELS", "Answers", "Finding", "Level", "Seen", "refuse_errors", "worst_first"]
