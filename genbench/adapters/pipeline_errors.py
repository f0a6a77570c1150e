"""Why a pipeline of diffusers did not draw, in a sentence that states what to change."""

from __future__ import annotations

REFUSALS = (TypeError, ValueError, AttributeError, KeyError, NotImplementedError)  # of a call with such options
COMPILER = ("torch._dynamo", "torch._inductor", "torch._functorch")  # modules of the errors of torch.compile
FOLDER = "$TORCHINDUCTOR_CACHE_DIR, by default torchinductor_USER in the folder of temporary files"
LONGEST = 300  # characters of another library's message


def why_not_drawn(error: Exception) -> str:
    """The reason, for an error of a call's arguments or of torch.compile; "" for any other."""
    text = " ".join(str(error).split())[:LONGEST] or type(error).__name__
    if type(error).__module__.startswith(COMPILER):
        return (
            f"config.compile: the network cannot be compiled, or a file that was compiled earlier is damaged: {text}; "
            f"delete the compiler's files ({FOLDER}), or set compile: false"
        )
    return f"diffusers cannot draw with it in this way: {text}" if isinstance(error, REFUSALS) else ""
