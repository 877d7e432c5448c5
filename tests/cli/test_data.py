"""`codelength data`."""

from __future__ import annotations

import json

import pytest

from codelength.cli.main import main
from codelength.data import data_names
from codelength.data.fingerprints import FINGERPRINTS


def test_list(capsys):
    assert main(["data", "list"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == data_names()
    assert lines[0].split()[:2] == ["NAME", "SPACE"]
    assert err.startswith("hint: own data")


def test_list_as_json(capsys):
    assert main(["data", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["mnist5k"]["here"] is True
    assert rows["mnist5k"]["sizes"] == [4000, 500, 500]
    assert rows["cifar10"]["shape"] == [3, 32, 32]


def test_info_as_json(capsys):
    assert main(["data", "info", "digits-dynamic", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["levels"], facts["dims"], facts["binarization"]) == (2, 64, "dynamic")
    assert facts["splits"]["test"]["sha256"] == FINGERPRINTS["digits-dynamic"]["test"]
    assert facts["splits"]["test"]["as_published"] is True
    assert set(facts["duplicates"]) >= {"train", "test in train"}


def test_info(capsys, monkeypatch):
    monkeypatch.setitem(FINGERPRINTS, "digits", {"test": "0"})
    assert main(["data", "info", "digits"]) == 0
    out, err = capsys.readouterr()
    assert "levels: 17" in out
    assert "splits.test: examples 250" in out
    assert "hint: digits test differs from the published fingerprint" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["info", "digts"], 2, "error: unknown data set 'digts'; did you mean 'digits'?"),
        (["info", "no/where"], 1, "error: no/where does not exist"),
        (["fetch", "digits"], 2, "error: data set 'digits' is inside the installed packages"),
    ],
)
def test_errors_are_one_line(capsys, arguments, code, message):
    assert main(["data", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_fetch(capsys, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("codelength.data.fetch.fetch_data", lambda name, url: asked.append((name, url)) or tmp_path)
    assert main(["data", "fetch", "mnist", "--url", "http://mirror/"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path)
    assert asked == [("mnist", "http://mirror/")]
