"""Fetching: success, wrong content, no such file, retries, no network. All from this machine."""

from __future__ import annotations

import hashlib

import pytest

from codelength.data import fetch_data
from codelength.data.official import OfficialFile
from codelength.errors import ChecksumError, DataError, UsageError

CONTENT = b"the published bytes"


@pytest.fixture
def files():
    return {"a": OfficialFile({"a": "md5:0", "a.gz": "md5:" + hashlib.md5(CONTENT).hexdigest()}, "http://nowhere/")}


def test_what_is_fetched_is_kept_and_not_fetched_again(cache, site, files, capsys):
    site.answers["/a.gz"] = [(200, CONTENT)]
    folder = fetch_data("toy", site.url, files=files)
    assert folder == cache / "toy"
    assert (folder / "a.gz").read_bytes() == CONTENT
    assert fetch_data("toy", site.url, files=files) == folder
    assert site.asked == ["/a.gz"]
    out, err = capsys.readouterr()
    assert out == ""
    assert f"fetching {site.url}a.gz" in err


def test_other_content_is_refused_and_not_kept(cache, site, files):
    site.answers["/a.gz"] = [(200, b"something else")]
    with pytest.raises(ChecksumError, match=r"a.gz is not the published file .*; it was not kept"):
        fetch_data("toy", site.url, files=files, retries=0)
    assert not (cache / "toy" / "a.gz").exists()


def test_a_damaged_file_that_is_here_is_refused(cache, site, files):
    (cache / "toy").mkdir(parents=True)
    (cache / "toy" / "a.gz").write_bytes(b"damaged")
    with pytest.raises(ChecksumError, match="remove it and fetch it again"):
        fetch_data("toy", site.url, files=files)
    assert site.asked == []


def test_no_such_file_is_one_line(cache, site, files):
    with pytest.raises(DataError, match=r"cannot fetch .*a.gz \(404") as caught:
        fetch_data("toy", site.url.rstrip("/"), files=files, retries=0)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, ChecksumError)


def test_failures_are_tried_again(cache, site, files):
    site.answers["/a.gz"] = [(503, b""), (200, b"cut"), (200, CONTENT)]
    fetch_data("toy", site.url, files=files, retries=2)
    assert site.asked == ["/a.gz"] * 3


def test_no_network_is_one_line(cache, site, files):
    closed = "http://127.0.0.1:9/"  # the discard port: nothing listens
    with pytest.raises(DataError, match="check the network, give a mirror") as caught:
        fetch_data("toy", closed, files=files, retries=0)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cannot fetch ftpx:"):
        fetch_data("toy", "ftpx://nowhere", files=files, retries=0)


def test_names_without_files_are_refused(cache):
    with pytest.raises(UsageError, match="inside the installed packages"):
        fetch_data("mnist5k")
    with pytest.raises(UsageError, match="did you mean 'cifar10'"):
        fetch_data("cifar")
