"""The console script ``goodnet``."""

from sweeps.cli import looking
from sweeps.cli.app import app, main

__all__ = ["app", "looking", "main"]
