"""The figures of the rehearsals are those that are kept."""

import json
import runpy

import pytest
from docs_pages import ROOT

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "rehearsal_tables.py"))


@pytest.mark.parametrize("page", SCRIPT["PAGES"])
def test_page_has_the_figures_of_the_kept_results(page):
    text = SCRIPT["path_of"](page).read_text()
    assert SCRIPT["make_block"](page) in text, "run scripts/rehearsal_tables.py"


def test_what_a_rehearsal_wrote_is_kept_and_told(tmp_path, monkeypatch):
    wrote, results, pictures = (tmp_path / name for name in ("kill", "results", "pictures"))
    for folder in (wrote, results, pictures):
        folder.mkdir()
    figures = {
        "command": "kill_a_stub.py --rounds 5",
        "date": "2026-11-29T20:00:00+00:00",
        "machine": {"cores": 2, "processor": "one", "load_average": 0.1},
        "versions": {"python": "3.11.7"},
        "summary": {"served again after, s": {"median": 4.5, "least": 4.0, "most": 5.25}},
        "rounds": [{}] * 5,
    }
    (wrote / "kill.json").write_text(json.dumps(figures))
    (wrote / "kill.svg").write_text("<svg/>")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{SCRIPT['BEGIN']}\nold\n{SCRIPT['END']}\nafter\n")
    shared = SCRIPT["main"].__globals__
    monkeypatch.setitem(shared, "RESULTS", results)
    monkeypatch.setitem(shared, "PICTURES", pictures)
    monkeypatch.setitem(shared, "PAGES", {"page": shared["tell_kill"]})
    monkeypatch.setitem(shared, "path_of", lambda name: page)
    shared["main"]([str(wrote)])
    text = page.read_text()
    assert text.startswith(f"before\n{SCRIPT['BEGIN']}\n\n5 rounds")
    assert text.endswith(f"{SCRIPT['END']}\nafter\n")
    assert "| served again after, s | 4.5 | 4 | 5.25 |" in text
    assert "`kill_a_stub.py --rounds 5` on 2026-11-29; 2 cores of one, load average 0.1" in text
    assert (pictures / "kill.svg").exists()
