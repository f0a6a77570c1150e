import numpy as np
import pytest
from PIL import Image

from genbench.errors import StoreError
from genbench.report.aggregate import boards
from genbench.report.figures import front, quality_speed, read_curves
from genbench.report.grids import rows_by_class, save_grid

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


def test_front_keeps_what_no_other_beats():
    points = [("slow-good", 20, 60), ("fast-fair", 30, 5e4), ("beaten", 100, 1e4), ("twin", 30, 5e4)]
    assert front(points) == {"slow-good", "fast-fair", "twin"}


def test_quality_speed_is_drawn_only_for_comparable_models(digits, record, tmp_path):
    picture = quality_speed(tmp_path, "quality-speed", boards(digits)[0])
    assert picture is not None
    assert picture.light.read_bytes()[:4] == picture.dark.read_bytes()[:4] == b"\x89PNG"
    other = record("flow", "fid", 29.5, protocol={"extractor": "other"})
    mixed = [other if (r.model, r.metric) == ("flow", "fid") else r for r in digits]
    assert quality_speed(tmp_path, "mixed", boards(mixed)[0]) is None


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
