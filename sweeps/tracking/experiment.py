"""What an experiment says of itself to MLflow's UI, as tags. Knows nothing of MLflow.

The UI opens an experiment in its half for language models unless the kind says otherwise; since 3.17 it asks
the address (``links.HALF``) and what the browser was last used for, so links of ours name it. Its table of
runs shows neither params nor metrics until somebody chooses columns. A view that is saved with the experiment
(menu "Views") holds that choice. Where a UI knows another form of it, it shows its own columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"  # "Model training" in the UI
GUESSED = ("", "no_inferred_type", "genai_development_inferred", "custom_model_development_inferred")
VIEW = "goodnet-trials"  # the saved view's name in addresses
_VIEW = f"mlflow.sharedViewState.{VIEW}"

_METRICS = (
    "hypervolume",
    "valid_clean_accuracy",
    "valid_attack_success",
    "test_clean_accuracy",
    "test_attack_success",
    "channels_pruned",
)
_TRIALS = "tags.`goodnet.complete` = 'done'"
_FIRST = "metrics.`valid_attack_success`"
_PARAMS = ("order", "policy", "repair", "x", "layers")


def missing_tags(tags: Mapping[str, str], now: int) -> dict[str, str]:
    """The tags that an experiment with ``tags`` is to get. A kind that a person has chosen stays, and so does
    a view that a person has changed.

    Args:
        now: milliseconds since the epoch.
    """
    missing = {KIND: TRAINING} if tags.get(KIND, "") in GUESSED else {}
    if _VIEW not in tags:
        columns = [f"metrics.`{name}`" for name in _METRICS] + [f"params.`{name}`" for name in _PARAMS]
        view = {"name": "Trials and their figures", "createdAt": now, "updatedAt": now}
        state = {
            "selectedColumns": columns,
            "searchFilter": _TRIALS,
            "orderByKey": _FIRST,
            "orderByAsc": True,
        }
        missing[_VIEW] = json.dumps({**view, "state": json.dumps(state)})
    return missing
