"""Models with one fault each, as a third party's `file.py:Class`; FAULTS says which metric must fail, and how.

Every class is `Sound` with some attributes replaced. An empty metric means that all metrics of the cell fail.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from dataclasses import dataclass, make_dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from genbench.contract import Decodes, DequantisedDensity, Loss, Model, Recipe, Stage, Steps
from genbench.space import density_to_mass, dequantise


class Sound(Model, DequantisedDensity):
    """Independent Gaussians for the dequantised pixels; without a fault."""

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.mean = nn.Parameter(torch.full(data.shape, 0.5))
        self.log_std = nn.Parameter(torch.full(data.shape, -1.0))

    @classmethod
    def recipe(cls, data):
        return Recipe(lr=1e-2, batch=32, images=320)

    def log_prob(self, pixels, gen=None):
        y = dequantise(pixels, self.data.levels, gen)
        log_density = torch.distributions.Normal(self.mean, self.log_std.exp()).log_prob(y).flatten(1).sum(1)
        return density_to_mass(log_density, self.data.dims, self.data.levels)

    def loss(self, batch, player, step, gen):
        return Loss(-self.log_prob(batch.pixels, gen).mean())

    def sample(self, n, gen, condition=None):
        z = torch.randn(n, *self.data.shape, generator=gen, device=gen.device)
        return ((self.mean + self.log_std.exp() * z) * 2 - 1).clamp(-1, 1)


@dataclass(frozen=True)
class Fault:
    """What must fail (metric "": everything) and a part of the reason."""

    metric: str
    words: str


FAULTS: dict[str, Fault] = {}
SAMPLE, LOG_PROB, LOSS = Sound.sample, Sound.log_prob, Sound.loss
SAMPLES = "required: a floating-point tensor of shape"
NATS = "nats for each of"


def fault(name: str, metric: str, words: str, bases: tuple[type, ...] = (), **attributes: Any) -> None:
    """Adds a class to this module and its expectation to FAULTS."""
    globals()[name] = type(name, (Sound, *bases), {**attributes, "__module__": __name__})
    FAULTS[name] = Fault(metric, words)


def raising(error: BaseException) -> Any:
    """A method that raises."""

    def method(*_: Any, **__: Any) -> Any:
        raise error

    return method


def changed_samples(change: Any) -> Any:
    """sample() with its images changed."""
    return lambda self, n, gen, condition=None: change(SAMPLE(self, n, gen))


def changed_log_probs(change: Any) -> Any:
    """log_prob() with its values changed; the loss keeps the right ones."""

    def log_prob(self, pixels, gen=None):
        values = LOG_PROB(self, pixels, gen)
        return values if self.training else change(values)

    return log_prob


def options(**values: Any) -> type:
    """A frozen dataclass with these fields, of no checked type."""
    return make_dataclass("Options", [(name, Any, value) for name, value in values.items()], frozen=True)


for name, change in {
    "SampleNone": lambda x: None,
    "SampleList": lambda x: x.tolist(),
    "SampleNumpy": lambda x: x.detach().numpy(),
    "SampleTuple": lambda x: (x,),
    "SampleText": lambda x: "images",
    "SampleFewer": lambda x: x[:-3],
    "SampleMore": lambda x: torch.cat([x, x[:1]]),
    "SampleEmpty": lambda x: x[:0],
    "SampleFlat": lambda x: x.flatten(1),
    "SampleSqueezed": lambda x: x.squeeze(1),
    "SampleChannelsLast": lambda x: x.permute(0, 2, 3, 1),
    "SampleThreeChannels": lambda x: x.expand(-1, 3, -1, -1),
    "SampleLarger": lambda x: torch.nn.functional.pad(x, (1, 0)),
    "SampleScalar": lambda x: x.mean(),
    "SampleExtraAxis": lambda x: x[None],
    "SampleInt": lambda x: (x * 127).int(),
    "SampleByte": lambda x: (x * 127 + 128).to(torch.uint8),
    "SampleBool": lambda x: x > 0,
    "SampleComplex": lambda x: x.to(torch.complex64),
    "SampleSparse": lambda x: x.to_sparse(),
    "SampleMeta": lambda x: x.to("meta"),
    "SampleFake": lambda x: FakeTensorMode().from_tensor(x),
    "SampleQuantised": lambda x: torch.quantize_per_tensor(x, 1.0, 0, torch.quint8),
}.items():
    fault(name, "fid", SAMPLES, sample=changed_samples(change))
    fault(f"Timed{name}", "images_per_second", SAMPLES, sample=changed_samples(change))

fault("SampleNaN", "fid", "contain NaN or infinity", sample=changed_samples(lambda x: x * math.nan))
fault("SampleInf", "fid", "contain NaN or infinity", sample=changed_samples(lambda x: x + math.inf))
fault("SampleRaises", "fid", "planted failure (faulty.py:", sample=raising(RuntimeError("planted failure")))
fault("SampleExits", "fid", "SystemExit: 3 (faulty.py:", sample=lambda *_: sys.exit(3))
fault("SampleKilled", "fid", "signal 9", sample=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
fault("SampleOutOfMemory", "fid", "out of memory", sample=raising(MemoryError()))

for name, change in {
    "LogProbNone": lambda v: None,
    "LogProbList": lambda v: v.tolist(),
    "LogProbFloat": lambda v: float(v.mean()),
    "LogProbOne": lambda v: v.mean(),
    "LogProbOneInList": lambda v: v.mean()[None],
    "LogProbTooMany": lambda v: v.repeat(16),
    "LogProbFewer": lambda v: v[:-1],
    "LogProbColumn": lambda v: v[:, None],
    "LogProbComplex": lambda v: v.to(torch.complex64),
    "LogProbInt": lambda v: v.long(),
    "LogProbBool": lambda v: v > 0,
    "LogProbFake": lambda v: FakeTensorMode().from_tensor(v),
    "LogProbMeta": lambda v: v.to("meta"),
    "LogProbSparse": lambda v: v.to_sparse(),
}.items():
    fault(name, "bits_per_dim", NATS, log_prob=changed_log_probs(change))
fault("LogProbNaN", "bits_per_dim", "is not finite", log_prob=changed_log_probs(lambda v: v * math.nan))
fault("LogProbInf", "bits_per_dim", "is not finite", log_prob=changed_log_probs(lambda v: v - math.inf))
fault("LogProbHigh", "bits_per_dim", "allowed: 0 or more", log_prob=changed_log_probs(lambda v: v + 500))
fault("LogProbSign", "bits_per_dim", "allowed: 0 or more", log_prob=changed_log_probs(lambda v: -v))

for name, value in {
    "EvaluationsNegative": -5, "EvaluationsZero": 0, "EvaluationsFloat": 1.5, "EvaluationsInf": math.inf,
    "EvaluationsNaN": math.nan, "EvaluationsNone": None, "EvaluationsText": "1", "EvaluationsTrue": True,
    "EvaluationsTensor": torch.tensor(1),
}.items():  # fmt: skip
    fault(name, "evaluations", "required: a whole number, at least 1", evaluations=value)
    fault(f"Drawn{name}", "fid", "required: a whole number, at least 1", evaluations=value)
fault("NeverDenoises", "fid", "the denoiser was not called", (Steps,), denoiser=property(lambda self: nn.Identity()))

for name, value in {
    "LossNone": None, "LossFloat": 1.0, "LossTensor": torch.zeros(()), "LossTuple": (torch.zeros(()),),
}.items():  # fmt: skip
    fault(name, "", "required: a genbench.contract.Loss", loss=lambda *_, value=value: value)
fault("LossPerImage", "", "of shape (), a mean", loss=lambda s, b, p, t, g: Loss(-s.log_prob(b.pixels, g)))
fault("LossComplex", "", "real floating-point", loss=lambda s, b, p, t, g: Loss(LOSS(s, b, p, t, g).total * 1j))
fault("LossMeta", "", "real floating-point", loss=lambda s, b, p, t, g: Loss(LOSS(s, b, p, t, g).total.to("meta")))
fault(
    "LossDetached", "", "depends on no parameter", loss=lambda s, b, p, t, g: Loss(LOSS(s, b, p, t, g).total.detach())
)
fault("LossNaN", "", "became nan", loss=lambda s, b, p, t, g: Loss(LOSS(s, b, p, t, g).total * math.nan))
fault("LossRaises", "", "planted failure' (faulty.py:", loss=raising(KeyError("planted failure")))

fault("PlayersNone", "", "non-empty list of parameters", players=lambda self: None)
fault("PlayersEmpty", "", "non-empty list of parameters", players=lambda self: {"all": []})
fault("PlayersOther", "", "non-empty list of parameters", players=lambda self: {"critic": [self.mean]})
fault("PlayersNames", "", "non-empty list of parameters", players=lambda self: {"all": ["mean"]})
fault("NoTurns", "", "for each of ghost a non-empty list", stages=(Stage("fit", turns=("ghost",)),))


def _spoil(value: float) -> Any:
    def settle(self: Any, gen: Any) -> None:
        with torch.no_grad():
            self.mean.fill_(value)

    return settle


fault("SettleNaN", "", "contains NaN or infinity after settle()", settle=_spoil(math.nan))
fault("SettleInf", "", "contains NaN or infinity after settle()", settle=_spoil(math.inf))
fault("SettleRaises", "", "planted failure (faulty.py:", settle=raising(ValueError("planted failure")))
fault("PrepareRaises", "", "planted failure (faulty.py:", prepare=raising(ValueError("planted failure")))
fault("SamplerInf", "fid", "found inf, allowed: a finite number", Sampler=options(eta=math.inf))
fault("SamplerNaN", "fid", "found nan, allowed: a finite number", Sampler=options(steps=(1.0, math.nan)))
fault("SamplerTensor", "fid", "found float32 tensor of shape (2,)", Sampler=options(times=torch.zeros(2)))
fault("SamplerFunction", "fid", "found a value of type function", Sampler=options(step=raising))
fault("ConfigInf", "fid", "found inf, allowed: a finite number", Config=options(width=math.inf))
fault("CaveatNumber", "fid", "required: text", caveat=3)
fault("NoiseShape", "ppl", "whose first axis has length", (Decodes,), noise=lambda s, n, g: torch.zeros(3, 4),
      decode=lambda s, z: z)  # fmt: skip
fault("DecodeNone", "ppl", "DecodeNone.decode()", (Decodes,), noise=lambda s, n, g: torch.randn(n, 4, generator=g),
      decode=lambda s, z: None)  # fmt: skip

for name, value in {
    "Giant": 10**400, "Text": "x" * 300_000, "Surrogate": "\ud800", "Many": list(range(100_000)),
}.items():  # fmt: skip
    words = {"Giant": "below 2**63", "Surrogate": "not valid Unicode"}.get(name, "allowed: at most 262,144 in a record")
    fault(f"Config{name}", "fid", words, Config=options(width=(value,)))
    fault(f"Sampler{name}", "fid", words, Sampler=options(width=(value,)))
fault("CaveatLong", "fid", "allowed: at most 262,144 in a record", caveat="x" * 300_000)
fault("EvaluationsGiant", "evaluations", "required: a whole number, at least 1", evaluations=2**64)
fault("SampleFloat8", "fid", SAMPLES, sample=changed_samples(lambda x: x.to(torch.float8_e4m3fn)))
fault("SampleNested", "fid", SAMPLES, sample=changed_samples(lambda x: torch.nested.nested_tensor(list(x))))
fault("SampleYields", "fid", SAMPLES, sample=changed_samples(lambda x: (image for image in x)))
fault("LogProbFloat8", "bits_per_dim", NATS, log_prob=changed_log_probs(lambda v: v.to(torch.float8_e5m2)))
fault("LogProbZero", "bits_per_dim", "add up to at most 1", log_prob=changed_log_probs(lambda v: v * 0))
for name, terms in {"Number": {3: 1.0}, "Surrogate": {"\ud800": 1.0}, "Long": {"x" * 101: 1.0}}.items():

    def named(s, b, p, t, g, terms=terms):
        total = LOSS(s, b, p, t, g).total
        return Loss(total, {name: total * value for name, value in terms.items()})

    fault(f"Term{name}", "", "the name of a term: found", loss=named)
fault("TermsNone", "", "a dict from names to tensors", loss=lambda s, b, p, t, g: Loss(LOSS(s, b, p, t, g).total, None))
