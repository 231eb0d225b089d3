"""Which choice mattered: how much worse a trial's outcome is predicted when one setting is shuffled.

A random forest learns the outcome from the settings on most of the trials. On the trials that it has not
seen, one setting's values are permuted, and the fall of R² is that setting's importance (Breiman, Machine
Learning 45, 2001; ``sklearn.inspection.permutation_importance``). On trials that were seen it would flatter
settings with many values; so the forest's R² on unseen ones stands beside it, and where that is not above
zero, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

import numpy as np

from prune_core.frontier import hypervolume
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import TrialRecord
from sweeps.reports.history import states_of

LEAST_TRIALS = 20  # fewer say nothing of five settings
MOST_TRIALS = 2000  # of more, so many drawn at random: others would change little and take minutes
SEEDS = 3  # forests of other seeds, and other divisions into folds
FOLDS = 4
REPEATS = 3  # permutations of each setting on each fold
TREES = 40

SETTINGS: dict[str, Callable[[TrialSettings], object]] = {
    "order": lambda s: s.order,
    "layer set": lambda s: "+".join(s.layers),
    "X": lambda s: s.x,
    "policy": lambda s: s.policy,
    "repair": lambda s: s.repair,
}
OUTCOMES = ("hypervolume", "attack within X")


@dataclass(frozen=True)
class Importance:
    """Of one outcome.

    Attributes:
        outcome: one of ``OUTCOMES``. trials: that are done, at most ``MOST_TRIALS`` of them.
        fits: R² on trials that the forest has not seen: mean and standard deviation over folds and seeds.
        of: setting -> by how much R² falls when it is permuted, mean and standard deviation over
            permutations, folds and seeds. Settings with one value alone are left out.
        stopped: trials that are left out because they were stopped before their end.
        why_not: why nothing can be said, in a sentence; then ``of`` is empty.
    """

    outcome: str
    trials: int
    fits: tuple[float, float] | None
    of: dict[str, tuple[float, float]]
    stopped: int
    why_not: str | None = None


def outcomes(record: TrialRecord) -> tuple[float, float]:
    """Of a trial that is done, on validation: the hypervolume of its own states (higher is better), and the
    lowest attack success among them (fraction; every state is within the trial's X). Without states 0 and
    the BadNet's attack success."""
    states = states_of(record)
    if not len(states):
        return 0.0, 1.0 if record.badnet_valid is None else record.badnet_valid.attack_success
    return hypervolume(states[:, 0], states[:, 1]), float(states[:, 1].min())


def importances(records: Sequence[TrialRecord], seed: int = 0) -> list[Importance]:
    """One for each of ``OUTCOMES``; the same for the same records and ``seed``. Needs scikit-learn."""
    done = [r for r in records if r.status == "done"]
    stopped = sum(r.status == "stopped" for r in records)
    if len(done) > MOST_TRIALS:
        drawn = np.random.default_rng(seed).choice(len(done), MOST_TRIALS, replace=False)
        done = [done[position] for position in sorted(drawn)]
    columns = {name: [str(of(r.settings)) for r in done] for name, of in SETTINGS.items()}
    varied = [name for name, values in columns.items() if len(set(values)) > 1]
    reached = np.array([outcomes(r) for r in done], float).reshape(-1, len(OUTCOMES))
    return [
        _importance(outcome, varied, columns, reached[:, number], stopped, seed)
        for number, outcome in enumerate(OUTCOMES)
    ]


def _importance(
    outcome: str,
    varied: list[str],
    columns: dict[str, list[str]],
    reached: np.ndarray,
    stopped: int,
    seed: int,
) -> Importance:
    trials = len(reached)
    refused = _too_little(trials, varied, reached)
    if refused is not None:
        return Importance(outcome, trials, None, {}, stopped, refused)
    codes = np.stack([np.unique(columns[name], return_inverse=True)[1] for name in varied], axis=1)
    fits, falls = _falls(codes, reached, seed)
    fit = (fmean(fits), pstdev(fits))
    if fit[0] <= 0:
        why = "the settings do not predict it: a forest does no better than the mean on trials not seen"
        return Importance(outcome, trials, fit, {}, stopped, why)
    of = {name: (fmean(fall), pstdev(fall)) for name, fall in zip(varied, falls, strict=True)}
    return Importance(outcome, trials, fit, dict(sorted(of.items(), key=lambda item: -item[1][0])), stopped)


def _too_little(trials: int, varied: list[str], reached: np.ndarray) -> str | None:
    if trials < LEAST_TRIALS:
        return f"{trials} trials are done, too few; at least {LEAST_TRIALS} are needed"
    if not varied:
        return "all trials have the same settings"
    if np.ptp(reached) == 0:
        return "all trials reach the same"
    return None


def _falls(codes: np.ndarray, reached: np.ndarray, seed: int) -> tuple[list[float], list[list[float]]]:
    """R² on unseen trials, fold by fold, and the falls of each column of ``codes`` (trials, settings)."""
    from sklearn.ensemble import RandomForestRegressor  # takes a second to import
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    fits: list[float] = []
    falls: list[list[float]] = [[] for _ in range(codes.shape[1])]
    for number in range(seed, seed + SEEDS):
        for seen, unseen in KFold(FOLDS, shuffle=True, random_state=number).split(codes):
            if np.ptp(reached[unseen]) == 0:  # R² has no meaning there
                continue
            forest = RandomForestRegressor(TREES, min_samples_leaf=2, random_state=number, n_jobs=1)
            model = make_pipeline(OneHotEncoder(handle_unknown="ignore", sparse_output=False), forest)
            model.fit(codes[seen], reached[seen])
            fits.append(float(model.score(codes[unseen], reached[unseen])))
            found = permutation_importance(
                model, codes[unseen], reached[unseen], n_repeats=REPEATS, random_state=number
            )
            for column, fall in enumerate(found.importances):
                falls[column] += fall.tolist()
    return fits or [0.0], falls
