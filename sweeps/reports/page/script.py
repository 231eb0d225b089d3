"""JSON that stands in a script element of the page."""

from __future__ import annotations

import json
from typing import Any

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def script_json(value: Any) -> str:
    """ASCII without what could end the element, or begin another."""
    return json.dumps(value, separators=(",", ":")).translate(_ESCAPES)
