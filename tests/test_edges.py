"""The translation task: true pairs in the test split, none in training, and edges where the grey level steps."""

from __future__ import annotations

import pytest
import torch

from genbench import data
from genbench.data.edges import edges
from genbench.errors import DataError

ENTRY = {"name": "edges", "of": "digits"}


def test_an_even_picture_has_no_edges():
    assert edges(torch.full((2, 1, 5, 5), 9, dtype=torch.uint8), 17).eq(0).all()


def test_a_step_from_black_to_white_is_white_on_both_sides():
    pixels = torch.zeros(1, 1, 4, 6, dtype=torch.uint8)
    pixels[..., 3:] = 16
    expected = torch.tensor([0, 0, 16, 16, 0, 0], dtype=torch.uint8).expand(4, 6)
    assert torch.equal(edges(pixels, 17)[0, 0], expected)


def test_the_gradient_of_a_ramp():
    ramp = torch.arange(0, 10, dtype=torch.uint8).expand(1, 1, 10, 10)  # one level a column
    across, inner = edges(ramp, 17), slice(1, -1)
    assert across[..., inner, inner].eq(2).all()  # Sobel weighs a slope of 1/16 eight times: 8/16/4 of 16 levels
    assert torch.equal(edges(ramp.transpose(2, 3), 17), across.transpose(2, 3))


def test_held_out_images_are_pairs_and_training_images_are_not():
    found, whole = data.load(ENTRY), data.load({"name": "digits"})
    assert found.source is not None
    assert torch.equal(found.test.pixels, edges(found.source.test.pixels, 17))
    assert torch.equal(found.source.test.pixels, whole.test.pixels)
    of_pictures = {p.numpy().tobytes() for p in edges(found.source.train.pixels, 17)}
    shown = {p.numpy().tobytes() for p in found.train.pixels}
    assert not of_pictures & shown
    assert len(found.train) + len(found.source.train) == len(whole.train)


def test_described_without_loading():
    found = data.load(ENTRY)
    assert data.describe(ENTRY) == (found.spec, found.fingerprint)
    assert data.sizes(ENTRY) == (len(found.train), len(found.test))
    assert data.is_translation(ENTRY)
    assert not data.is_translation({"name": "digits"})
    assert data.origin(ENTRY) == "digits"


def test_what_it_is_made_of_must_be_said():
    with pytest.raises(DataError, match=r"dataset\.of: missing key, allowed: digits, fashion-mnist"):
        data.load({"name": "edges"})
    with pytest.raises(DataError, match=r"dataset\.of: found 'cats' \(str\), allowed: digits, fashion-mnist"):
        data.load({"name": "edges", "of": "cats"})


def test_a_caption_for_each_class():
    assert len(set(data.load({"name": "digits"}).captions)) == 10
    assert data.has_captions({"name": "fashion-mnist"})
    assert not data.has_captions({"name": "npz", "path": "x.npz"})
