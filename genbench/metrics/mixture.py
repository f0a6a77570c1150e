"""A mixture of normal distributions around given centres, each with one variance of its own, fitted to rows.

    p(x) = 1/N sum_j N(x; f_j, s_j I)

While it is fitted, a broad component around the mean of the rows bounds the loss. The gradient of -log p / D in log s_j
is -(r_j d_j / s_j - r_j) / 2, with d_j the squared distance over D and r_j the component's share of p. Distances are
computed once and kept, in float32 where they fit into memory, else in float16, whose relative error of 2e-4 changes a
fitted FLD by less than 1e-3; sets beyond that are computed anew in each pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genbench.metrics.arrays import Array
from genbench.metrics.computing import arithmetic
from genbench.progress import alive

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RATE, PASSES, BATCH = 0.5, 50, 10_000
_OUTER = 0.9**2  # squared distances to the mean are scaled by this for the broad component
_ROWS = 1000  # whose distances are computed at a time
_PAIRS = 2**18  # of which probabilities are computed at a time: they stay in the processor's cache
_SETTLED, _WINDOW = 5e-4, 5  # fitting ends when the loss differed by less from each of that many earlier passes
_LARGEST_LOG = 40.0  # of a variance: identical rows would have -infinity
_LEAST_LOG = -80.0  # of a probability over the largest of its row: below, exp of float32 is slow and its result no part


class BlockSums(NamedTuple):
    """Of a block of rows the sum of log p, and of each component the sums of its shares r and of r d."""

    log_p: Tensor
    shares: Tensor
    distances: Tensor


def distances_of(rows: Tensor, centres: Tensor) -> Tensor:
    """|x_i - f_j|^2 / D of rows (M, D) and centres (N, D): (M, N)."""
    import torch  # late: reading a suite names metrics and must be fast

    return torch.cdist(rows, centres).square_().div_(rows.shape[1])


def kept_type(rows: int, centres: int) -> torch.dtype | None:
    """In which type the distances of so many rows to so many centres fit into memory; None: in none."""
    import torch  # late, as above

    types = (t for t in (torch.float32, torch.float16) if rows <= arithmetic().most(t.itemsize * centres))
    return next(types, None)


class Distances:
    """Distances (., N) of consecutive rows to centres."""

    def __init__(self, rows: Tensor, centres: Tensor) -> None:
        import torch  # late, as above

        self.rows, self.centres = rows, centres
        self.nearest = torch.full((len(centres),), torch.inf, device=rows.device)
        kept_in, self.kept = kept_type(len(rows), len(centres)), None
        if kept_in is not None:
            self.kept = torch.empty(len(rows), len(centres), dtype=kept_in, device=rows.device)
        for start in range(0, len(rows), _ROWS):
            alive()
            found = distances_of(rows[start : start + _ROWS], centres)
            self.nearest = torch.minimum(self.nearest, found.min(dim=0).values)
            if self.kept is not None:
                self.kept[start : start + _ROWS] = found.clamp_(max=torch.finfo(self.kept.dtype).max)

    def blocks(self, start: int, stop: int) -> Iterator[tuple[slice, Tensor]]:
        """Distances of the rows from start to stop, float32, a block at a time."""
        n = len(self.centres)
        for part in arithmetic().blocks(stop - start, max(1, _PAIRS // n), 12 * n):
            rows = slice(start + part.start, start + part.stop)
            if self.kept is None:
                yield rows, distances_of(self.rows[rows], self.centres)
            else:
                yield rows, self.kept[rows].float()


def fitted_log_variances(centres: Tensor, rows: Tensor) -> Tensor:
    """Log s_j (N,) of a mixture around centres (N, D) for which rows (M, D) are most likely."""
    import torch  # late, as above

    near, dims = Distances(rows, centres), rows.shape[1]
    middle = rows.mean(0)[None]
    far = _OUTER * torch.cat([distances_of(part, middle) for part in rows.split(_ROWS)])  # cdist copies its rows
    log_s = torch.cat([(near.nearest + 1e-3 / dims).log(), torch.zeros(1, device=rows.device)])
    optimiser, losses = torch.optim.Adam([log_s], lr=RATE), []
    for _ in range(PASSES):
        alive()
        losses.append(0.0)
        for start in range(0, len(rows), BATCH):
            stop = min(start + BATCH, len(rows))
            log_p, log_s.grad = _of_batch(near, far, log_s, dims, start, stop)
            losses[-1] -= log_p / len(rows) / dims
            optimiser.step()
            log_s[:-1].clamp_(-_LARGEST_LOG, _LARGEST_LOG)
        if len(losses) > _WINDOW + 1 and max(abs(losses[-1] - x) for x in losses[-_WINDOW - 1 : -1]) < _SETTLED:
            break
    return log_s[:-1]


def _of_batch(near: Distances, far: Tensor, log_s: Tensor, dims: int, start: int, stop: int) -> tuple[float, Tensor]:
    """The sum of log p over rows start..stop, and the gradient (N + 1,) of the mean of -log p / D."""
    sums = BlockSums(*(x.new_zeros(x.shape) for x in (log_s[0], log_s, log_s)))
    for rows, distances in near.blocks(start, stop):
        for total, new in zip(sums, _of_block(distances, far[rows], log_s, dims), strict=True):
            total += new
    return float(sums.log_p), (sums.shares - sums.distances / log_s.exp()) / (2 * (stop - start))


def _of_block(near: Tensor, far: Tensor, log_s: Tensor, dims: int) -> BlockSums:
    """Of distances near (B, N) and far (B, 1)."""
    import torch  # late, as above

    log_p = log_normal(near, log_s[:-1], dims).sub_(float(np.log(near.shape[1])))
    outer = log_normal(far, log_s[-1:], dims)
    largest = torch.maximum(log_p.amax(1, keepdim=True), outer)
    shares = log_p.sub_(largest).clamp_(min=_LEAST_LOG).exp_()
    outer = outer.sub_(largest).exp_()
    total = shares.sum(1, keepdim=True) + outer
    weights = (1 / total).T
    return BlockSums(
        (largest + total.log()).sum(),
        torch.cat([weights @ shares, weights @ outer], dim=1)[0],
        torch.cat([weights @ shares.mul_(near), weights @ outer.mul_(far)], dim=1)[0],
    )


def log_normal(distances: Tensor, log_s: Tensor, dims: int) -> Tensor:
    """Log-density (B, N) of normal distributions with log-variances (N,) at these distances over D, in nats."""
    import torch  # late, as above

    middle = -0.5 * dims * (log_s + float(np.log(2 * np.pi)))
    return torch.addcmul(middle, distances, -0.5 * dims * (-log_s).exp())


def losses_per_dim(rows: Tensor, centres: Tensor, log_s: Tensor) -> Array:
    """-log p(x) / D of rows (T, D) under the mixture: (T,), nats, sums in float64."""
    dims, parts = rows.shape[1], []
    for part in arithmetic().blocks(len(rows), max(1, _PAIRS // len(centres)), 24 * len(centres)):
        log_p = log_normal(distances_of(rows[part], centres).double(), log_s.double(), dims)
        largest = log_p.amax(1, keepdim=True)
        total = largest + log_p.sub_(largest).clamp_(min=_LEAST_LOG).exp_().sum(1, keepdim=True).log()
        parts.append((float(np.log(len(centres))) - total[:, 0]).cpu().numpy() / dims)
    return np.concatenate(parts)
