"""From a metric and its inputs to a result: the same for a cell of a suite and for other images."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from genbench import returned
from genbench.errors import CellFailure, TooFewSamples, Undefined
from genbench.machine import device_name, made_with
from genbench.metrics.base import SETS, Inputs, Metric, Value, cut_interval, too_few
from genbench.metrics.computing import computing_on
from genbench.metrics.facts import Arguments, Facts
from genbench.protocol import Protocol, protocol_hash
from genbench.reasons import explain
from genbench.records import FAILED, NOT_APPLICABLE, OK
from genbench.surroundings import restored


@dataclass(frozen=True)
class Measured:
    """How measuring one metric ended; its fields are those of a Record.

    status: "ok" with a value, "n/a" where these sets do not define it, "failed"; the latter two with a reason.
    """

    status: str
    reason: str = ""
    value: Value | None = None
    n_fake: int | None = None
    n_real: int | None = None
    protocol: Protocol | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    device: str = ""

    def fields(self) -> dict[str, Any]:
        """The fields of a Record."""
        if self.status != OK or self.value is None or self.protocol is None:
            return {"status": self.status, "reason": self.reason, "device": self.device}
        whole = {k: v for k, v in vars(self).items() if k != "reason"}
        return {**whole, **asdict(self.value), "protocol_hash": protocol_hash(self.protocol)}


def measure_metric(metric: Metric, inputs: Inputs, facts: Facts, device: str) -> Measured:
    """Measures one metric; what measuring raises becomes the reason of a failure."""
    start = time.perf_counter()
    try:
        with restored(f"{metric.name} was measured", again=False), computing_on(device):
            arguments = metric.reads.read(inputs, metric)
            _refuse_few(metric, arguments)
            value = metric.compute(**arguments.values)
        _refuse_non_finite(value)
        lo, hi = cut_interval(metric.unit, value.value, value.lo, value.hi)
        value = replace(value, lo=lo, hi=hi)
        warnings = (*inputs.source_warnings, *inputs.warnings_for(metric))
        branches = metric.reads.protocol(facts, arguments.n_fake, arguments.n_real)
        branches["data"] |= arguments.data
        at_once = inputs.at_once(metric)
        model = inputs.model_protocol | inputs.made_with(metric) | ({"images_at_once": at_once} if at_once else {})
        model |= {"measured_with": made_with(device)} if metric.reads.of_samples else {}
        outer = {"model": model, "machine": metric.reads.machine(metric, inputs)}
        returned.check_plain(outer, "protocol")
    except Undefined as error:
        return Measured(NOT_APPLICABLE, explain(error), device=device_name(device))
    except Exception as error:
        return Measured(FAILED, explain(error), device=device_name(device))
    protocol = {**branches, "metric": metric.protocol, **outer}
    seconds = time.perf_counter() - start
    return Measured(OK, "", value, arguments.n_fake, arguments.n_real, protocol, warnings, seconds, device_name(device))


def _refuse_few(metric: Metric, arguments: Arguments) -> None:
    reason = too_few(metric, {name: len(rows) for name, rows in arguments.values.items() if name in SETS})
    if reason:
        raise TooFewSamples(reason)


def _refuse_non_finite(value: Value) -> None:
    if not math.isfinite(value.value):
        raise CellFailure(f"the value is {value.value}")
    if not all(end is None or math.isfinite(end) for end in (value.lo, value.hi)):
        raise CellFailure(f"the value is {value.value}, but its interval is {value.lo} to {value.hi}")


def to_plain(measured: Measured) -> dict[str, Any]:
    """As plain data for JSON."""
    return asdict(measured)


def from_plain(data: dict[str, Any]) -> Measured:
    """The inverse of to_plain."""
    value = None if data["value"] is None else Value(**data["value"])
    return Measured(**{**data, "value": value, "warnings": tuple(data["warnings"])})
