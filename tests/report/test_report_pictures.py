import base64
import io
import math
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from genbench.errors import StoreError
from genbench.records import write_records
from genbench.report import render
from genbench.report.aggregate import boards
from genbench.report.curves import panels
from genbench.report.grids import rows_by_class, rows_by_text, save_grid
from genbench.report.pictures import Tiles, fitted, read_tiles
from genbench.report.training import read_curves, training_records

HEADER = "step,images,seconds,name,value\n"


def test_grid_shows_every_level_enlarged_without_smoothing(tmp_path):
    pixels = np.array([[[[0, 16]]], [[[8, 4]]]], dtype=np.uint8)
    save_grid(pixels, 17, tmp_path / "g.png", columns=2, scale=2)
    with Image.open(tmp_path / "g.png") as image:
        rows = np.asarray(image)
    assert rows.tolist() == [[0, 0, 255, 255, 128, 128, 128, 64, 64]] * 2


def test_grid_of_colour_images_is_about_500_pixels_wide(tmp_path):
    save_grid(np.zeros((25, 3, 28, 28), dtype=np.uint8), 256, tmp_path / "figures" / "g.png")
    with Image.open(tmp_path / "figures" / "g.png") as image:
        assert image.mode == "RGB"
        assert 400 <= image.width <= 600
        assert image.height == 3 * 56 + 2


@pytest.mark.parametrize("shape", [(3, 8, 8), (4, 2, 8, 8), (0, 1, 8, 8)])
def test_grid_refuses_other_shapes(tmp_path, shape):
    with pytest.raises(ValueError, match="allowed: \\(N, C, H, W\\)"):
        save_grid(np.zeros(shape, dtype=np.uint8), 17, tmp_path / "g.png")


@pytest.mark.parametrize(
    ("shape", "columns", "rows"),
    [((100, 1, 8, 8), 10, 10), ((25, 3, 28, 28), 5, 5), ((12, 1, 8, 8), 4, 3), ((4, 1, 16, 12), 10, 1)],
)
def test_images_of_a_grid_are_found_again(tmp_path, shape, columns, rows):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    save_grid(pixels, 256, tmp_path / "g.png", columns=columns)
    images = read_tiles(tmp_path / "g.png").images
    assert images.shape[:4] == (rows, min(columns, shape[0]), *shape[2:])
    flat = images.reshape(-1, *images.shape[2:])
    assert np.array_equal(
        flat if shape[1] == 1 else flat.transpose(0, 3, 1, 2), pixels[:, 0] if shape[1] == 1 else pixels
    )


def test_a_picture_that_is_no_grid_is_one_image(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 47), dtype=np.uint8)).save(tmp_path / "g.png")
    assert read_tiles(tmp_path / "g.png").images.shape == (1, 1, 30, 47)


def test_grids_that_are_too_large_together_show_fewer_rows():
    noise = np.random.default_rng(0).integers(0, 256, (10, 10, 28, 28), dtype=np.uint8)
    grids = {f"m{i}": Tiles(noise) for i in range(3)}
    whole, cut = fitted(grids), fitted(grids, budget=120_000)
    assert sum(map(len, whole.values())) > 300_000
    assert sum(map(len, cut.values())) <= 120_000
    assert cut["m0"].startswith("data:image/png;base64,")


def test_a_row_for_each_text_in_the_order_of_images_or_of_classes():
    texts = ["b", "a", "b", "c", "a", "c", "b"]
    numbers, shown = rows_by_text(texts, None)
    assert (numbers.tolist(), shown) == ([0, 2, 1, 4, 3, 5], ["b", "a", "c"])  # two of each: there are no more of a
    numbers, shown = rows_by_text(texts, np.array([7, 5, 7, 1, 5, 1, 7]), columns=1)
    assert (numbers.tolist(), shown) == ([3, 1, 0], ["c", "a", "b"])
    assert len(rows_by_text([str(i) for i in range(40)], None)[1]) == 12


@pytest.mark.parametrize("columns", [1, 3])
def test_prompts_are_kept_in_the_picture_and_shown_beside_their_images_as_text(record, tmp_path, columns):
    texts = ["<script>x()</script>", '" onload="x', "\u05e9\u05dc\u05d5\u05dd \u202eevil", "y" * 400]
    pixels = np.random.default_rng(0).integers(0, 256, (4 * columns, 1, 8, 8), dtype=np.uint8)
    write_records(tmp_path / "records.jsonl", [record("m", "fid", 1.0)])
    save_grid(pixels, 256, tmp_path / "figures" / "samples-m-s0.png", columns, prompts=texts)
    tiles = read_tiles(tmp_path / "figures" / "samples-m-s0.png")
    assert tiles.prompts == tuple(texts)
    assert np.array_equal(tiles.images.reshape(-1, 8, 8), pixels[:, 0])
    render(tmp_path)
    page = (tmp_path / "leaderboard.html").read_text()
    figure = page[page.index('<figure class="grid prompted') : page.index("not selected.</figcaption>")]
    assert re.findall(r'<p dir="auto">(.*?)</p>', figure) == [
        "&lt;script&gt;x()&lt;/script&gt;", "&#34; onload=&#34;x", "\u05e9\u05dc\u05d5\u05dd \ufffdevil",
        "y" * 300 + "\u2026",
    ]  # fmt: skip
    alternatives = re.findall(r'alt="([^"]*)"', figure)
    assert alternatives[1] == "samples of m for the prompt: &#34; onload=&#34;x"
    shown = [read_png(source) for source in re.findall(r'src="data:image/png;base64,([^"]*)"', figure)]
    assert np.array_equal(shown[2][:, :8], tiles.images[2, 0])
    many = "3 images" if columns == 3 else "An image"
    assert f"{many} for each of the first 4 prompts, seed 0" in figure


def read_png(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "g.png").write_bytes(b"no picture")
    with pytest.raises(StoreError, match=r"g\.png: cannot be read as a picture"):
        read_tiles(tmp_path / "g.png")


def test_a_loss_curve_keeps_its_course_and_its_ends():
    images = np.arange(1000) * 100.0
    frame = pd.DataFrame({"images": images, "name": "mse", "value": 1 - images / images.max()})
    (panel,) = panels({0: frame})
    assert (panel.term, panel.images) == ("mse", "100k")
    points = [tuple(map(float, p.split())) for p in panel.lines[0][1].removeprefix("M").split("L")]
    assert len(points) == 64
    assert all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(points))
    assert float(panel.high) == pytest.approx(0.99, abs=0.02)
    assert float(panel.low) == pytest.approx(0.01, abs=0.02)


def test_a_curve_without_a_finite_value_is_left_out():
    frame = pd.DataFrame({"images": [1.0, 2.0], "name": "nan", "value": [math.nan, math.nan]})
    assert panels({0: frame}) == []


def test_training_time_is_a_metric_with_seeds(record):
    records = [record(m, "fid", 1.0, seed=s) for m in ("a", "b", "shares a") for s in (0, 1)]
    frame = pd.DataFrame({"images": [1.0, 2.0], "seconds": [3.0, 7.0], "name": "mse", "value": [1.0, 1.0]})
    slow = frame.assign(seconds=frame["seconds"] * 20)
    made = training_records(records, {"a": {0: frame, 1: frame}, "b": {0: slow, 1: slow}}, {"shares a": "a"})
    assert [(r.model, r.seed, r.value, r.unit) for r in made][:3] == [
        ("a", 0, 7.0, "s"),
        ("a", 1, 7.0, "s"),
        ("b", 0, 140.0, "s"),
    ]
    column = boards([*records, *made])[0].columns[-1]
    assert (column.metric, column.ranks) == ("training_time", {"a": 1, "b": 3, "shares a": 1})


def test_curves_are_read_by_label_and_seed_and_empty_files_left_out(tmp_path):
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves" / "my-net-s3-s12.csv").write_text(HEADER + "0,128,0.1,total,2.5\n1,256,0.2,total,inf\n")
    (tmp_path / "curves" / "vae-s0.csv").write_text("")
    (tmp_path / "curves" / "gan-s0.csv").write_text(HEADER)
    curves = read_curves(tmp_path)
    assert {label: list(seeds) for label, seeds in curves.items()} == {"my-net-s3": [12]}
    assert curves["my-net-s3"][12]["value"].isna().tolist() == [False, True]


def test_a_curve_without_its_columns_is_named(tmp_path):
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves" / "vae-s0.csv").write_text("step,loss\n0,1\n")
    with pytest.raises(StoreError, match=r"vae-s0\.csv: columns: found no images, seconds, name, value, allowed: step"):
        read_curves(tmp_path)


def test_a_row_for_each_class_asked_for():
    labels = np.array([2, 0, 2, 0, 1, 2, 0])
    assert rows_by_class(labels, columns=2).tolist() == [1, 3, 0, 2]  # class 1 has one image alone
    assert rows_by_class(np.array([0, 1]), columns=2).tolist() == [0, 1]
