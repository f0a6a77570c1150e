"""From a suite's model entries to sources: which class, which weights, which options."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genbench.code_hash import code_hash
from genbench.contract import Draws, Model, Recipe
from genbench.data.prompts import Prompts
from genbench.declared import check_declared
from genbench.errors import DataError, ModelError, SuiteError
from genbench.exported import exported_options
from genbench.hub import PREFIX
from genbench.machine import pinned_globals
from genbench.metrics.facts import Capabilities
from genbench.options import override
from genbench.plan.applies import lacking, unrequested
from genbench.reasons import explain
from genbench.registry import resolve_model
from genbench.returned import plain_options
from genbench.sources.base import DataPlan, Source
from genbench.sources.checkpoints import weights_file, weights_hash
from genbench.sources.files import made_elsewhere
from genbench.sources.network import Network
from genbench.sources.read_files import ReadFile, read_files
from genbench.sources.trained import Fit, SelfContained, Trained, Weights
from genbench.sources.unfit import Unfit
from genbench.suite.schema import Suite, check_suite_options
from genbench.surroundings import restored
from genbench.train.doubts import budget_doubts
from genbench.train.presets import Preset, chosen_preset, differing, fitted_recipe, make_preset, preset_in_words


class SuiteRows:
    """The rows of a suite on one dataset as sources.

    misfits: by index, why an entry cannot be planned on this dataset. families: by index, of those classes that exist.
    """

    def __init__(self, suite: Suite, plan: DataPlan, limit: int | None, prompts: Prompts | None = None) -> None:
        self.suite, self.plan, self.limit, self.prompts = suite, plan, limit, prompts
        self._codes: dict[type, str] = {}
        self.misfits: dict[int, SuiteError] = {}
        self.families: dict[int, str] = {}
        self.kinds: dict[int, type[Draws] | None] = {}
        self.able: dict[int, Capabilities] = {}
        indices = range(len(suite.models))
        for index in indices:
            with self.noting_misfit(index):
                self.kinds[index] = self._kind(index)
        for index in indices:
            if self.fits(index):
                with self.noting_misfit(index):
                    self._check_options(index)
                    self.able[index] = self.source(index, 0).capabilities

    def fits(self, index: int) -> bool:
        """Whether no misfit is known of an entry and of that whose weights it uses."""
        owner = self.misfits.get(self._owner(index))
        if owner is not None:
            self.misfits.setdefault(index, owner)
        return index not in self.misfits

    @contextmanager
    def noting_misfit(self, index: int) -> Iterator[None]:
        """What is raised about an entry inside becomes its misfit."""
        label = self.suite.models[index].label
        try:
            with restored(f"{label} was planned", again=False):
                yield
        except SuiteError as error:
            self.misfits.setdefault(index, error)
        except Exception as error:  # of the code of a model's class
            misfit = self.suite.error(("models", index), f"{label} cannot be planned: {explain(error)}")
            misfit.__cause__ = error
            self.misfits.setdefault(index, misfit)

    def _check_options(self, index: int) -> None:
        entry, kind = self.suite.models[index], self.kinds[index]
        if kind is not None:
            sized = override(kind.preset(self.plan.spec), self._sizes(self._owner(index)))
            self._check(index, "config", entry.config, sized)
            self._check(index, "sampler", entry.sampler, kind.Sampler())

    def _code(self, kind: type[Draws]) -> str:
        """The hash of a class's code, computed once in a plan."""
        if kind not in self._codes:
            self._codes[kind] = code_hash(kind)
        return self._codes[kind]

    def source(self, index: int, seed: int) -> Source:
        """The source of model entry number `index` for one seed."""
        entry = self.suite.models[index]
        if index in self.misfits:
            return Unfit(entry.label, self.families.get(index, ""), self.misfits[index].problem)
        if entry.samples is not None:
            return self._files_of(index, self.suite.path(entry.samples))
        kind, owner = self.kind(index), self._owner(index)
        network = self.network(index)
        sampler = plain_options(override(kind.Sampler(), network.sampler), f"{kind.__name__}.sampler")
        asked = unrequested(kind, self.plan, self.prompts)
        given = self.suite.models[owner].weights
        if given is not None:
            file, content = self._weights(owner)
            loaded: Source = Weights.of(
                entry.label,
                network,
                kind,
                sampler,
                file=file,
                content=content,
                key=given.key,
                strip=given.strip,
                revision=given.file if given.file.startswith(PREFIX) else "",
                **asked,
            )
            return loaded
        trained: Source
        if issubclass(self.kind(owner), Model):
            trained = Trained.of(entry.label, network, kind, sampler, fit=self._fit(owner, seed), **asked)
            return trained
        trained = SelfContained.of(entry.label, network, kind, sampler, **asked)
        return trained

    def _files_of(self, index: int, path: Path) -> Source:
        try:
            return made_elsewhere(self.suite.models[index].label, path, self.plan)
        except DataError as error:
            raise self.suite.error(("models", index, "samples"), str(error)) from None

    def _weights(self, index: int) -> tuple[Path, str]:
        """The file of an entry's weights, and the hash of its content."""
        given = self.suite.models[index].weights
        assert given is not None
        try:
            parts = self.kind(index).components
            file = weights_file(self.suite.weights_path(given.file), parts)
            return file, weights_hash(file, parts)
        except ModelError as error:
            raise self.suite.error(("models", index, "weights"), str(error)) from None

    def kind(self, index: int) -> type[Draws]:
        """The class of an entry that has one."""
        kind = self.kinds[index]
        assert kind is not None
        return kind

    def _owner(self, index: int) -> int:
        """The index of the entry whose weights this entry uses."""
        of = self.suite.models[index].weights_of
        return index if of is None else [e.label for e in self.suite.models].index(of)

    def network(self, index: int) -> Network:
        """The network of an entry that has a class."""
        entry, owner = self.suite.models[index], self._owner(index)
        known, drawn = self._exported(owner)
        config = {**known, **self._sizes(owner), **self.suite.models[owner].config, **entry.config}
        sampler = {**(drawn if owner == index else {}), **entry.sampler}
        files = self._files(index, config, {owner, index})
        return Network(
            entry.name, entry.source, self.suite.folder, config, sampler, self._code(self.kind(index)), files
        )

    def _exported(self, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Config and sampler that are stored with an entry's weights."""
        given = self.suite.models[index].weights
        if given is None:
            return {}, {}
        try:
            return exported_options(self.suite.weights_path(given.file))
        except ModelError as error:
            raise self.suite.error(("models", index, "weights"), str(error)) from None

    def _files(self, index: int, config: dict[str, Any], entries: set[int]) -> tuple[ReadFile, ...]:
        """The files that the class of one entry reads; entries: those whose `files` are included."""
        kind, suite = self.kind(index), self.suite
        named = [(name, suite.path(name)) for i in sorted(entries) for name in suite.models[i].files]
        try:
            return read_files(kind, override(kind.preset(self.plan.spec), config), named)
        except ModelError as error:
            raise suite.error(("models", index), str(error)) from None

    def _sizes(self, index: int) -> dict[str, Any]:
        """The fields of an entry's config that its preset sets otherwise than the class; none if it is not trained."""
        kind, given = self.kind(index), self.suite.models[index].weights
        if given is not None or not issubclass(kind, Model):
            return {}
        return differing(self._preset(index).config, kind.preset(self.plan.spec))

    def _preset(self, index: int) -> Preset:
        """The preset of an entry that is trained here, by the budget that the suite states, whatever the limit."""
        entry, kind, suite = self.suite.models[index], self.kind(index), self.suite
        assert issubclass(kind, Model)
        wanted, images = entry.preset or suite.preset, suite.images(entry)
        return make_preset(kind, self.plan.spec, wanted, entry.train.changes(), images)

    def _fit(self, index: int, seed: int) -> Fit:
        entry, kind, suite, preset = self.suite.models[index], self.kind(index), self.suite, self._preset(index)
        assert issubclass(kind, Model)
        recipe, images = self._lengths(index, preset)
        own = override(kind.recipe(self.plan.spec), entry.train.changes())
        sizes = self._sizes(index)
        shown = preset_in_words(preset.name, bool(sizes), own, recipe)
        if self.limit is not None and suite.trial.train_batch is not None:
            recipe = override(recipe, {"batch": min(recipe.batch, suite.trial.train_batch)})
        changes = {**sizes, **entry.config}
        files = self._files(index, changes, {index})
        # no weights depend on the sampler, but a model may accept its config with this one only
        network = Network(entry.name, entry.source, suite.folder, changes, entry.sampler, self._code(kind), files)
        config = plain_options(override(preset.config, entry.config), f"{kind.__name__}.config")
        return Fit(
            entry.label, network, config, recipe, images, seed, suite.precision, suite.compile,
            self.plan.fingerprint, budget_doubts(recipe, images, kind.stages), shown,
        )  # fmt: skip

    def _lengths(self, index: int, preset: Preset) -> tuple[Recipe, int]:
        """The recipe with lengths for the budget, also a limited one, and the budget in images."""
        entry, kind, suite = self.suite.models[index], self.kind(index), self.suite
        assert issubclass(kind, Model)
        images = int(min(suite.images(entry) or preset.recipe.images, self.limit or math.inf))
        if "small" not in (preset.name, chosen_preset(entry.preset or suite.preset, preset.recipe, images)):
            return preset.recipe, images
        return override(fitted_recipe(preset.recipe, images, kind.stages), entry.train.changes()), images

    def _kind(self, index: int) -> type[Draws] | None:
        entry = self.suite.models[index]
        if entry.samples is not None:
            return None
        try:
            with pinned_globals():  # importing a file runs it
                kind: type[Draws] = resolve_model(entry.name, entry.source, self.suite.folder)
            with restored(f"{kind.__name__} was asked for its options", kind.__module__):
                check_declared(kind, self.plan.spec)
            self.families[index] = kind.family
        except ModelError as error:
            raise self.suite.error(("models", index, "source" if entry.source else "name"), str(error)) from None
        except ValueError as error:
            raise self.suite.error(("models", index), str(error)) from None
        trained = self.suite.models[self._owner(index)].weights is None
        reason = lacking(kind, self.plan, self.prompts, trained)
        if reason:
            raise self.suite.error(("models", index), f"{kind.__name__} {reason}")
        return kind

    def _check(self, index: int, key: str, changes: dict[str, Any], options: Any) -> None:
        check_suite_options(self.suite, ("models", index, key), changes, type(options))
        try:
            override(options, changes)
        except (ModelError, ValueError) as error:
            raise self.suite.error(("models", index, key), str(error)) from None
