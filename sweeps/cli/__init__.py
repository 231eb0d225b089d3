"""The console script ``goodnet``."""

from sweeps.cli import looking, scanning
from sweeps.cli.app import app, main

__all__ = ["app", "looking", "main", "scanning"]
