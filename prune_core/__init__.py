"""The algorithm: read a BadNet, prune channels, count what that does. Knows no Ray, no MLflow, no runs."""

# Part of every trial's key. Raise it when the same settings would decide differently.
ALGORITHM_VERSION = 4
