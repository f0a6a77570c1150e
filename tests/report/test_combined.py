"""Several results on one page: which rows are one model, which are two, and where their pictures are from."""

import shutil

import numpy as np
import pytest

from genbench.errors import GenbenchError, StoreError
from genbench.records import slug, write_records
from genbench.report import render
from genbench.report.aggregate import boards
from genbench.report.combined import results_in
from genbench.report.difference import metric_differences
from genbench.report.folders import read_folders
from genbench.report.grids import save_grid
from genbench.report.result import read_result


def folder(path, records):
    path.mkdir()
    write_records(path / "records.jsonl", records)
    for i, label in enumerate(dict.fromkeys(r.model for r in records)):
        level = (len(str(path)) + 5 * i + ord(path.name[-1])) % 17
        save_grid(np.full((4, 1, 8, 8), level, dtype=np.uint8), 17, path / "figures" / f"samples-{slug(label)}-s0.png")
    return path


def names(folders):
    return {
        board.dataset: sorted(r.model for r in board.rows) for board in boards(r for f in folders for r in f.measured)
    }


def config(**values):
    return {"data": {"n_fake": 10}, "model": {"config": values}}


def test_seeds_of_one_model_from_two_folders_are_averaged(record, tmp_path):
    a = folder(tmp_path / "a", [record("gan", "fid", 1.0, protocol=config(width=8))])
    b = folder(tmp_path / "b", [record("gan", "fid", 3.0, seed=1, protocol=config(width=8))])
    board = boards(r for f in read_folders([a, b]) for r in f.measured)[0]
    assert [(r.model, r.seeds, r.entries["fid"].value) for r in board.rows] == [("gan", (0, 1), 2.0)]


def test_rows_that_are_not_the_same_model_get_the_name_of_their_folder(record, tmp_path):
    a = folder(tmp_path / "a", [record("gan", "fid", 1.0, protocol=config(width=8)), record("vae", "fid", 5.0)])
    b = folder(tmp_path / "b", [record("gan", "fid", 3.0, seed=1, protocol=config(width=9)), record("vae", "fid", 5.0)])
    assert names(read_folders([a, b])) == {"digits": ["gan (a)", "gan (b)", "vae"]}
    c = folder(tmp_path / "c", [record("gan", "fid", 2.0, protocol=config(width=8))])
    assert names(read_folders([a, c])) == {"digits": ["gan (a)", "gan (c)", "vae"]}


def test_the_page_has_a_tab_for_each_dataset_and_the_pictures_of_each_folder(record, tmp_path):
    a = folder(tmp_path / "a", [record("gan", "fid", 1.0), record("gan", "kid", 1.0)])
    b = folder(tmp_path / "b", [record("gan", "fid", 3.0, dataset="mnist")])
    written, findings = render([a, b], tmp_path / "both")
    assert written[0] == tmp_path / "both" / "leaderboard.html"
    assert len(findings) == 2
    html = written[0].read_text()
    assert html.count('role="tab"') == 2
    assert 'id="model-1-gan"' in html
    assert 'id="model-2-gan"' in html
    pictures = [part.partition('"')[0] for part in html.split('<figure class="grid"><img src="')[1:]]
    assert len(set(pictures)) == 2


def test_several_results_become_one_that_is_read_and_rendered_like_any_other(record, tmp_path):
    a = folder(tmp_path / "a", [record("gan", "fid", 1.0, half=0.1, protocol=config(width=8))])
    b = folder(
        tmp_path / "b", [record("gan", "fid", 3.0, half=0.1, protocol=config(width=9)), record("vae", "fid", 5.0)]
    )
    both = tmp_path / "both"
    written, found = render([b, a], both)
    page = written[0].read_text()
    assert sorted(read_result(both).leaderboard.model) == ["gan (a)", "gan (b)", "vae"]
    assert {r.cell for r in read_result(both).records} >= {"gan (a)/digits/s0", "gan (b)/digits/s0"}
    assert render(both) == (written[:-2], found)
    assert written[0].read_text() == page
    assert metric_differences(both, both)[0].verdict == "same"
    shutil.rmtree(a)
    c = folder(tmp_path / "c", [record("flow", "fid", 2.0)])
    assert [f.name for f in read_folders(results_in(both))] == ["b", "a"]
    render([both, c], both)
    assert [f.name for f in read_folders(results_in(both))] == ["b", "a", "c"]
    assert "flow" in read_result(both).leaderboard.model.tolist()


def test_results_with_one_name_are_told_apart_by_the_folders_above(record, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        folder(tmp_path / name / "digits", [record("gan", "fid", 1.0 + ord(name))])
    folders = read_folders([tmp_path / "a" / "digits", tmp_path / "b" / "digits"])
    assert [f.name for f in folders] == ["a-digits", "b-digits"]


def test_a_folder_with_one_result_is_not_overwritten_by_several(record, tmp_path):
    a, b = (folder(tmp_path / name, [record("gan", "fid", 1.0)]) for name in "ab")
    with pytest.raises(StoreError, match="a: holds one result, allowed: a new folder"):
        render([a, b], a)


@pytest.mark.parametrize("text", ["[]", '["../a"]', '["b"]', "{}", "["])
def test_a_list_of_parts_from_elsewhere_is_not_trusted(record, tmp_path, text):
    a, b = (folder(tmp_path / name, [record("gan", "fid", 1.0)]) for name in "ac")
    render([a, b], tmp_path / "both")
    (tmp_path / "both" / "parts.json").write_text(text)
    with pytest.raises(StoreError, match=r"parts\.json"):
        render(tmp_path / "both")


def test_a_page_whose_address_is_known_has_a_picture_for_previews(record, tmp_path):
    a = folder(tmp_path / "a", [record("g n", "fid", 1.0), record("gan", "fid", 9.0)])
    render(a)
    assert "og:url" not in (a / "leaderboard.html").read_text()
    render(a, url="https://example.org/results")
    html = (a / "leaderboard.html").read_text()
    assert '<meta property="og:url" content="https://example.org/results/leaderboard.html">' in html
    assert '<meta property="og:image" content="https://example.org/results/figures/samples-g-n-s0.png">' in html
    with pytest.raises(GenbenchError, match="--url: found 'x', allowed: the address of the folder"):
        render(a, url="x")


def test_other_protocols_are_shown_and_not_ranked(record, tmp_path):
    a = folder(tmp_path / "a", [record("gan", "fid", 1.0, protocol={"data": {"n_fake": 10}})])
    b = folder(tmp_path / "b", [record("vae", "fid", 3.0, protocol={"data": {"n_fake": 20}})])
    column = boards(r for f in read_folders([a, b]) for r in f.measured)[0].columns[0]
    assert not column.ranks
    assert "n_fake is 10 for gan, 20 for vae" in column.unranked


def test_several_results_need_a_folder_of_their_own(record, tmp_path):
    a = folder(tmp_path / "a", [record("gan", "fid", 1.0)])
    with pytest.raises(GenbenchError, match="several results need --out FOLDER"):
        render([a, a])
