"""Data whose best denoiser is known in closed form, and noise that turns a linear sampler into exact moments."""

import torch

from zoo.denoising import PREDICTIONS, Denoiser


class ExactDenoiser:
    """E[eps | x_t] for a mixture of N(m_i, s_i^2) on every pixel: weights, means, stds are lists.

    One component: E[x_0 | x_t] = m + sqrt(a) s^2 / (a s^2 + 1 - a) (x_t - sqrt(a) m). Several: the mean of that over
    the posterior of the component.
    """

    def __init__(self, schedule, stds, means=(0.0,), weights=(1.0,)):
        self.schedule = schedule
        self.stds, self.means, self.weights = (torch.tensor(v, dtype=torch.float64) for v in (stds, means, weights))
        self.seen = []  # (x_t, t) of every call

    def __call__(self, x, t):
        self.seen.append((x.clone(), t.clone()))
        a = self.schedule.alpha_bar[t].view(-1, *[1] * (x.dim() - 1), 1)
        y = x.double()[..., None]
        variance = a * self.stds**2 + 1 - a
        logits = self.weights.log() - 0.5 * variance.log() - 0.5 * (y - a.sqrt() * self.means) ** 2 / variance
        x_0 = self.means + a.sqrt() * self.stds**2 / variance * (y - a.sqrt() * self.means)
        mean = (logits.softmax(-1) * x_0).sum(-1)
        a = a[..., 0]
        return ((x - a.sqrt() * mean) / (1 - a).sqrt()).to(x.dtype)


class ExactCovarianceDenoiser:
    """E[eps | x_t] for x_0 ~ N(0, C): sqrt(1 - a) (a C + (1 - a) I)^-1 x_t, x_t (B, D); one time for the batch."""

    def __init__(self, schedule, covariance):
        self.schedule, self.covariance = schedule, covariance

    def __call__(self, x, t):
        a = self.schedule.alpha_bar[t[0]]
        of_x_t = a * self.covariance + (1 - a) * torch.eye(len(self.covariance), dtype=a.dtype)
        return (1 - a).sqrt() * torch.linalg.solve(of_x_t, x, left=False)


def pixel(k, shape):
    """Float64 zeros of the shape with a 1 in place k of the last axis."""
    x = torch.zeros(shape, dtype=torch.float64)
    x[..., k] = 1
    return x


def unit_rows(k, shape):
    """Float64 zeros of the shape (B, D) with the identity in rows k D to k D + D - 1."""
    x = torch.zeros(shape, dtype=torch.float64)
    x[k * shape[1] : (k + 1) * shape[1]] = torch.eye(shape[1])
    return x


class Impulses:
    """Stands for the noise of a sampler whose maps are linear in it: draw number k is impulse(k, shape).

    pixel: started from 1 in pixel 0, the sum of squares over pixels is the variance that independent noise would have
    had. unit_rows: started from unit_rows(0, shape), the sum of x x' over rows is the covariance.
    """

    def __init__(self, impulse=pixel):
        self.impulse, self.draws = impulse, 0

    def __call__(self, shape, gen):
        self.draws += 1
        return self.impulse(self.draws, shape)


def turned(values):
    """A symmetric matrix with these eigenvalues, Q diag(values) Q' of a fixed rotation Q that mixes all pixels."""
    values = torch.tensor(values, dtype=torch.float64)
    gen = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(len(values), len(values), generator=gen, dtype=torch.float64)).Q
    return q @ values.diag() @ q.T


def denoiser(network, process, kind="eps"):
    """A zoo denoiser from a function of (x, t) that predicts "eps", "x0" or "v"."""
    return Denoiser(network, process, PREDICTIONS[kind])


def best_of_points(process, x, t, points, weights, width=0.0):
    """The best prediction of `process.kind` at x (B, ...) and times t (B,) for a mixture of N(point, width^2)."""
    signal, spread = (v.view(-1, *[1] * x.dim()) for v in zip_levels(process, t))
    y, places = x.double()[..., None], torch.tensor(points, dtype=torch.float64)
    variance = ((signal * width) ** 2 + spread**2).clamp_min(1e-12)
    nearness = torch.tensor(weights, dtype=torch.float64).log() - (y - signal * places) ** 2 / (2 * variance)
    x_0 = places + signal * width**2 / variance * (y - signal * places)
    x_0, signal, spread = (nearness.softmax(-1) * x_0).sum(-1), signal[..., 0], spread[..., 0]
    noise = (x - signal * x_0) / spread.clamp_min(1e-6)
    return process.kind.target(x_0, noise, signal, spread).to(x.dtype)


def best_of_gaussian(process, x, t, mean, std):
    """The best prediction of `process.kind` at x (B, ...) and times t (B,) for N(mean, std^2) on every pixel."""
    signal, spread = (v.view(-1, *[1] * (x.dim() - 1)) for v in zip_levels(process, t))
    variance = (signal * std) ** 2 + spread**2
    rest = (x - signal * mean) / variance
    return process.kind.target(mean + signal * std**2 * rest, spread * rest, signal, spread).to(x.dtype)


def zip_levels(process, t):
    """Signal and spread at times t (B,), float64: two (B,)."""
    levels = [process.level(float(time)) for time in t]
    return torch.tensor([[level.signal for level in levels], [level.spread for level in levels]], dtype=torch.float64)
