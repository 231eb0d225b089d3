"""``python -m goodnet``: the command ``goodnet``."""

from sweeps.cli import main

if __name__ == "__main__":
    main()
