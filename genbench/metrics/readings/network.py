"""Readings of a model beyond its images: likelihoods, paths in latent space, translations, and costs."""

from __future__ import annotations

from typing import Any

from genbench.metrics.base import Inputs, Metric, Reading, Tree
from genbench.metrics.facts import Arguments, Facts, Setting


class _Likelihood(Reading):
    """Log-probabilities of held-out images: log_probs (N,) nats of the discrete pixels, dims, kind."""

    name = "likelihood"
    depends_on = ("samples", "weights", "images")

    def protocol(self, facts: Facts, n_fake: int | None, n_real: int | None) -> Tree:
        tree = super().protocol(facts, n_fake, n_real)
        tree["data"] |= {"split": "test", "n_real": n_real, "levels": facts.levels, "dims": facts.dims}
        return tree

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        values = inputs.log_probs(metric)
        return Arguments(values, None, len(values["log_probs"]))


class _Paths(Reading):
    """Distances (N,) between images a small step apart in latent space, over the step squared."""

    name = "paths"
    depends_on = ("samples", "weights", "extractor")
    needs_network = True

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        distances = inputs.path_distances(metric)
        return Arguments({"distances": distances}, len(distances))


class _Translation(Reading):
    """Both directions of a translation, on held-out pairs: a_to_b, b_to_a (genbench.metrics.translation)."""

    name = "translation"
    depends_on = ("samples", "weights", "extractor")
    through_extractor = True
    needs_network = True

    def missing(self, setting: Setting) -> str:
        return "" if setting.translation else f"dataset {setting.dataset} is no translation task"

    def protocol(self, facts: Facts, n_fake: int | None, n_real: int | None) -> Tree:
        tree = super().protocol(facts, n_fake, n_real)
        tree["data"] |= {"pairs": "test", "n_fake": n_fake, "levels": facts.levels}
        return tree

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        values = inputs.translation(metric)
        translated = values["a_to_b"].translated
        return Arguments(values, len(translated), len(translated))


class _Cost(Reading):
    """The cost of drawing on this machine: cost, a genbench.draw.cost.Cost."""

    name = "cost"
    depends_on = ("samples", "machine", "speed")
    needs_network = True
    alone = True

    def machine(self, metric: Metric, inputs: Inputs) -> dict[str, Any]:
        return {name: inputs.cost.setting[name] for name in metric.machine}

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        return Arguments({"cost": inputs.cost})


LIKELIHOOD, PATHS, TRANSLATION, COST = _Likelihood(), _Paths(), _Translation(), _Cost()
