"""``python -m sweeps.cli``: the same as ``goodnet``."""

from sweeps.cli import main

main()
