"""Models that change or end their process: their own cells fail or are not affected, and nothing else is.

Each model is measured with two seeds, so that a second cell would find what the first one left in its process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

import genbench
from faults.hostile import HOSTILE
from genbench.records import FAILED, OK

SOURCE = Path(__file__).parent / "hostile.py"
QUICK = ["ClosesOutput", "SystemExits", "Segfaults", "FailingThread"]


def check(folder: Path, names: Sequence[str]) -> None:
    """Runs a suite of these models beside Quiet, and compares their records with what HOSTILE says."""
    np.savez(folder / "data.npz", images=np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8))
    suite = {"suite": "hostile", "dataset": {"name": "npz", "path": "data.npz"}, "features": "pixels", "samples": 20}
    suite |= {"metrics": ["fid"], "block": 20, "seeds": [0, 1]}
    models = [{"name": name.lower(), "label": name, "source": f"{SOURCE}:{name}"} for name in ("Quiet", *names)]
    (folder / "hostile.yaml").write_text(yaml.safe_dump(suite | {"models": models}))
    result = genbench.run(folder / "hostile.yaml", out=folder / "out", device="cpu")
    assert (folder / "out" / "leaderboard.html").is_file()
    records = {(r.model, r.seed): r for r in result.records}
    wrong = []
    for name in names:
        for seed in (0, 1):
            record, quiet = records[name, seed], records["Quiet", seed]
            assert quiet.status == OK
            harmless = record.status == OK and record.value == quiet.value
            failed = record.status == FAILED and HOSTILE[name] in record.reason
            if not (failed if HOSTILE[name] else harmless):
                wrong.append((name, seed, record.status, record.value, record.reason))
    assert not wrong, "\n".join(map(str, wrong))


def test_hostile_models_affect_no_other_cell(tmp_path, capfd):
    check(tmp_path, QUICK)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_every_hostile_model(tmp_path, capfd):
    assert len(HOSTILE) >= 60
    check(tmp_path, list(HOSTILE))
    assert "Traceback" not in "".join(capfd.readouterr())
