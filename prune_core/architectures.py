"""Architectures by name, where model cards written before 0.2 look for them: those show
``import prune_core.architectures as known``. The code is in ``keras_files.architectures``."""

from prune_core.keras_files.architectures import ARCHITECTURES, deepid

__all__ = ["ARCHITECTURES", "deepid"]
