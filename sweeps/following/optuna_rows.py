"""Many trials that are over, into an Optuna study at once.

``Study.add_trial`` asks and writes every attribute in a statement of its own: about 28 ms of CPU for a trial
of ours, more than all else that a sweep's driver does for it. Here all trials that ended within a few seconds
are a handful of statements in one transaction. Optuna offers no such call, so this is the only file that
touches its tables; with a version that was not tested trials are added one by one, as Optuna does it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from packaging.specifiers import SpecifierSet

if TYPE_CHECKING:
    import optuna

TESTED = SpecifierSet("==5.0.*")


def add_trials(study: optuna.Study, storage: optuna.storages.RDBStorage, trials: Sequence[Any]) -> None:
    """As ``study.add_trial`` of each; all of them or none. ``storage``: where the study is kept. ``trials``:
    each over, with values, parameters and user attributes, and nothing else."""
    import optuna

    if TESTED.contains(optuna.__version__):
        _at_once(study, storage, trials)
    else:
        one_by_one(study, trials)


def one_by_one(study: optuna.Study, trials: Sequence[Any]) -> None:
    """The plain way."""
    for trial in trials:
        study.add_trial(trial)


def _at_once(study: optuna.Study, storage: optuna.storages.RDBStorage, trials: Sequence[Any]) -> None:
    from optuna.distributions import distribution_to_json
    from optuna.storages._rdb import models
    from sqlalchemy import func, insert, select
    from sqlalchemy.orm import Session

    study_id = study._study_id
    with Session(storage.engine) as session, session.begin():
        # Whoever else adds trials waits here, so that numbers stay in order.
        models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
        of_study = models.TrialModel.study_id == study_id
        before = session.scalar(select(func.count()).select_from(models.TrialModel).where(of_study)) or 0
        rows = [
            models.TrialModel(
                study_id=study_id,
                number=before + place,
                state=trial.state,
                datetime_start=trial.datetime_start,
                datetime_complete=trial.datetime_complete,
            )
            for place, trial in enumerate(trials)
        ]
        session.add_all(rows)
        session.flush()
        of_trials = [(row.trial_id, trial) for row, trial in zip(rows, trials, strict=True)]
        parts: dict[Any, list[dict[str, Any]]] = {
            models.TrialValueModel: [
                {"trial_id": number, "objective": place, "value": stored, "value_type": kind}
                for number, trial in of_trials
                for place, value in enumerate(trial.values or ())
                for stored, kind in (models.TrialValueModel.value_to_stored_repr(value),)
            ],
            models.TrialParamModel: [
                {
                    "trial_id": number,
                    "param_name": name,
                    "param_value": trial.distributions[name].to_internal_repr(value),
                    "distribution_json": distribution_to_json(trial.distributions[name]),
                }
                for number, trial in of_trials
                for name, value in trial.params.items()
            ],
            models.TrialUserAttributeModel: [
                {"trial_id": number, "key": name, "value_json": json.dumps(value)}
                for number, trial in of_trials
                for name, value in trial.user_attrs.items()
            ],
        }
        for model, those in parts.items():
            if those:
                session.execute(insert(model.__table__), those)
