"""Inner products of float32 rows that are only roughly right, and by how much they can be wrong.

    kind        inputs rounded by   a sum's rounding, each term   result rounded by
    float32     0                   2^-24                         0
    tf32        2^-11               2^-22                         0
    bfloat16    2^-8                2^-22                         2^-8

Inputs are rounded here, to nearest, so that the hardware multiplies them as they are. Tensor cores multiply exactly and
add in float32, but cut off digits instead of rounding, before the sum is normalised (Fasi et al. 2021, section 3): 4
units of float32's rounding for each term allow for that.

With d the rounding of inputs, r that of the result, u that of a sum and n roundings of a product,

    |fl(x' y) - x' y| <= e (|x|^2 + |y|^2)      e = d + d^2 / 2 + (1 + d)^2 (g + r (1 + g) / 2)      g = n u / (1 - n u)

as sum |x_i y_i| is at most half of |x|^2 + |y|^2 (Higham 2002, section 3.1; g also covers 6 roundings beside the sum).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_BESIDE = 6  # roundings of a bound beside those of the sum over features
_DIGITS = 23  # of float32 after the leading one


class Products(NamedTuple):
    """A kind of products: its name and its relative roundings, of inputs, for each term of a sum, of the result."""

    name: str
    inputs: float
    sums: float
    result: float

    def error(self, features: int) -> float:
        """The factor e of the formula above."""
        total = (features + _BESIDE) * self.sums
        g, d = total / (1 - total), self.inputs
        return d + d**2 / 2 + (1 + d) ** 2 * (g + self.result * (1 + g) / 2)

    def rounded(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows whose inputs are exact in this kind; the same array for float32."""
        if not self.inputs:
            return rows
        cut = _DIGITS + 1 + int(np.log2(self.inputs))  # digits that are dropped
        bits = rows.view(np.uint32)
        half = np.uint32((1 << (cut - 1)) - 1) + ((bits >> np.uint32(cut)) & np.uint32(1))
        return ((bits + half) & ~np.uint32((1 << cut) - 1)).view(np.float32)

    def as_stored(self, rows: Any) -> Any:
        """A tensor of `rounded` rows in the type that is multiplied."""
        return rows.bfloat16() if self.name == "bfloat16" else rows


FLOAT32 = Products("float32", 0.0, 2.0**-24, 0.0)
TF32 = Products("tf32", 2.0**-11, 2.0**-22, 0.0)
BFLOAT16 = Products("bfloat16", 2.0**-8, 2.0**-22, 2.0**-8)
KINDS = {kind.name: kind for kind in (FLOAT32, TF32, BFLOAT16)}
