"""A seeded sampler whose draws depend on the trial alone: neither on the worker that asks nor on when the study was continued."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

POPULATION = 20
"""Trials per generation of NSGA-II."""
SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = MappingProxyType(
    {
        "tpe": lambda seed: TPESampler(seed=seed),
        "nsga2": lambda seed: NSGAIISampler(population_size=POPULATION, seed=seed),
        "random": lambda seed: RandomSampler(seed=seed),
    }
)


class SeededByTrial(BaseSampler):
    """One of Optuna's samplers, made anew for every trial with a seed drawn from (seed, number of the trial).

    Of one sampler with one seed per process, two workers would draw the same trials, and a continued study its first ones again. Here a
    trial depends on its number and on the trials that were finished when it was drawn.
    """

    def __init__(self, name: str, seed: int) -> None:
        self._make, self._seed = SAMPLERS[name], seed
        self._inner = self._make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make the sampler of this trial."""
        self._inner = self._make(int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0]))
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the inner sampler does."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """As the inner sampler does."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        """As the inner sampler does."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """As the inner sampler does."""
        self._inner.after_trial(study, trial, state, values)


def pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """none; median: worse than half of the others at the same epoch, not in the first quarter; hyperband: brackets of halvings."""
    match name:
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 4))
        case "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs)
        case _:
            return optuna.pruners.NopPruner()
