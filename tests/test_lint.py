"""The linter: every warning is proven by a planted fault, and by silence on clean images."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from genbench import data
from genbench.data import fashion_mnist
from genbench.data.image_set import Found, Note
from genbench.lint import Case, Gather, inspect, lint, lint_model, load_summary, summarise
from genbench.lint.checks import neighbours
from genbench.lint.summary import grey_images, high_share, row_hashes, step_excess

needs_fashion = pytest.mark.skipif(
    not any((place / name).is_file() for place in fashion_mnist.PUBLISHED.places() for name in fashion_mnist.FILES),
    reason="fashion-mnist is not on this machine",
)


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load({"name": "digits"})


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """400 crops of 32x32 of two photographs, made smaller by an odd factor so that no trace of their JPEG is left."""
    crops, places = [], np.random.default_rng(0).choice(352 * 224, 400, replace=False)
    small = [Image.fromarray(i).resize((384, 256), Image.Resampling.LANCZOS) for i in load_sample_images().images]
    for k, place in enumerate(places.tolist()):
        x, y = place % 352, place // 352
        crops.append(np.asarray(small[k % 2].crop((x, y, x + 32, y + 32))))
    return as_pixels(crops)


def as_pixels(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def each(pixels: Tensor, change) -> Tensor:
    return as_pixels([np.asarray(change(Image.fromarray(i))) for i in pixels.permute(0, 2, 3, 1).numpy()])


def jpeg(quality: int):
    def through(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return through


def enlarged(how: Image.Resampling, small: int = 16):
    return lambda image: image.resize((small, small), Image.Resampling.LANCZOS).resize((32, 32), how)


def codes(*arguments, **options) -> list[str]:
    return [finding.code for finding in lint(*arguments, **options)]


# --- silence


@pytest.mark.parametrize("split", ["train", "test"])
def test_digits_are_clean(digits, split):
    part = getattr(digits, split)
    assert lint(part.pixels, 17, labels=part.labels) == ()
    assert lint(part.pixels, 17) == ()


def test_held_out_digits_beside_the_training_digits_are_clean(digits):
    assert lint(digits.test.pixels, 17, reference=digits.train.pixels) == ()


@needs_fashion
def test_fashion_mnist_is_clean_in_part_and_padded_to_32():
    test = data.load({"name": "fashion-mnist"}).test
    pixels, labels = test.pixels[:3000], test.labels[:3000]
    assert lint(pixels[:2000], 256, labels=labels[:2000], feature_dims=128, reference=pixels[2000:]) == ()
    assert lint(F.pad(pixels, (2, 2, 2, 2)), 256) == ()


@needs_fashion
@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
def test_fashion_mnist_is_clean(split):
    dataset = data.load({"name": "fashion-mnist"})
    part = getattr(dataset, split)
    assert lint(part.pixels, 256, labels=part.labels, feature_dims=2048) == ()


def test_photographs_are_clean(photographs):
    assert lint(photographs, 256, reference=photographs.flip(3)) == ()
    assert lint(each(photographs, lambda i: i.resize((48, 48), Image.Resampling.BICUBIC)), 256) == ()


# --- planted faults


def test_images_of_zero_to_one_stored_as_whole_numbers(photographs):
    finding = lint((photographs.float() / 255).round().to(torch.uint8), 256)[0]
    assert finding.text == (
        "no pixel is above 1 of 255, as when 0..1 is stored as whole numbers: pictures so dark or so bright are far "
        "from every reference, and the value measures their scale alone"
    )
    assert (finding.code, str(finding)) == ("range", finding.text)


def test_a_range_half_empty_and_one_shared_with_the_reference(digits, photographs):
    found = lint(digits.train.pixels, 256)
    assert [f.found for f in found] == ["no pixel is above 16 of 255, less than half of the range"]
    assert lint(digits.test.pixels, 256, reference=digits.train.pixels) == ()
    assert codes(photographs // 2 + 128, 256) == ["range"]
    two_levels = (digits.train.pixels > 7).to(torch.uint8)
    assert "range" not in codes(two_levels, 2)


def test_constant_and_repeated_images(digits):
    pixels = digits.train.pixels.clone()
    pixels[5] = 3
    assert [f.found for f in lint(pixels, 17)] == []  # one in 1437 moves nothing that is shown
    pixels[10:13] = torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None, None]
    assert [f.found for f in lint(pixels, 17)] == ["4 of 1,437 images are one flat colour"]
    pixels = digits.train.pixels.clone()
    pixels[100:200] = pixels[:100]
    assert [f.found for f in lint(pixels, 17)] == ["100 of 1,437 images repeat another one exactly"]


def test_copies_of_the_reference(digits):
    train, mixed = digits.train.pixels, torch.cat([digits.test.pixels, digits.train.pixels[:40]])
    assert [f.found for f in lint(mixed, 17, reference=train)] == [
        "40 of 400 images are exact copies of reference images"
    ]
    assert codes(train, 17, reference=train) == ["same-set"]
    assert codes(train.flip(0), 17, reference=train) == ["copies"]


def test_sorted_images_with_and_without_labels(digits):
    order = digits.train.labels.argsort(stable=True)
    pixels, labels = digits.train.pixels[order], digits.train.labels[order]
    for given in (None, labels):
        (finding,) = lint(pixels, 17, labels=given)
        assert finding.code == "sorted"
        assert "Inception Score without shuffling is far too low" in finding.text
    assert lint(pixels, 17, labels=labels, ordered=False) == ()


def test_values_that_are_not_finite_and_other_types(digits):
    floats = digits.test.pixels.float() / 16
    assert [f.found for f in lint(floats, 17)] == ["images of float32 from 0 to 1, not uint8 grey levels"]
    floats[3, 0, 2, 2], floats[9, 0, 0, 0] = math.nan, math.inf
    assert [f.code for f in lint(floats, 17)] == ["dtype", "not-finite"]
    assert [f.found for f in lint(digits.test.pixels, 17, not_finite=7)] == ["7 of 360 images hold NaN or infinity"]


@pytest.mark.parametrize("quality", [50, 75, 85, 95])
def test_jpeg_is_seen_in_decoded_pixels(photographs, quality):
    assert "lossy" in codes(each(photographs, jpeg(quality)), 256)


def test_jpeg_is_seen_in_the_files(digits):
    found = lint(digits.test.pixels, 17, files=Found({"lossy": Note(2, "a/1.jpg"), "alpha": Note(1, "b.png")}))
    assert [f.found for f in found] == [
        "1 of 360 pictures are transparent in places and are shown on white, first b.png",
        "2 of 360 pictures are JPEG or lossy WebP, first a/1.jpg",
    ]


@pytest.mark.parametrize("how", ["NEAREST", "BILINEAR", "BICUBIC", "LANCZOS"])
def test_images_enlarged_two_fold_give_themselves_away(photographs, how):
    pixels = each(photographs, enlarged(Image.Resampling[how]))
    assert codes(pixels, 256) == ["upscaled"]
    assert codes(pixels, 256, reference=photographs) == ["upscaled"]


def test_images_enlarged_by_an_odd_factor_lack_detail_beside_the_reference(photographs):
    pixels = each(photographs, enlarged(Image.Resampling.BILINEAR, 11))
    (finding,) = lint(pixels, 256, reference=photographs)
    assert finding.code == "upscaled"
    assert "in the reference: enlarged or smoothed images" in finding.found


def test_grey_stored_as_colour(photographs):
    grey = photographs.float().mean(1, keepdim=True).round().to(torch.uint8)
    assert codes(grey.repeat(1, 3, 1, 1), 256) == codes(grey.repeat(1, 3, 1, 1), 256, reference=photographs) == ["grey"]
    assert codes(grey.repeat(1, 3, 1, 1), 256, reference=grey.flip(3)) == []
    assert codes(grey, 256) == []


def test_too_few_samples_for_the_features(digits):
    few = lint(digits.test.pixels, 17, feature_dims=2048)
    assert [f.found for f in few] == [
        "360 samples for 2,048 features: their covariance is singular", "360 samples, fewer than 2,000",
    ]  # fmt: skip
    assert [set(f.metrics) & {"fid", "is"} for f in few] == [{"fid"}, {"is"}]
    assert codes(digits.test.pixels, 17, feature_dims=360) == ["too-few", "few"]
    assert codes(digits.test.pixels, 17, feature_dims=359) == ["few"]


def test_modules_in_training_mode():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2)).eval()
    assert lint_model(model) == ()
    model[1].train()
    (finding,) = lint_model(model)
    assert finding.found == "1 modules are in training mode, first 1"
    assert lint_model(model.train())[0].found == "4 modules are in training mode, first Sequential"


# --- the mathematics


def test_the_order_test_has_the_stated_spread_over_random_orders(digits):
    thumbs = torch.from_numpy(summarise(digits.test.pixels).thumbs)
    labels = F.one_hot(digits.test.labels)
    gen = torch.Generator().manual_seed(0)
    for values in (thumbs, labels):
        errors = torch.tensor([neighbours(values[torch.randperm(360, generator=gen)])[1] for _ in range(1000)])
        assert abs(errors.mean()) < 4 / 1000**0.5
        assert errors.std() == pytest.approx(1, abs=0.08)
        assert errors.max() < 5


def test_the_order_test_measures_the_correlation_of_an_autoregression():
    rng, x = np.random.default_rng(0), np.zeros((20_000, 3))
    for i in range(1, len(x)):
        x[i] = 0.5 * x[i - 1] + rng.normal(size=3)
    assert neighbours(torch.from_numpy(x))[0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("frequency", "share"), [(0.125, 0.0), (0.375, 1.0)])
def test_the_share_of_fine_detail_of_a_wave_is_none_or_all(frequency, share):
    wave = torch.cos(2 * math.pi * frequency * torch.arange(64.0)).expand(1, 64, 64)
    for image in (wave, wave.transpose(1, 2)):
        assert high_share(image).item() == pytest.approx(share, abs=1e-3)


def test_step_excess_of_flat_blocks_is_known():
    blocks = torch.arange(4.0).repeat_interleave(8).expand(1, 32, 32)  # steps of 1 at 7, 15, 23; mean step 3 / 31
    excess = step_excess(blocks)[0] * 2  # down there are no steps
    expected = torch.zeros(8)
    expected[7], expected[0], expected[6] = 31 / 3, -31 / 6, -31 / 6
    assert torch.allclose(excess, expected, atol=1e-4)


def test_a_summary_is_the_same_in_any_batches_and_comes_back_from_disk(photographs, tmp_path):
    whole = summarise(photographs)
    gather = Gather(400, (3, 32, 32))
    for part in photographs.split(77):
        gather.add(part)
    gather.summary().save(tmp_path / "s.npz")
    kept = load_summary(tmp_path / "s.npz")
    for name, value in vars(whole).items():
        assert np.array_equal(getattr(kept, name), value), name
    assert inspect(Case(kept, 256)) == inspect(Case(whole, 256)) == ()


@pytest.mark.parametrize("columns", [1, 7, 8, 64, 3072])
def test_rows_have_equal_numbers_where_they_are_equal(columns):
    gen = np.random.default_rng(columns)
    rows = gen.integers(0, 256, (400, columns), dtype=np.uint8)
    numbers = row_hashes(np.concatenate([rows, rows[:100]]))
    assert (numbers[:100] == numbers[400:]).all()
    assert len(np.unique(numbers)) == len(np.unique(rows, axis=0))


def test_rows_that_differ_in_two_highest_bits_have_other_numbers():
    rows = np.zeros((8 * 7 // 2, 64), np.uint8)
    for row, (a, b) in enumerate(itertools.combinations(range(7, 64, 8), 2)):
        rows[row, [a, b]] = 128
    assert len(np.unique(row_hashes(rows))) == len(rows)


def test_grey_images_are_counted_where_only_their_first_row_is_grey_too(digits):
    grey = digits.train.pixels[:5].expand(-1, 3, -1, -1).clone()
    grey[0, 1, 4] = 3
    assert grey_images(grey) == 4
