"""The console script ``goodnet``."""

from sweeps.cli import auditing, looking, scanning
from sweeps.cli.app import app, main

__all__ = ["app", "auditing", "looking", "main", "scanning"]
