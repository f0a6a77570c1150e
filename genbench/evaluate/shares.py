"""Features that several processes extract together: each of them those of its share of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from genbench.errors import CellFailure
from genbench.features import BATCH, Features
from genbench.features.together import Extracted, Loads, extract_together, joined
from genbench.processes.group import Processes
from genbench.reasons import explain


def own_share(pixels: Tensor, group: Processes) -> Tensor:
    """The part of this process of images (N, C, H, W): whole batches of an extractor, as its results depend on them."""
    start, stop = group.rows(-(-len(pixels) // BATCH))
    return pixels[start * BATCH : stop * BATCH]


def extract_share(extractors: Mapping[str, Loads], pixels: Tensor, levels: int, group: Processes) -> Extracted:
    """As extract_together, of this process's part of the images; {} where it has none. Failures are sentences."""
    share = own_share(pixels, group)
    found = extract_together(extractors, share, levels) if len(share) else {}
    return {name: part if isinstance(part, Features) else CellFailure(explain(part)) for name, part in found.items()}


def joined_shares(shares: Sequence[Extracted]) -> Extracted:
    """The features of all images by each extractor; for one that failed in a process its first failure."""
    return {name: _whole([share[name] for share in shares if name in share]) for name in shares[0]}


def _whole(parts: Sequence[Features | Exception]) -> Features | Exception:
    failed = [part for part in parts if not isinstance(part, Features)]
    return failed[0] if failed else joined([part for part in parts if isinstance(part, Features)])
