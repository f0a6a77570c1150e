"""Interception of every operation of torch, at the cost of the interception alone."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class Intercepts(TorchDispatchMode):
    """A mode whose __torch_dispatch__ torch calls as it is written.

    torch would wrap the method for torch.compile: the first operation would then import the compiler, which takes a
    second, and each one would pass through it.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No, for TorchDispatchMode, which asks this when a class is made; versions without the wrapper do not ask."""
        return False
