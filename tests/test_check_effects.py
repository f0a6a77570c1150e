"""Planted faults of third-party models: terms without gradient, sides that differ, labels and times without effect."""

import pytest
import torch
from test_check import SMALL, Chain, Flow, Gan, Labelled, Mixture, Pixelwise, Translator
from torch import nn
from torch.nn import functional as F

from genbench.check import CHECKS, run_check
from genbench.check.subject import Subject
from genbench.contract import ClassConditional, DataSpec, Encodes, Loss, Model, Reconstructs, Stage

SQUARE = DataSpec(1, 8, 8, 17, 10)


def message(kind, name, data=SMALL):
    check = next(check for check in CHECKS if check.name == name)
    assert all(issubclass(kind, ability) for ability in check.needs)
    return run_check(check, Subject(kind, data, None, None)).message


# ---- terms ------------------------------------------------------------------------------------------------------


class Vae(Model, Reconstructs):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.encoder, self.decoder = nn.Linear(data.dims, 6), nn.Linear(3, data.dims)

    def terms(self, batch, gen):
        mean, log_std = self.encoder(batch.x.flatten(1)).chunk(2, 1)
        noise = torch.randn(mean.shape, generator=gen, device=gen.device)
        error = (self.decoder(mean + log_std.exp() * noise) - batch.x.flatten(1)).square().sum(1).mean()
        return error, 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(1).mean()

    def loss(self, batch, player, step, gen):
        error, kl = self.terms(batch, gen)
        return Loss(error + kl, {"error": error, "kl": kl})

    def encode(self, x):
        return self.encoder(x.flatten(1))[:, :3]

    def noise(self, n, gen):
        return torch.randn(n, 3, generator=gen, device=gen.device)

    def decode(self, z):
        return self.decoder(z).tanh().unflatten(1, self.data.shape)

    def sample(self, n, gen, condition=None):
        return self.decode(self.noise(n, gen))


class DetachedKl(Vae):
    def loss(self, batch, player, step, gen):
        error, kl = self.terms(batch, gen)
        return Loss(error + 0.5 * kl.detach(), {"error": error, "kl": kl})


class DetachedInFloat32(DetachedKl):
    def encoded(self, x):
        return self.encoder(x.to(torch.float32) + torch.zeros(x.shape, dtype=torch.float32, device=x.device))

    def terms(self, batch, gen):
        mean, log_std = self.encoded(batch.x.float().flatten(1)).chunk(2, 1)
        error = (self.decoder(mean) - batch.x.flatten(1)).square().sum(1).mean()
        return error, 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(1).mean()


class KlWithoutGradient(Vae):
    def loss(self, batch, player, step, gen):
        error, _ = self.terms(batch, gen)
        with torch.no_grad():
            _, kl = self.terms(batch, gen)
        return Loss(error + kl, {"error": error, "kl": kl, "total": error + kl})


class WeightlessKl(Vae):
    def loss(self, batch, player, step, gen):
        error, kl = self.terms(batch, gen)
        return Loss(error + 0.0 * kl, {"error": error, "kl": kl})


class CyclePlayers(Gan):
    """The generator has a second term, made from its own images."""

    def cycle(self, fake, target):
        return (fake - target).square().mean()

    def loss(self, batch, player, step, gen):
        loss = super().loss(batch, player, step, gen)
        if player == "critic":
            return loss
        cycle = self.cycle(self.decode(self.noise(len(batch), gen)), batch.x)
        return Loss(loss.total + 10 * cycle, {"fooling": loss.total, "cycle": cycle})


class DetachedImages(CyclePlayers):
    def cycle(self, fake, target):
        return super().cycle(fake.detach(), target)


class OnlyTheCriticsGradient(CyclePlayers):
    def cycle(self, fake, target):
        return F.softplus(-self.critic(fake.detach().flatten(1))).mean()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (DetachedKl, "term 'kl' of the loss of 'all' is part of the total, but its gradient is not"),
        (DetachedInFloat32, "term 'kl' of the loss of 'all' is part of the total, but its gradient is not"),
        (KlWithoutGradient, "is part of the total, but its gradient is not"),
        (WeightlessKl, "term 'kl' of the loss of 'all' has no gradient; is it multiplied by 0?"),
        (DetachedImages, "term 'cycle' of the loss of 'generator' is part of the total"),
        (OnlyTheCriticsGradient, "term 'cycle' of the loss of 'generator' is part of the total"),
    ],
)
def test_a_term_without_gradient_is_named(kind, words):
    assert words in message(kind, "terms reach their player")


class WarmUp(Vae):
    def loss(self, batch, player, step, gen):
        error, kl = self.terms(batch, gen)
        return Loss(error + min(1.0, step / 1000) * kl, {"error": error, "kl": kl})


class OnlyLogged(Vae):
    def loss(self, batch, player, step, gen):
        error, kl = self.terms(batch, gen)
        logged = {"bits": (error + kl) / 7, "size": self.decoder.weight.norm(), "kl": kl.detach()}
        return Loss(error + 3 * kl, {"error": error, **logged})


class StoppedTarget(Vae):
    """The target of the error depends on the weights, and intentionally has no gradient, as in MeanFlow."""

    def loss(self, batch, player, step, gen):
        codes = self.encode(batch.x)
        error = (self.decoder(codes) - self.decoder(2 * codes).detach()).square().mean() + codes.square().mean()
        return Loss(error, {"loss": error, "distance": self.decoder(codes).square().mean()})


class WeightedByItself(Vae):
    def loss(self, batch, player, step, gen):
        error, kl = self.terms(batch, gen)
        return Loss((error + kl) / (error + kl).detach().sqrt(), {"error": error, "kl": kl})


@pytest.mark.parametrize("kind", [Vae, CyclePlayers, WarmUp, OnlyLogged, StoppedTarget, WeightedByItself])
def test_sound_terms_pass(kind):
    assert message(kind, "terms reach their player") == ""


# ---- sides ------------------------------------------------------------------------------------------------------


def swapped(x):
    """What a model makes of images whose height and width it confuses; for square images it is the identity."""
    return x.reshape(*x.shape[:2], x.shape[3], x.shape[2])


class SwapsInLoss(Flow):
    def loss(self, batch, player, step, gen):
        error = (swapped(batch.x) - batch.x).square().mean()
        return Loss(super().loss(batch, player, step, gen).total + error)


class SwapsInSample(Chain):
    def sample(self, n, gen, condition=None):
        return swapped(super().sample(n, gen))


class SwapsInDecode(Gan):
    def decode(self, z):
        return swapped(super().decode(z))

    def sample(self, n, gen, condition=None):
        return super().decode(self.noise(n, gen))


class SwapsInEncode(Vae):
    def encode(self, x):
        return super().encode(x + 0 * swapped(x))


class SquareTable(Pixelwise):
    """Probabilities for height x height pixels."""

    def log_prob(self, pixels, gen=None):
        table = self.logits.log_softmax(1).view(self.data.height, self.data.height, -1)
        return super().log_prob(pixels) + 0 * table.sum()

    def loss(self, batch, player, step, gen):
        return Loss(-super().log_prob(batch.pixels).mean())


class SwapsInBound(Chain):
    def log_prob_bound(self, pixels, gen=None):
        return super().log_prob_bound(torch.maximum(pixels, swapped(pixels)), gen)


class SwapsInImportance(Mixture):
    def log_prob_importance(self, pixels, k, gen=None):
        return super().log_prob_importance(torch.maximum(pixels, swapped(pixels)), k, gen)


class SwapsInEstimate(Chain):
    def log_prob_estimate(self, pixels, gen=None, steps=16):
        return super().log_prob_estimate(torch.maximum(pixels, swapped(pixels)), gen, steps)


class SwapsInTranslate(Translator):
    def translate(self, x, direction):
        return swapped(x) if direction == "b_to_a" else x


class SwapsLabelled(Labelled):
    def sample(self, n, gen, condition=None):
        return swapped(super().sample(n, gen, condition))


class Codes(Gan, Encodes):
    """Its codes are one number for each row, and so is the number of latents: which are too few for wide images."""

    def encode(self, x):
        return x.mean((1, 2))[:, : self.data.height].new_zeros(len(x), x.shape[3] - self.data.height + 5)


@pytest.mark.parametrize(
    "kind",
    [
        SwapsInLoss, SwapsInSample, SwapsInDecode, SwapsInEncode, SquareTable, SwapsInBound, SwapsInImportance,
        SwapsInEstimate, SwapsInTranslate, SwapsLabelled, Codes,
    ],
)  # fmt: skip
def test_every_ability_is_tried_with_a_width_that_is_not_the_height(kind):
    assert message(kind, "other sides work", SQUARE).startswith("for 8x12 images, ")


class Refuses(SwapsInSample):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        if data.width != data.height:
            raise ValueError("data: found images that are not square, allowed: square images")


class RefusesHalves(SwapsInSample):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        if data.width & (data.width - 1):
            raise ValueError("data.width: allowed: a power of 2")


def test_a_size_that_the_model_refuses_is_no_fault():
    assert message(Refuses, "other sides work", SQUARE) == ""
    assert message(RefusesHalves, "other sides work", SQUARE).startswith("for 8x16 images, ")


# ---- labels and times -------------------------------------------------------------------------------------------


class Critic(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.layer, self.classes = nn.Linear(data.dims, 1), nn.Embedding(data.classes, 1)

    def forward(self, x, labels):
        return self.layer(x.flatten(1)) + self.classes(labels)


class DeafCritic(Critic):
    def forward(self, x, labels):
        return self.layer(x.flatten(1)) + self.classes.weight.mean()


class ConditionalGan(Model, ClassConditional):
    stages = (Stage("fit", turns=("critic", "generator")),)
    Judge = Critic

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.generator, self.critic = nn.Embedding(data.classes, data.dims), self.Judge(data)

    def players(self):
        return {"critic": list(self.critic.parameters()), "generator": list(self.generator.parameters())}

    def loss(self, batch, player, step, gen):
        fake = self.draw(batch.labels, gen)
        if player == "generator":
            return Loss(F.softplus(-self.critic(fake, batch.labels)).mean())
        real = F.softplus(-self.critic(batch.x, batch.labels)).mean()
        return Loss(real + F.softplus(self.critic(fake.detach(), batch.labels)).mean())

    def draw(self, labels, gen):
        noise = torch.randn(len(labels), self.data.dims, generator=gen, device=gen.device)
        return (self.generator(labels) + noise).tanh().unflatten(1, self.data.shape)

    def sample(self, n, gen, condition=None):
        return self.draw(condition.labels, gen)


class CriticThatIgnoresLabels(ConditionalGan):
    Judge = DeafCritic


class TimedLinear(nn.Linear):
    weight_of_time = 1.0

    def forward(self, x, time):
        return super().forward(x) + self.weight_of_time * torch.as_tensor(time).reshape(-1, 1)


class TimelessLinear(TimedLinear):
    weight_of_time = 0.0


class Timed(Chain):
    """Its denoiser receives times as a tensor in the loss, and as a number when sampling."""

    Net = TimedLinear

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.net = self.Net(data.dims, data.dims)

    def loss(self, batch, player, step, gen):
        time = torch.rand(len(batch), generator=gen, device=gen.device)
        return Loss((self.net(batch.x.flatten(1), time=time) - time[:, None]).square().mean())

    def sample(self, n, gen, condition=None):
        x = torch.randn(n, self.data.dims, generator=gen, device=gen.device)
        for time in (1.0, 0.6, 0.3):
            x = x - 0.1 * self.net(x, time=time)
        return x.clamp(-1, 1).unflatten(1, self.data.shape)


class TimeTimesZero(Timed):
    Net = TimelessLinear


def test_a_network_that_ignores_labels_or_times_is_named():
    words = "input 'labels' of 'critic' (DeafCritic) has no effect"
    assert words in message(CriticThatIgnoresLabels, "inputs have an effect")
    assert "input 'time' of 'net' (TimelessLinear)" in message(TimeTimesZero, "inputs have an effect")


@pytest.mark.parametrize("kind", [ConditionalGan, Timed])
def test_networks_that_use_their_inputs_pass(kind):
    assert message(kind, "inputs have an effect") == ""
