"""What can be found out before anything is trained: each model is built once, and files of weights and images are read.

Nothing is drawn: the first images of a model of a thousand steps can take minutes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from genbench.contract import Draws
from genbench.data.images import open_images
from genbench.errors import DataError, GenbenchError, SuiteError
from genbench.plan.rows import SuiteRows
from genbench.sources.build import build, read_weights


def refuse_impossible_rows(rows: SuiteRows, indices: Iterable[int]) -> None:
    """Raises SuiteError for model entries that cannot be built, whose weights do not fit, or with too few images."""
    built: dict[tuple[type[Draws], str], Draws] = {}
    for index in indices:
        entry = rows.suite.models[index]
        if entry.samples is not None:
            _refuse_few_images(rows, index)
            continue
        kind, network = rows.kind(index), rows.network(index)
        key = (kind, repr(network.config))
        if key not in built:
            built[key] = _built(rows, index)
        if entry.weights is not None:
            try:
                read_weights(built[key], rows.suite.path(entry.weights))
            except GenbenchError as error:
                raise rows.suite.error(("models", index, "weights"), str(error)) from None


def _built(rows: SuiteRows, index: int) -> Draws:
    kind, network = rows.kind(index), rows.network(index)
    try:
        return build(kind, rows.plan.spec, network.config, network.sampler, seed=0)
    except GenbenchError as error:
        message = f"{error}{_sizes_that_work(rows, index)}"
        raise rows.suite.error(("models", index), message) from None
    except Exception as error:  # a class of the user's may raise anything
        message = f"{kind.__name__} cannot be built for images of {_size(rows)}: {type(error).__name__}: {error}"
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
    if images.count < suite.samples:
        raise _few(rows, index, images.count)


def _few(rows: SuiteRows, index: int, found: int) -> SuiteError:
    wanted = rows.suite.samples
    message = f"found {found:,} images, allowed: at least {wanted:,}, as the suite's `samples` asks for"
    return rows.suite.error(("models", index, "samples"), message)
