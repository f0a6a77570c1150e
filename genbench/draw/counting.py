"""Counts network evaluations as rows, so that a doubled batch for guidance counts as two evaluations of each image."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch import Tensor, nn

from genbench import returned
from genbench.contract import Draws, Steps
from genbench.errors import CellFailure


class EvaluationCount:
    """Counts the rows that a model's denoiser evaluates while this context is open.

    rows: the batch size of the denoiser's first tensor argument, summed over its calls. A model that does not declare
    Steps is not watched; per_image then returns the number that the model declares.
    """

    def __init__(self, model: Draws) -> None:
        self.model, self.rows = model, 0

    def __enter__(self) -> EvaluationCount:
        if isinstance(self.model, Steps):
            self._hook = returned.denoiser(self.model).register_forward_hook(self._add, with_kwargs=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self.model, Steps):
            self._hook.remove()

    def per_image(self, images: int) -> float:
        """Network evaluations of each of the `images` that were drawn."""
        if not isinstance(self.model, Steps):
            return float(returned.evaluations(self.model) or 1)
        if not self.rows:
            raise CellFailure(f"{type(self.model).__name__}.sample(): the denoiser was not called, required: it is")
        return self.rows / images

    def _add(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        for x in (*args, *kwargs.values()):
            if isinstance(x, Tensor) and x.ndim > 0:
                self.rows += x.shape[0]
                return


def verify_evaluations(model: Draws, counted: float) -> None:
    """Raises CellFailure when the network evaluations counted for an image are not those that the model declares."""
    if returned.evaluations(model) not in (None, counted):
        raise CellFailure(
            f"evaluations: the model declares {model.evaluations} for each image, {counted:g} were counted (rows of "
            "the denoiser's first tensor argument, divided by the number of images)"
        )
