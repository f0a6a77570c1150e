"""Sources that only draw: exported graphs, programs and pipelines, each bound to one artefact as a class.

`source: "onnx:./g.onnx"` in a suite names a scheme and an artefact. The scheme's adapter looks at the artefact and
returns a subclass of `contract.Draws` with the abilities that the artefact has; everything else treats it as any model.
"""

from __future__ import annotations
