"""The task of a worker that tries models before they are trained."""

from __future__ import annotations

from dataclasses import dataclass

from genbench.contract import Draws, Model
from genbench.machine import choose_device, explain, out_of_memory
from genbench.progress import Progress, Report
from genbench.sources.base import DataPlan
from genbench.sources.network import Network
from genbench.sources.trained import Fit
from genbench.sources.tryout import try_drawing, try_likelihoods, try_training


@dataclass(frozen=True)
class TrialResult:
    """Of a trial. failure: why the row cannot work. no_likelihood: why its likelihood cannot be computed."""

    failure: str = ""
    no_likelihood: str = ""


@dataclass(frozen=True)
class Trial:
    """A model to be tried on a few images with fresh weights. precision: of its drawing. fit: its training, if any.

    Trials are equal where they do the same: a training's seed does not matter.
    """

    network: Network
    plan: DataPlan
    precision: str
    fit: Fit | None

    @property
    def _identity(self) -> str:
        fit = None if self.fit is None else (self.fit.label, self.fit.network, self.fit.recipe.batch)
        return repr((self.network, self.plan, self.precision, fit))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trial) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def verdict(self, device: str) -> TrialResult:
        """What happens. A lack of memory does not count: a training may divide its batch."""
        try:
            model = self._drawing(device)
        except Exception as error:
            return TrialResult() if out_of_memory(error) else TrialResult(explain(error))
        try:
            try_likelihoods(model, self.plan)
        except Exception as error:
            return TrialResult(no_likelihood=explain(error))
        return TrialResult()

    def _drawing(self, device: str) -> Draws:
        """The model after a loss, where it is trained, and a drawing."""
        fit, model = self.fit, None
        if fit is not None:
            model = fit.network.build(self.plan, 0).to(device)
            assert isinstance(model, Model)
            try_training(model, self.plan, fit.recipe.batch)
        if fit is None or model is None or fit.network != self.network:
            model = self.network.build(self.plan, 0).to(device)
        try_drawing(model, self.plan, self.precision)
        return model


def try_task(trials: tuple[Trial, ...], device: str, report: Report) -> list[TrialResult]:
    """Verdicts in order, up to the first failure: a failure on a GPU may spoil what comes after it in the process."""
    device = choose_device(device) if device == "auto" else device
    verdicts: list[TrialResult] = []
    for number, trial in enumerate(trials):
        report(Progress("try", number, len(trials), "models"))
        verdicts.append(trial.verdict(device))
        if verdicts[-1].failure:
            break
    return verdicts
