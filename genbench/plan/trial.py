"""What can be found out before anything is trained: each model is built once, and files of weights and images are read.

`genbench plan` also tries each model on a few images (genbench.sources.tryout). A run leaves that to its workers
(genbench.runner.trials), so that a model which ends its process fails its own row only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from genbench.contract import Draws, Model
from genbench.data.files import check_levels
from genbench.data.images import open_images
from genbench.errors import DataError, GenbenchError, SuiteError
from genbench.plan.rows import SuiteRows
from genbench.reasons import explain
from genbench.sources.build import build, read_weights
from genbench.sources.trained import Trained
from genbench.sources.tryout import try_drawing, try_likelihoods, try_training
from genbench.surroundings import restored


def note_impossible_rows(rows: SuiteRows, indices: Iterable[int], try_models: bool = False) -> None:
    """Adds to rows.misfits the entries that cannot be built, whose weights do not fit, or with too few images.

    try_models: also models that cannot compute a loss, images or a likelihood.
    """
    alike: dict[str, list[int]] = {}
    for index in filter(rows.fits, indices):
        with rows.noting_misfit(index):
            if rows.suite.models[index].samples is not None:
                _refuse_few_images(rows, index)
                continue
            network = rows.network(index)
            alike.setdefault(repr((rows.kind(index), network.config, network.sampler)), []).append(index)
    for same in alike.values():
        _note_alike(rows, same, try_models)
    for index in indices:
        rows.fits(index)  # rows that use the weights of one which does not


def _note_alike(rows: SuiteRows, same: list[int], try_models: bool) -> None:
    """Builds the model that several entries have in common, once."""
    model: Draws | None = None
    for index in same:
        with rows.noting_misfit(index):
            model = model if model is not None else _built(rows, index)
            _refuse_weights(rows, index, model)
            if try_models and index == same[0]:
                _try(rows, index, model)


def _refuse_weights(rows: SuiteRows, index: int, model: Draws) -> None:
    weights = rows.suite.models[index].weights
    if weights is None:
        return
    try:
        read_weights(model, rows.suite.weights_path(weights.file), key=weights.key, strip=weights.strip)
    except GenbenchError as error:
        raise rows.suite.error(("models", index, "weights"), str(error), lines=True) from None


def _try(rows: SuiteRows, index: int, model: Draws) -> None:
    suite, source = rows.suite, rows.source(index, 0)
    try:
        with restored(f"{type(model).__name__} was tried", (index, rows.plan.name)):
            if isinstance(source, Trained) and isinstance(model, Model):
                try_training(model, rows.plan, source.fit.recipe.batch)
            try_drawing(model, rows.plan, suite.precision)
            try_likelihoods(model, rows.plan)
    except Exception as error:
        message = f"{type(model).__name__} fails on images of {_size(rows)}: {explain(error)}"
        raise suite.error(("models", index), message) from None


def _built(rows: SuiteRows, index: int) -> Draws:
    kind, network = rows.kind(index), rows.network(index)
    try:
        return build(kind, rows.plan.spec, network.config, network.sampler, seed=0)
    except GenbenchError as error:
        message = f"{error}{_sizes_that_work(rows, index)}"
        raise rows.suite.error(("models", index), message) from None
    except Exception as error:  # a class of the user's may raise anything
        message = f"{kind.__name__} cannot be built for images of {_size(rows)}: {explain(error)}"
        raise rows.suite.error(("models", index), message) from None


def _size(rows: SuiteRows) -> str:
    return "x".join(map(str, rows.plan.spec.shape))


def _sizes_that_work(rows: SuiteRows, index: int) -> str:
    """The nearest sizes of images that the entry can be built for: `; sizes that work: 4x8, 8x8`; "" for none."""
    kind, network, spec = rows.kind(index), rows.network(index), rows.plan.spec
    working = []
    for multiple in (2, 4, 8):
        sides = [max(multiple, multiple * round(side / multiple)) for side in (spec.height, spec.width)]
        try:
            build(kind, replace(spec, height=sides[0], width=sides[1]), network.config, network.sampler, seed=0)
        except Exception:
            continue
        working.append("x".join(map(str, sides)))
    return f"; sizes that work: {', '.join(dict.fromkeys(working))}" if working else ""


def _refuse_few_images(rows: SuiteRows, index: int) -> None:
    suite = rows.suite
    try:
        images = open_images(suite.path(suite.models[index].samples or ""))
    except DataError as error:
        raise suite.error(("models", index, "samples"), str(error)) from None
    shown = images.in_channels(rows.plan.spec.channels)
    if shown.shape != rows.plan.spec.shape:
        found = f"images of (channels, height, width) {images.shape}, allowed: {rows.plan.spec.shape}"
        raise suite.error(("models", index, "samples"), f"{images.name}: {found}")
    if images.count < suite.samples:
        raise _few(rows, index, images.count)
    if rows.plan.spec.levels < 256:
        try:
            for part in images.batches():
                check_levels(part, rows.plan.spec.levels, images.name)
        except DataError as error:
            raise suite.error(("models", index, "samples"), str(error)) from None


def _few(rows: SuiteRows, index: int, found: int) -> SuiteError:
    wanted = rows.suite.samples
    message = f"found {found:,} images, allowed: at least {wanted:,}, as the suite's `samples` asks for"
    return rows.suite.error(("models", index, "samples"), message)
