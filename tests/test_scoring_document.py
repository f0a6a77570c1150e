"""What docs/scoring.md states that no other test holds: the linter's codes, and formats that Pillow cannot write."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from genbench import data, lint
from genbench.data.images import open_images
from genbench.evaluate.sides import open_side
from genbench.lint import Finding
from genbench.lint.files import NOT_READ, OF_PICTURES, OF_SETS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "scoring.md").read_text()
CODE = r"`([a-z-]+)`"


def codes_of_linter() -> set[str]:
    """Those of files, and those that the checks of sets name."""
    checks = "".join(path.read_text() for path in (ROOT / "genbench" / "lint").glob("*.py"))
    return {*NOT_READ, *OF_PICTURES, *OF_SETS, *re.findall(r'Finding\(\s*"([a-z-]+)"', checks)}


def test_the_table_has_every_code_of_the_linter_and_no_other():
    table = TEXT[TEXT.index("| code | meaning |") :]
    rows = re.findall(r"^\| (`.*?) \|", table, re.M)
    assert {code for row in rows for code in re.findall(CODE, row)} == codes_of_linter()


def planted(tmp_path: Path) -> dict[str, tuple[Finding, ...]]:
    """Findings in cases of the codes that the other tests of the linter do not name."""
    images = torch.randint(256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    np.save(tmp_path / "deep.npy", images.numpy().astype(np.uint16) * 257)
    return {
        "one-class": lint.lint(images, 256, labels=torch.zeros(40, dtype=torch.int64)),
        "duplicates": lint.lint(images.repeat(2, 1, 1, 1), 256),
        "deep-array": lint.lint(images, 256, files=open_images(tmp_path / "deep.npy").found),
        "train-mode": lint.lint_model(nn.Sequential(nn.Dropout()).train()),
    }


def test_every_code_is_planted_in_a_test(tmp_path):
    for code, findings in planted(tmp_path).items():
        assert code in {finding.code for finding in findings}
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    assert {code for code in codes_of_linter() if f'"{code}"' not in tests} == set()


def photoshop(pixels: np.ndarray) -> bytes:
    """A PSD of one raw RGB image (H, W, 3)."""
    height, width, channels = pixels.shape
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, channels, height, width, 8, 3)
    return head + bytes(12) + struct.pack(">H", 0) + pixels.transpose(2, 0, 1).tobytes()


def quite_ok(pixels: np.ndarray) -> bytes:
    """A QOI of whole pixels (H, W, 3)."""
    height, width, _ = pixels.shape
    body = b"".join(b"\xfe" + pixel.tobytes() for pixel in pixels.reshape(-1, 3))
    return b"qoif" + struct.pack(">IIBB", width, height, 3, 0) + body + bytes(7) + b"\x01"


@pytest.mark.parametrize("write", [photoshop, quite_ok])
@pytest.mark.parametrize("suffix", [".psd", ".qoi", "", ".dat"])
def test_formats_are_recognised_by_content(write, suffix, tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(5, 4, 3), dtype=np.uint8)
    (tmp_path / f"x{suffix}").write_bytes(write(pixels))
    assert np.array_equal(open_images(tmp_path).load()[0].permute(1, 2, 0).numpy(), pixels)


def test_the_test_split_of_a_dataset_has_a_name():
    assert open_side("digits:test", "fake").images.count == data.sizes({"name": "digits"})[1]
