"""Several results on one page: which rows are one model, which are two, and where their pictures are from."""

import numpy as np
import pytest

from genbench.errors import GenbenchError
from genbench.records import slug, write_records
from genbench.report import render
from genbench.report.aggregate import boards
from genbench.report.folders import read_folders
from genbench.report.grids import save_grid


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
    assert not (tmp_path / "both" / "records.jsonl").exists()


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
