"""The task of a worker that tries models before they are trained."""

from __future__ import annotations

from dataclasses import dataclass, field

from genbench import returned
from genbench.contract import Draws, Model, Steps
from genbench.machine import choose_device
from genbench.progress import Progress, Report
from genbench.reasons import explain, out_of_memory
from genbench.sources.base import DataPlan
from genbench.sources.network import Network
from genbench.sources.pace import Pace, pace_of
from genbench.sources.trained import Fit
from genbench.sources.tryout import try_drawing, try_likelihoods, try_training


@dataclass(frozen=True)
class TrialResult:
    """Of a trial. failure: why the row cannot work. no_likelihood: why its likelihood cannot be computed.

    training, image: rough seconds of the training and of drawing an image, 0 where unknown.
    """

    failure: str = ""
    no_likelihood: str = ""
    training: float = field(default=0.0, compare=False)
    image: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Trial:
    """A model to be tried on a few images with fresh weights. precision: of its drawing. fit: its training, if any.

    trained: the weights are in the store, and only the time of an image is taken from the training.
    Trials are equal where they do the same: a training's seed does not matter.
    """

    network: Network
    plan: DataPlan
    precision: str
    fit: Fit | None
    trained: bool = False

    @property
    def _training(self) -> str:
        fit = None if self.fit is None else (self.fit.label, self.fit.network, self.fit.recipe.batch)
        return repr((fit, self.plan, self.trained))

    @property
    def _identity(self) -> str:
        return repr((self.network, self.precision, self._training))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trial) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def verdict(self, device: str, paces: dict[str, Pace]) -> TrialResult:
        """What happens. A lack of memory does not count: a training may divide its batch.

        paces: of the trainings that were tried, which are not tried again; this one's is added.
        """
        try:
            model, pace = self._drawing(device, paces)
        except Exception as error:
            return TrialResult() if out_of_memory(error) else TrialResult(explain(error))
        # Other models' evaluations may be of a part of the network, as PixelCNN's are: about a pass for an image.
        image = pace.image * (returned.evaluations(model) or 1 if isinstance(model, Steps) else 1)
        try:
            try_likelihoods(model, self.plan)
        except Exception as error:
            return TrialResult(no_likelihood=explain(error), training=pace.training, image=image)
        return TrialResult(training=pace.training, image=image)

    def _drawing(self, device: str, paces: dict[str, Pace]) -> tuple[Draws, Pace]:
        """The model after a loss, where it is trained, and a drawing; the pace of its training."""
        fit, model = self.fit, None
        if fit is not None and self._training not in paces:
            model = fit.network.build(self.plan, 0).to(device)
            assert isinstance(model, Model)
            if not self.trained:
                try_training(model, self.plan, fit.recipe.batch)
            paces[self._training] = pace_of(model, self.plan, fit)
        if fit is None or model is None or fit.network != self.network:
            model = self.network.build(self.plan, 0).to(device)
        try_drawing(model, self.plan, self.precision)
        return model, paces.get(self._training, Pace())


def try_task(trials: tuple[Trial, ...], device: str, report: Report) -> list[TrialResult]:
    """Verdicts in order, up to the first failure: a failure on a GPU may spoil what comes after it in the process."""
    device = choose_device(device) if device == "auto" else device
    verdicts: list[TrialResult] = []
    paces: dict[str, Pace] = {}
    for number, trial in enumerate(trials):
        report(Progress("try", number, len(trials), "models"))
        verdicts.append(trial.verdict(device, paces))
        if verdicts[-1].failure:
            break
    return verdicts
