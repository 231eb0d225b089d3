"""Which version of goodnet this is."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("goodnet")
except PackageNotFoundError:  # run from a source folder that was never installed
    __version__ = "0+unknown"
