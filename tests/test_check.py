"""Sound models pass every check; a model with one planted fault fails the check for that fault and no other."""

import math
import subprocess
import sys
from dataclasses import dataclass, make_dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from genbench.check import CHECKS, check_model
from genbench.check.density import density_gap, noise_is_standard_normal, resized
from genbench.check.independence import NoiseOfEachImage, drawn_images
from genbench.check.subject import DRAWN, Subject
from genbench.contract import (
    ClassConditional,
    Condition,
    DataSpec,
    Decodes,
    DequantisedDensity,
    Draws,
    Encodes,
    ExactLikelihood,
    ImportanceBound,
    LikelihoodBound,
    LikelihoodEstimate,
    Loss,
    Model,
    Stage,
    Steps,
    TextConditional,
    Translates,
)
from genbench.errors import ModelError, Undefined
from genbench.registry import MODELS, resolve_model
from genbench.space import density_to_mass, dequantise, seeded

SMALL = DataSpec(1, 4, 4, 17, 10)
LATENT = 5


# ---- sound models -----------------------------------------------------------------------------------------------


class Gan(Model, Decodes):
    stages = (Stage("fit", turns=("critic", "generator")),)

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.generator = nn.Sequential(nn.Linear(LATENT, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, data.dims))
        self.critic = nn.Linear(data.dims, 1)

    def players(self):
        return {"critic": list(self.critic.parameters()), "generator": list(self.generator.parameters())}

    def loss(self, batch, player, step, gen):
        fake = self.decode(self.noise(len(batch), gen))
        if player == "generator":
            return Loss(F.softplus(-self.critic(fake.flatten(1))).mean())
        real_term = F.softplus(-self.critic(batch.x.flatten(1))).mean()
        fake_term = F.softplus(self.critic(fake.detach().flatten(1))).mean()
        return Loss(real_term + fake_term, {"real": real_term.detach()})

    def noise(self, n, gen):
        return torch.randn(n, LATENT, generator=gen, device=gen.device)

    def decode(self, z):
        return self.generator(z).tanh().unflatten(1, self.data.shape)

    def sample(self, n, gen, condition=None):
        return self.decode(self.noise(n, gen))


class Flow(Model, DequantisedDensity, Encodes, Decodes):
    """z = (logit y - shift) exp(-scale) on pixels dequantised to y in (0, 1)."""

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.scale, self.shift = (nn.Parameter(torch.zeros(data.dims)) for _ in range(2))

    def loss(self, batch, player, step, gen):
        return Loss(-self.log_prob(batch.pixels, gen).mean())

    def log_prob(self, pixels, gen=None):
        return self.density(dequantise(pixels, self.data.levels, gen).flatten(1))

    def density(self, y):
        y = y.clamp(1e-6, 1 - 1e-6)
        z = (y.logit() - self.shift) * (-self.scale).exp()
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(z)
        density = normal - self.scale - y.log() - (1 - y).log()
        return density_to_mass(density.sum(1), self.data.dims, self.data.levels)

    def encode(self, x):
        y = ((x + 1) * (self.data.levels - 1) / 2 + 0.5) / self.data.levels
        return (y.flatten(1).logit() - self.shift) * (-self.scale).exp()

    def noise(self, n, gen):
        return torch.randn(n, self.data.dims, generator=gen, device=gen.device)

    def decode(self, z):
        y = (z * self.scale.exp() + self.shift).sigmoid().unflatten(1, self.data.shape)
        return ((y * self.data.levels - 0.5) * 2 / (self.data.levels - 1) - 1).clamp(-1, 1)

    def sample(self, n, gen, condition=None):
        return self.decode(self.noise(n, gen))


class Chain(Model, Steps, LikelihoodBound, LikelihoodEstimate):
    """Three evaluations of one network, and a uniform "bound"."""

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.net = nn.Linear(data.dims, data.dims)

    @property
    def denoiser(self):
        return self.net

    @property
    def evaluations(self):
        return 3

    def loss(self, batch, player, step, gen):
        noise = torch.randn(len(batch), self.data.dims, generator=gen, device=gen.device)
        return Loss((self.net(batch.x.flatten(1) + noise) - noise).square().mean())

    def sample(self, n, gen, condition=None):
        x = torch.randn(n, self.data.dims, generator=gen, device=gen.device)
        for _ in range(3):
            x = x - 0.1 * self.net(x)
        return x.clamp(-1, 1).unflatten(1, self.data.shape)

    def log_prob_bound(self, pixels, gen=None):
        noise = dequantise(pixels, self.data.levels, gen).flatten(1).sum(1)
        return density_to_mass(-noise, self.data.dims, self.data.levels)

    def log_prob_estimate(self, pixels, gen=None, steps=16):
        return self.log_prob_bound(pixels, gen) + 1 / steps


class Mixture(Model, LikelihoodBound, ImportanceBound, ExactLikelihood):
    """One of two tables of pixel probabilities, as likely; the bounds guess which, blindly."""

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.logits = nn.Parameter(0.1 * torch.randn(2, data.dims, data.levels))

    def log_tables(self, pixels):
        values = pixels.flatten(1).long().t()[None, :, :, None].expand(2, -1, -1, 1)
        log_mass = self.logits.log_softmax(2)[:, :, None].expand(-1, -1, len(pixels), -1)
        return log_mass.gather(3, values)[..., 0].sum(1)

    def loss(self, batch, player, step, gen):
        return Loss(-self.log_prob(batch.pixels, gen).mean())

    def log_prob(self, pixels, gen=None):
        return self.log_tables(pixels).logsumexp(0) - math.log(2)

    def guesses(self, pixels, k, gen):
        gen = seeded(0, pixels.device) if gen is None else gen
        return self.log_tables(pixels).gather(0, torch.randint(2, (k, len(pixels)), generator=gen, device=gen.device))

    def log_prob_bound(self, pixels, gen=None):
        return self.guesses(pixels, 1, gen)[0]

    def log_prob_importance(self, pixels, k, gen=None):
        return self.guesses(pixels, k, gen).logsumexp(0) - math.log(k)

    def sample(self, n, gen, condition=None):
        tables = self.logits[torch.randint(2, (n,), generator=gen, device=gen.device)].softmax(2).flatten(0, 1)
        levels = torch.multinomial(tables, 1, generator=gen).view(n, *self.data.shape)
        return levels * 2 / (self.data.levels - 1) - 1


class Pixelwise(Model, ExactLikelihood):
    """Independent pixels with a table of probabilities each: an exact mass without bounds."""

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.logits = nn.Parameter(0.1 * torch.randn(data.dims, data.levels))

    def loss(self, batch, player, step, gen):
        return Loss(-self.log_prob(batch.pixels).mean())

    def log_prob(self, pixels, gen=None):
        log_mass = self.logits.log_softmax(1).expand(len(pixels), -1, -1)
        return log_mass.gather(2, pixels.flatten(1).long()[..., None]).flatten(1).sum(1)

    def sample(self, n, gen, condition=None):
        levels = torch.multinomial(self.logits.softmax(1), n, replacement=True, generator=gen).T
        return levels.reshape(n, *self.data.shape) * 2 / (self.data.levels - 1) - 1


class Labelled(Model, ClassConditional):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.means = nn.Embedding(data.classes, data.dims)

    def loss(self, batch, player, step, gen):
        return Loss((self.means(batch.labels) - batch.x.flatten(1)).square().mean())

    def sample(self, n, gen, condition=None):
        noise = torch.randn(n, self.data.dims, generator=gen, device=gen.device)
        return (self.means(condition.labels) + noise).tanh().unflatten(1, self.data.shape)


class Texted(Labelled, TextConditional):
    def sample(self, n, gen, condition=None):
        if condition.texts is None:
            return super().sample(n, gen, condition)
        labels = torch.tensor([len(t) % 10 for t in condition.texts], device=gen.device)
        return super().sample(n, gen, Condition(labels=labels))


class Translator(Gan, Translates):
    def translate(self, x, direction):
        return -x

    def sample(self, n, gen, condition=None):
        return self.translate(condition.images, "a_to_b")


class OtherDequantisation(Flow):
    """Uniform as well, but not the same numbers as the harness's."""

    def log_prob(self, pixels, gen=None):
        gen = seeded(0, pixels.device) if gen is None else gen
        u = 1 - torch.rand(pixels.shape, generator=gen, device=gen.device)
        return self.density(((pixels.float() + u) / self.data.levels).flatten(1))


class UniformPrior(Flow):
    """z = y^exp(scale), uniform on (0, 1)."""

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        del self.shift

    def density(self, y):
        log_density = self.scale + self.scale.expm1() * y.clamp(1e-6, 1 - 1e-6).log()
        return density_to_mass(log_density.sum(1), self.data.dims, self.data.levels)

    def encode(self, x):
        return (((x + 1) * (self.data.levels - 1) / 2 + 0.5) / self.data.levels).flatten(1) ** self.scale.exp()

    def noise(self, n, gen):
        return torch.rand(n, self.data.dims, generator=gen, device=gen.device)

    def decode(self, z):
        y = (z ** (-self.scale).exp()).unflatten(1, self.data.shape)
        return ((y * self.data.levels - 0.5) * 2 / (self.data.levels - 1) - 1).clamp(-1, 1)


SOUND = [Gan, Flow, Chain, Mixture, Pixelwise, Labelled, Texted, Translator, OtherDequantisation, UniformPrior]


@pytest.mark.parametrize("kind", SOUND)
def test_sound_models_pass_every_check(kind):
    assert [r for r in check_model(kind, SMALL) if not r.passed] == []


class BoundOfOtherOptions(Labelled, LikelihoodBound, LikelihoodEstimate):
    def log_prob_bound(self, pixels, gen=None):
        raise Undefined("the bound is of the chain of all steps")

    def log_prob_estimate(self, pixels, gen=None, steps=16):
        return pixels.flatten(1).sum(1) * math.nan


def test_a_likelihood_that_is_undefined_with_these_options_is_not_tested():
    failed = {r.name for r in check_model(BoundOfOtherOptions, SMALL) if not r.passed}
    assert failed == {"likelihood has a value an image"}  # of the other likelihood


def test_every_check_applies_to_a_sound_model():
    run = {result.name for kind in SOUND for result in check_model(kind, SMALL)}
    assert run == {check.name for check in CHECKS}


# ---- one fault each ---------------------------------------------------------------------------------------------


class OrphanParameter(Gan):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.spare = nn.Linear(2, 2)


class IdlePlayer(Gan):
    def players(self):
        return super().players() | {"refiner": []}


class NoParameters(Model):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.register_buffer("mean", torch.zeros(data.shape))

    def loss(self, batch, player, step, gen):
        error = (batch.x - self.mean).square().mean()
        return Loss(error, {"error": error})

    def sample(self, n, gen, condition=None):
        return (0.1 * torch.randn(n, *self.data.shape, generator=gen, device=gen.device) + self.mean).clamp(-1, 1)


class NanLoss(Gan):
    def loss(self, batch, player, step, gen):
        return Loss(super().loss(batch, player, step, gen).total * torch.inf)


class LossPerImage(Flow):
    def loss(self, batch, player, step, gen):
        return Loss(-self.log_prob(batch.pixels, gen))


class UnreachedLayer(Flow):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.spare = nn.Linear(2, 2)


class DetachedLoss(Chain):
    def loss(self, batch, player, step, gen):
        return Loss(super().loss(batch, player, step, gen).total.detach())


class ZeroGradient(Flow):
    def loss(self, batch, player, step, gen):
        return Loss(super().loss(batch, player, step, gen).total * 0 + 1)


class CutOffLayer(Gan):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.mapping = nn.Linear(LATENT, LATENT)

    def players(self):
        players = super().players()
        return players | {"generator": [*players["generator"], *self.mapping.parameters()]}

    def decode(self, z):
        return super().decode(z + 0 * self.mapping(z))


class WeightlessTerm(Flow):
    def loss(self, batch, player, step, gen):
        nll, size = super().loss(batch, player, step, gen).total, self.scale.square().mean()
        return Loss(nll + 0 * size, {"nll": nll, "size": size})


class OwnBackward(Gan):
    def loss(self, batch, player, step, gen):
        super().loss(batch, "generator", step, gen).total.backward()
        return super().loss(batch, player, step, gen)


class OwnUpdate(Gan):
    def loss(self, batch, player, step, gen):
        with torch.no_grad():
            self.critic.weight.clamp_(-1e-3, 1e-3)
        return super().loss(batch, player, step, gen)


class MemoryInLoss(Flow):
    calls = 0

    def loss(self, batch, player, step, gen):
        MemoryInLoss.calls += 1
        return Loss(super().loss(batch, player, step, gen).total * (1 + MemoryInLoss.calls))


class GlobalDropout(Chain):
    def loss(self, batch, player, step, gen):
        loss = super().loss(batch, player, step, gen)
        return Loss(loss.total + F.dropout(self.net.weight, 0.5).sum())


class GlobalNoise(Gan):
    def sample(self, n, gen, condition=None):
        return super().sample(n, gen) * (1 - 0.1 * torch.rand(()))


class SqueezedSample(Gan):
    def sample(self, n, gen, condition=None):
        return super().sample(n, gen).squeeze()


class ByteSample(Gan):
    def sample(self, n, gen, condition=None):
        return (super().sample(n, gen) * 100).round().char().clamp(-1, 1)


class NegativeEvaluations(Gan):
    evaluations = -5


class EndlessSampler(Gan):
    Sampler = make_dataclass("Sampler", [("eta", object, math.inf)], frozen=True)


class SettlesToNaN(Gan):
    def settle(self, gen):
        with torch.no_grad():
            self.critic.weight.fill_(math.nan)


class NanSample(Gan):
    def sample(self, n, gen, condition=None):
        x = super().sample(n, gen)
        return torch.where(x == x.max(), torch.nan, x)


class ByteRange(Gan):
    def sample(self, n, gen, condition=None):
        return (super().sample(n, gen) + 1) * 127.5


class MemoryInSample(Gan):
    calls = 0

    def sample(self, n, gen, condition=None):
        MemoryInSample.calls += 1
        return super().sample(n, gen) / MemoryInSample.calls


class FixedSeed(Gan):
    def sample(self, n, gen, condition=None):
        return super().sample(n, seeded(0, gen.device))


class OneNoiseForAll(Gan):
    def sample(self, n, gen, condition=None):
        return super().sample(1, gen).expand(n, -1, -1, -1)


class UnsavedMask(Gan):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.register_buffer("mask", torch.rand(data.shape), persistent=False)

    def decode(self, z):
        return super().decode(z) * self.mask


class TrainsWhileSampling(Gan):
    def sample(self, n, gen, condition=None):
        x = super().sample(n, gen)
        self.train()
        return x


class CountsSamples(Gan):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.register_buffer("count", torch.zeros(()))

    def sample(self, n, gen, condition=None):
        self.count += n
        return super().sample(n, gen)


class NoiseOfTheCpu(Gan):
    def noise(self, n, gen):
        return torch.randn(n, LATENT, generator=gen)


class WeightsOfTheCpu(Flow):
    def loss(self, batch, player, step, gen):
        return Loss(-(self.log_prob(batch.pixels, gen) * torch.linspace(0.9, 1.1, len(batch))).mean())


class ConstantNoBuffer(Chain):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.mean = torch.full(data.shape, 0.1)

    def sample(self, n, gen, condition=None):
        return (super().sample(n, gen) + self.mean).clamp(-1, 1)


class RoundsInNumpy(Translator):
    def translate(self, x, direction):
        return torch.from_numpy(x.numpy().round())


class CountsOfTheCpu(Flow):
    def log_prob(self, pixels, gen=None):
        return super().log_prob(pixels, gen) + torch.zeros(self.data.levels)[pixels.long()].flatten(1).sum(1)


class ReadsAFile(Gan):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.beside("../pyproject.toml").read_text()


class FlatDecode(Gan):
    def decode(self, z):
        return super().decode(z).flatten(1)

    def sample(self, n, gen, condition=None):
        return super().decode(self.noise(n, gen))


class BatchStatisticsInEval(Gan):
    def decode(self, z):
        z = z - z.mean(0)
        return super().decode(z)


class ImageShapedCode(Translator, Encodes):
    def encode(self, x):
        return x


class WrongInverse(Flow):
    def decode(self, z):
        return super().decode(z * 1.1)


class OtherDensity(Flow):
    def density(self, y):
        return super().density(y * 0.9 + 0.05) + self.data.dims * math.log(0.9)


class LabelOfAnother(Labelled):
    def sample(self, n, gen, condition=None):
        return super().sample(n, gen, Condition(labels=condition.labels[:1].expand(n)))


class TermTwice(Mixture):
    def log_prob(self, pixels, gen=None):
        return super().log_prob(pixels) + 0.05


class TermMissing(Pixelwise):
    def log_prob(self, pixels, gen=None):
        return super().log_prob(pixels) - 0.05


class DensityAsMass(Flow, ExactLikelihood):
    pass


class MeanLikelihood(Flow):
    def log_prob(self, pixels, gen=None):
        return super().log_prob(pixels, gen).mean()


class NanLikelihood(Chain):
    def log_prob_bound(self, pixels, gen=None):
        return super().log_prob_bound(pixels, gen) * torch.nan


class OwnDequantisation(Flow):
    def log_prob(self, pixels, gen=None):
        if gen is None:
            gen = seeded(1, pixels.device)
        return super().log_prob(pixels, gen)


class NatsPerDim(Chain):
    def log_prob_bound(self, pixels, gen=None):
        return super().log_prob_bound(pixels, gen) / self.data.dims


class NegativeLogLikelihood(Chain):
    def log_prob_bound(self, pixels, gen=None):
        return -super().log_prob_bound(pixels, gen)


class NoDequantisationTerm(Chain):
    def log_prob_bound(self, pixels, gen=None):
        return super().log_prob_bound(pixels, gen) - density_to_mass(0, self.data.dims, self.data.levels)


class EstimateOfTheBatch(Chain):
    def log_prob_estimate(self, pixels, gen=None, steps=16):
        return super().log_prob_estimate(pixels, gen, steps).mean()


class DividesByZeroSteps(Chain):
    def log_prob_estimate(self, pixels, gen=None, steps=16):
        return super().log_prob_estimate(pixels, gen, steps) / max(0, steps - 10)


class EstimateOfItsOwn(Chain):
    calls = 0

    def log_prob_estimate(self, pixels, gen=None, steps=16):
        EstimateOfItsOwn.calls += 1
        return super().log_prob_estimate(pixels, gen, steps) + EstimateOfItsOwn.calls


class ImportanceOverKTwice(Mixture):
    def log_prob_importance(self, pixels, k, gen=None):
        return super().log_prob_importance(pixels, k, gen) - math.log(k)


class ImportanceSum(Mixture):
    def log_prob_importance(self, pixels, k, gen=None):
        return super().log_prob_importance(pixels, k, gen) + math.log(k)


class Miscounted(Chain):
    @property
    def evaluations(self):
        return 2


class DeafToLabels(Labelled):
    def sample(self, n, gen, condition=None):
        return super().sample(n, gen, Condition(labels=torch.zeros_like(condition.labels)))


class LearnsNoLabels(Labelled):
    def loss(self, batch, player, step, gen):
        return Loss((self.means.weight[:, None] - batch.x.flatten(1)).square().mean())


class LinearWithTime(nn.Linear):
    def forward(self, x, time):
        return super().forward(x)


class DeafToTime(Chain):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.net = LinearWithTime(data.dims, data.dims)

    def loss(self, batch, player, step, gen):
        time = torch.rand(len(batch), generator=gen, device=gen.device)
        return Loss((self.net(batch.x.flatten(1), time) - time[:, None]).square().mean())

    def sample(self, n, gen, condition=None):
        x = torch.randn(n, self.data.dims, generator=gen, device=gen.device)
        for time in (1.0, 0.6, 0.3):
            x = x - 0.1 * self.net(x, x.new_full((n,), time))
        return x.clamp(-1, 1).unflatten(1, self.data.shape)


class SwapsSides(Gan):
    def decode(self, z):
        channels, height, width = self.data.shape
        return self.generator(z).tanh().unflatten(1, (channels, width, height))


class TranslatesOutOfRange(Translator):
    def translate(self, x, direction):
        return x * 2 if direction == "b_to_a" else x


PLANTED = [
    (OrphanParameter, "players share the parameters", "'spare.weight' belongs to no player"),
    (IdlePlayer, "players share the parameters", "players() has ['critic', 'generator', 'refiner']"),
    (NoParameters, "players share the parameters", "required: for each of all a non-empty list of parameters"),
    (NanLoss, "losses are finite", "total is inf"),
    (LossPerImage, "losses are finite", "shape (8,), required: a real floating-point tensor of shape ()"),
    (UnreachedLayer, "gradients reach their player", "does not reach spare.weight (2 such)"),
    (DetachedLoss, "gradients reach their player", "does not depend on any parameter"),
    (ZeroGradient, "gradients reach their player", "sums to 0"),
    (
        CutOffLayer,
        "gradients reach their player",
        "is 0 for all of mapping.weight (2 such); is it detached, or multiplied by 0?",
    ),
    (WeightlessTerm, "terms reach their player", "term 'size' of the loss of 'all' has no gradient"),
    (OwnBackward, "losses leave weights alone", "left a gradient at 'generator.0.weight'"),
    (OwnUpdate, "losses leave weights alone", "changed 'critic.weight'"),
    (MemoryInLoss, "same generator, same loss", "is there randomness not from gen?"),
    (GlobalDropout, "no global randomness", "loss() used torch's global generator"),
    (GlobalNoise, "no global randomness", "sample() used torch's global generator"),
    (
        SqueezedSample,
        "samples have the data's shape",
        "shape (3, 4, 4), required: a floating-point tensor of shape (3, 1, 4, 4)",
    ),
    (ByteSample, "samples have the data's shape", "returned int8 tensor"),
    (NegativeEvaluations, "evaluations are a count", "returned -5, required: a whole number, at least 1"),
    (EndlessSampler, "options are plain", "sampler.eta: found inf, allowed: a finite number"),
    (SettlesToNaN, "settling keeps weights finite", "'critic.weight' contains NaN or infinity after settle()"),
    (NanSample, "samples are finite", "1 of 48 sampled values"),
    (ByteRange, "samples are in range", "expected [-1, 1]"),
    (MemoryInSample, "same generator, same images", "the same seed gave images that differ"),
    (FixedSeed, "other seed, other images", "seeds 3 and 4 gave the same images"),
    (OneNoiseForAll, "other seed, other images", "images 0 and 1 of a block are the same"),
    (UnsavedMask, "state_dict is complete", "is random state not saved?"),
    (TrainsWhileSampling, "sampling changes nothing", "the model was in training mode"),
    (CountsSamples, "sampling changes nothing", "sample() changed 'count'"),
    (NoiseOfTheCpu, "stays on one device", "loss(): aten.randn.generator and its generator are on different devices"),
    (WeightsOfTheCpu, "stays on one device", "loss(): aten.mul.Tensor of tensors on the CPU and on another device"),
    (ConstantNoBuffer, "stays on one device", "sample(): aten.add.Tensor of tensors on the CPU and on another device"),
    (RoundsInNumpy, "stays on one device", "sample(): numpy() of a tensor on another device"),
    (CountsOfTheCpu, "stays on one device", "loss(): aten.index.Tensor of tensors on the CPU and on another device"),
    (ReadsAFile, "files are declared", "pyproject.toml, which files() does not name"),
    (FlatDecode, "decodes to images", "has shape (4, 16); expected (4, 1, 4, 4)"),
    (BatchStatisticsInEval, "images are independent", "is batch norm not in eval mode"),
    (LabelOfAnother, "images are independent", "the label or text of another image used?"),
    (ImageShapedCode, "codes fit", "has shape (8, 1, 4, 4); expected (8, 5)"),
    (WrongInverse, "decode inverts encode", "is a layer's inverse wrong?"),
    (OtherDensity, "density is that of the codes", "is a layer's log-determinant wrong"),
    (TermTwice, "likelihood is normalised", "of all 81 images of 2x2 pixels and 3 grey levels sums to 1.051"),
    (TermMissing, "likelihood is normalised", "sums to 0.9512; expected 1"),
    (DensityAsMass, "mass needs no noise", "declare DequantisedDensity instead of ExactLikelihood"),
    (
        MeanLikelihood,
        "likelihood has a value an image",
        "shape (), required: a real floating-point tensor of shape (8,)",
    ),
    (NanLikelihood, "likelihood has a value an image", "expected finite numbers"),
    (OwnDequantisation, "same generator, same likelihood", "gen=None and a generator seeded with 0"),
    (EstimateOfTheBatch, "likelihood has a value an image", "log_prob_estimate(): returned float32 tensor of shape ()"),
    (DividesByZeroSteps, "likelihood has a value an image", "log_prob_estimate() is [-inf"),
    (EstimateOfItsOwn, "same generator, same likelihood", "log_prob_estimate() gave two values"),
    (ImportanceOverKTwice, "bounds are ordered", "log_prob_bound() is on average 2.0"),
    (ImportanceSum, "bounds are ordered", "nats above log_prob() on the same images"),
    (NatsPerDim, "likelihood is normalised", "a mean instead of a sum"),
    (NegativeLogLikelihood, "likelihood is normalised", "is the sign wrong"),
    (NoDequantisationTerm, "likelihood is normalised", "expected at most -45.33 nats"),
    (Miscounted, "evaluations are counted", "evaluations is 2, but the denoiser evaluated 3 rows for each image"),
    (DeafToLabels, "condition decides", "is condition used?"),
    (LearnsNoLabels, "conditions are learnt", "does loss() use them?"),
    (DeafToTime, "inputs have an effect", "input 'time' of 'net' (LinearWithTime) has no effect"),
    (SwapsSides, "other sides work", "for 4x6 images, sample(3) has shape (3, 1, 6, 4); expected (3, 1, 4, 6)"),
    (TranslatesOutOfRange, "translations are images", "'b_to_a') span -2 .. 2"),
]


@pytest.mark.parametrize(("kind", "name", "words"), PLANTED, ids=[kind.__name__ for kind, *_ in PLANTED])
def test_a_fault_is_caught_by_its_own_check_and_named(kind, name, words):
    failed = {result.name: result.message for result in check_model(kind, SMALL) if not result.passed}
    assert list(failed) == [name], failed
    assert words in failed[name]


def test_every_check_catches_a_planted_fault():
    assert {name for _, name, _ in PLANTED} == {check.name for check in CHECKS}


def test_an_exception_is_the_checks_failure_and_the_rest_still_runs():
    class Raises(Gan):
        def sample(self, n, gen, condition=None):
            raise KeyError("width")

    results = {result.name: result for result in check_model(Raises, SMALL)}
    assert results["samples are finite"].message.startswith("raised KeyError: 'width' (test_check.py:")
    assert results["losses are finite"].passed


def test_a_model_that_cannot_be_built_is_the_users_error():
    @dataclass(frozen=True)
    class Sizes:
        width: int = 8

    class Sized(Gan):
        Config = Sizes

    with pytest.raises(ModelError, match=r"Sized: config\.widht: unknown key; did you mean 'width'\?"):
        check_model(Sized, SMALL, config={"widht": 4})


def test_checking_leaves_global_randomness_alone():
    before = torch.get_rng_state()
    check_model(GlobalNoise, SMALL)
    assert torch.equal(before, torch.get_rng_state())


# ---- the zoo ----------------------------------------------------------------------------------------------------

NETWORK = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "groups": 4, "attention": []}
TINY = {
    "gan": {"latent": 8, "widths": [16]},
    "cgan": {"latent": 8, "label": 4, "width": 4, "critic_width": 4},
    "cyclegan": {"width": 4, "blocks": 1, "pool": 4},
    "glow": {"steps": 2, "width": 8},
    "latent_diffusion": {
        "width": 4, "depth_blocks": 1, "critic_width": 4, "critic_halvings": 1, "channels": 8, "blocks": 1, "heads": 2,
        "text_width": 8, "text_layers": 1, "groups": 2,
    },
    "vae": {"channels": 4, "hidden": 16, "latent": 4},
    "dcgan": {"width": 4, "critic_width": 4, "latent": 8},
    "realnvp": {"channels": 4, "blocks": 1, "couplings": 2, "final": 2},
    "ddpm": {"steps": 4, **NETWORK},
    "ddim": {"steps": 4, **NETWORK},
    "edm": NETWORK,
    "flow_matching": NETWORK,
    "mean_flow": NETWORK,
    "pixelcnn": {"width": 4, "blocks": 1, "components": 2},
}  # fmt: skip
TINY_SAMPLER = {
    "ddim": {"steps": 2},
    "edm": {"steps": 2},
    "flow_matching": {"steps": 2},
    "latent_diffusion": {"steps": 2},
}
DATA = [DataSpec(1, 8, 8, 17, 10), DataSpec(1, 28, 28, 256, 10)]


@pytest.mark.parametrize("data", DATA, ids=["8x8", "28x28"])
@pytest.mark.parametrize("name", sorted(MODELS.built_in))
def test_zoo_models_conform(name, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no other test opens files
    results = check_model(resolve_model(name), data, TINY.get(name), TINY_SAMPLER.get(name))
    assert [r for r in results if not r.passed] == []


@pytest.mark.parametrize("name", sorted(MODELS.built_in))
def test_the_zoos_images_can_be_told_apart(name):
    subject = Subject(resolve_model(name), DATA[0], TINY.get(name), TINY_SAMPLER.get(name))
    noise = NoiseOfEachImage(DRAWN)
    images = drawn_images(subject, noise, subject.condition(DRAWN))
    assert not noise.shared
    assert not torch.equal(images[0], images[1])


@pytest.mark.parametrize("name", ["realnvp", "glow"])
def test_the_zoos_flows_are_held_against_their_codes(name):
    subject = Subject(resolve_model(name), DATA[0], TINY[name], None)
    assert noise_is_standard_normal(subject.model(), subject.seeded(3))
    assert abs(density_gap(subject, 0)) < 1e-3


@pytest.mark.parametrize("name", ["realnvp", "glow", "vae", "ddpm", "pixelcnn"])
def test_the_zoos_likelihoods_are_summed(name):
    assert resized(Subject(resolve_model(name), DATA[0], TINY[name], None), DataSpec(1, 2, 2, 3, 10)) is not None


def test_a_check_imports_neither_torchs_compiler_nor_the_planner():
    """Each takes more time than the check of a small model; torch's dispatch modes import the compiler by default."""
    code = (
        "import sys; from genbench.commands.check import run_checks; "
        "assert run_checks('gan', None, '1x4x4', 17, 'cpu', lambda line: None); "
        "print([m for m in ('torch._dynamo', 'genbench.plan') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


class OtherCount(Draws, Steps):
    """Evaluates its denoiser twice and states once; its number in training mode is right."""

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.network = nn.Identity()

    @property
    def denoiser(self):
        return self.network

    @property
    def evaluations(self):
        return 2 if self.training else 1

    def sample(self, n, gen, condition=None):
        return self.denoiser(self.denoiser(torch.rand(n, *self.data.shape, generator=gen)))


def test_evaluations_are_those_of_the_model_that_draws():
    failed = {r.name: r.message for r in check_model(OtherCount, DATA[0]) if not r.passed}
    assert list(failed) == ["evaluations are counted"]
    assert "evaluations is 1, but the denoiser evaluated 2 rows" in failed["evaluations are counted"]


class NoNetwork(OtherCount):
    """Its denoiser is no network."""

    denoiser = "none"

    def sample(self, n, gen, condition=None):
        return torch.rand(n, *self.data.shape, generator=gen)


def test_a_denoiser_that_is_no_network_fails_no_check_of_its_images():
    failed = {r.name for r in check_model(NoNetwork, DATA[0]) if not r.passed}
    assert failed == {"evaluations are counted"}
