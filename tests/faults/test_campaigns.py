"""Campaigns are run once for each state of the code, and a fault decides the exit code."""

from __future__ import annotations

from faults import campaigns


def test_a_campaign_without_faults_is_not_repeated(tmp_path, monkeypatch, capfd):
    log = tmp_path / "log"
    note = (
        "import sys; open(sys.argv[2], 'a').write(sys.argv[1]); print('of', sys.argv[1]); sys.exit(sys.argv[1] == 'b')"
    )
    monkeypatch.setattr(campaigns, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(campaigns, "CAMPAIGNS", {name: ["-c", note, name, str(log)] for name in "abc"})
    monkeypatch.setattr(campaigns, "TIMED", ("c",))
    assert [campaigns.main(), campaigns.main("a", "c"), campaigns.main("b")] == [1, 0, 1]
    assert sorted(log.read_text()) == ["a", "b", "b", "c"]
    assert log.read_text()[2] == "c"  # alone, after the others
    assert (tmp_path / "kept" / "b.txt").read_text().startswith("b: FAULTS, code ")
    assert "of c" in capfd.readouterr().out
