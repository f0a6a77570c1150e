"""Data whose best denoiser is known in closed form, and noise that turns a linear sampler into exact moments."""

import torch


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


class Impulses:
    """Stands for the noise of a sampler whose maps are linear in it: draw number k is 1 in pixel k and 0 elsewhere.

    Started from 1 in pixel 0, the sum of squares over pixels is the variance that independent noise would have had.
    """

    def __init__(self):
        self.draws = 0

    def __call__(self, shape, gen):
        self.draws += 1
        return pixel(self.draws, shape)


def pixel(k, shape):
    """Float64 zeros of the shape with a 1 in place k of the last axis."""
    x = torch.zeros(shape, dtype=torch.float64)
    x[..., k] = 1
    return x
