"""What metrics read where the reference is statistics: FID from mu and sigma, sFID from mu_s and sigma_s."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial

from genbench import lint
from genbench.errors import DataError, GenbenchError
from genbench.evaluate.score_inputs import ELSEWHERE, ScoreInputs
from genbench.evaluate.sides import Side
from genbench.evaluate.statistics import Statistics
from genbench.features import FeatureOptions
from genbench.keys import digest
from genbench.lint import Case, Finding
from genbench.metrics.base import Inputs, Metric, Reading
from genbench.metrics.facts import Arguments, Facts
from genbench.metrics.frechet import Moments, fid_to_moments
from genbench.metrics.readings import FEATURES, SPATIAL
from genbench.progress import Report

ALLOWED = ("fid", "sfid")


class StatisticsInputs(ScoreInputs):
    """Generated images beside statistics of a reference; count: images that the statistics are of."""

    def __init__(
        self, fake: Side, statistics: Statistics, extractor: str, options: FeatureOptions, device: str, report: Report,
        count: int | None = None,
    ) -> None:  # fmt: skip
        """Raises DataError where the extractor is not that of the statistics, or their count is not known."""
        self.statistics = statistics
        known = statistics.origin.get("count", count)
        if known is None:
            raise DataError(f"{statistics.path}: does not state how many images it is of; give --reference-count")
        self.count = int(known)
        super().__init__(fake, fake, extractor, options, device, report)
        self._refuse_another_extractor()

    def _refuse_another_extractor(self) -> None:
        for name in ("extractor", "extractor_weights", "resize"):
            stated, own = self.statistics.origin.get(name), self.identity.get(name)
            if stated is not None and stated != own:
                raise DataError(f"{self.statistics.path}: statistics with {name} {stated}, found {own}; must agree")

    @property
    def dataset_name(self) -> str:
        """The dataset that the statistics are of, where the file states it, or "images"."""
        return str(self.statistics.origin.get("dataset", ELSEWHERE))

    def _shared_levels(self) -> int:
        return int(self.statistics.origin.get("levels", super()._shared_levels()))

    @property
    def names(self) -> tuple[str, str]:
        """As ScoreInputs."""
        return self.fake_side.images.name, self.statistics.path.name

    @property
    def reference_label(self) -> str:
        """As ScoreInputs."""
        return self.statistics.path.stem

    def why_not(self, metric: Metric) -> str:
        """As ScoreInputs: what is not FID or sFID needs images of the reference."""
        if metric.reads not in (FEATURES, SPATIAL) or metric.name not in ALLOWED:
            return f"needs images of the reference; {self.statistics.path.name} holds their mean and covariance"
        if metric.reads == SPATIAL and self.statistics.spatial is None:
            return f"needs mu_s and sigma_s, which {self.statistics.path.name} does not hold"
        return metric.reads.missing(self.setting)

    def adapted(self, metric: Metric) -> Metric:
        """As ScoreInputs: with the moments in place of the reference's features."""
        spatial = metric.reads == SPATIAL
        compute = partial(fid_to_moments, reference=self._spatial if spatial else self._moments)
        return replace(metric, reads=OF_SPATIAL_STATISTICS if spatial else OF_STATISTICS, compute=compute)

    @cached_property
    def _moments(self) -> Moments:
        return self.statistics.moments()

    @cached_property
    def _spatial(self) -> Moments:
        return self.statistics.moments(spatial=True)

    @cached_property
    def facts(self) -> Facts:
        """As ScoreInputs."""
        return replace(super().facts, reference="statistics")

    @property
    def fingerprint(self) -> str:
        """The hash of the statistics."""
        return digest({"statistics": self.statistics.content})

    @cached_property
    def findings(self) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
        """What the linter says of the generated images; of statistics it can say nothing."""
        images, dims = self.fake_side.images, self.fake.vectors.shape[1]
        case = Case(
            self._fake.summary, self.levels, None, dims, None, images.found, ordered=not images.folders
        )  # fmt: skip
        return tuple(lint.inspect(case)), ()


class _OfStatistics(Reading):
    """Features of the generated images: fake (N, D); the reference's moments are part of the metric."""

    name = "statistics"
    depends_on = ("samples", "extractor", "reference")
    of_samples = through_extractor = against_reference = True

    def __init__(self, spatial: bool) -> None:
        self.spatial = spatial

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        assert isinstance(inputs, StatisticsInputs)
        fake = inputs.fake.spatial if self.spatial else inputs.fake.vectors
        assert fake is not None
        return Arguments({"fake": fake}, len(fake), inputs.count)


OF_STATISTICS, OF_SPATIAL_STATISTICS = _OfStatistics(spatial=False), _OfStatistics(spatial=True)


def extractor_of(statistics: Statistics, wanted: str | None) -> str:
    """The extractor's name: as the file states or as the user gives. Raises GenbenchError without either."""
    stated = statistics.origin.get("features", wanted)
    if stated is None:
        raise GenbenchError(
            f"{statistics.path}: does not state the extractor of its {len(statistics.mean)} features; give "
            "--reference-extractor, e.g. inception-v3-compat"
        )
    return str(stated)
