"""How much noise the model adds."""

SCALE = 0.2
