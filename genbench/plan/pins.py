"""A suite whose names mean the same later: revisions of hubs are written into it, once, when it is planned."""

from __future__ import annotations

from genbench import hub, registry
from genbench.errors import ModelError
from genbench.suite.entries import ModelEntry, WeightsEntry
from genbench.suite.schema import Suite


def pinned_suite(suite: Suite) -> Suite:
    """The suite with the revisions that its names mean now. Raises SuiteError for one that cannot be found."""
    entries = [_pinned_entry(suite, index, entry) for index, entry in enumerate(suite.models)]
    return suite if entries == suite.models else suite.model_copy(update={"models": entries})


def _pinned_entry(suite: Suite, index: int, entry: ModelEntry) -> ModelEntry:
    key = "source"
    try:
        source = None if entry.source is None else registry.pinned(entry.source, suite.folder)
        key = "weights"
        weights = entry.weights and _pinned_weights(entry.weights)
    except ModelError as error:
        raise suite.error(("models", index, key), str(error)) from None
    changed = {name: value for name, value in (("source", source), ("weights", weights)) if value is not None}
    return entry.model_copy(update={k: v for k, v in changed.items() if v != getattr(entry, k)})


def _pinned_weights(weights: WeightsEntry) -> WeightsEntry:
    if not weights.file.startswith(hub.PREFIX):
        return weights
    return weights.model_copy(update={"file": hub.PREFIX + hub.with_revision(weights.file.removeprefix(hub.PREFIX))})
