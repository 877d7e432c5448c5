"""`codelength report`."""

from __future__ import annotations

import shutil

from codelength.cli.main import main


def test_page_with_codecs(run, tmp_path, capsys):
    path = tmp_path / "report.html"
    assert main(["report", str(run.path), "-o", str(path), "--title", "Mine"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{path}\n"
    assert "classical codecs" in err
    page = path.read_text()
    assert "<h1>Mine</h1>" in page
    assert "JPEG XL" in page
    assert "data:image/png;base64" in page


def test_page_without(run, tmp_path):
    path = tmp_path / "report.html"
    assert main(["report", str(run.path), "-o", str(path), "--no-codecs", "--no-pictures"]) == 0
    page = path.read_text()
    assert "JPEG XL" not in page
    assert "data:image/png" not in page


def test_bad_name(run, capsys):
    assert main(["report", str(run.path), "-o", "report.pdf"]) == 2
    assert "wanted a file name that ends in .html" in capsys.readouterr().err


def test_damaged_record_is_named(run, tmp_path, capsys):
    folder = tmp_path / "damaged"
    shutil.copytree(run.path, folder)
    next(folder.glob("evaluation/*/record.json")).write_text("{}")
    assert main(["report", str(folder), "-o", str(tmp_path / "r.html")]) == 1
    err = capsys.readouterr().err
    assert "is no valid record" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "r.html").exists()
