"""The page: one well-formed file that loads nothing, and whose numbers are those of the records."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch

from codelength.coding.baselines import CodecResult
from codelength.errors import EvaluationError
from codelength.evaluation import Evaluation
from codelength.report import write_report
from codelength.report.collect import coding_path, collect
from codelength.run import load_run

CODECS = [
    CodecResult("PNG", "per image", "optimize", "pillow 1", 9000, 4.5),
    CodecResult("xz", "whole set", "preset 9", "Python 3", 4000, 2.0),
    CodecResult("GIF", "per image", "", "none", None, None, "holds no such values"),
]


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    """The page on the three runs, one of them coded."""
    run = runs[1]
    fields = {
        "num_examples": 250,
        "model_total_bytes": 1000.5,
        "coded_total_bytes": 1003,
        "overhead_ratio": 0.0025,
        "encode_seconds": 0.5,
        "decode_seconds": 0.0,
        "verified": True,
    }
    path = coding_path(run, "digits", "test")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(fields))
    out = tmp_path_factory.mktemp("page") / "report.html"
    write_report(runs, out, codecs={"digits-test": CODECS}, title="A <b>title</b>", footer=["made by a test"])
    return out.read_text()


def test_well_formed_and_whole(page, outline):
    found = outline(page)
    assert found.all("html")[0]["lang"] == "en"
    headings = [tag for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    identifiers = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for link in found.all("a"):
        assert link["href"].removeprefix("#") in identifiers
    for tag, attributes in found.tags:
        for name in ("aria-labelledby",):
            for target in attributes.get(name, "").split():
                assert target in identifiers, f"{tag} is labelled by nothing"
    assert "A <b>title</b>" in found.text
    assert "made by a test" in found.text


def test_loads_nothing(page, outline):
    found = outline(page)
    for tag, attributes in found.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            value = attributes.get(name)
            if tag == "a" or value is None:
                continue
            assert value.startswith("data:"), f"{tag} loads {value}"
    assert not re.search(r"@import|url\((?!#)", page)
    assert not re.search(r"https?://", page)
    assert "default-src 'none'" in page
    # Negative control: the check sees a picture from elsewhere.
    assert not outline('<img src="http://a/b.png">').all("img")[0]["src"].startswith("data:")


def test_every_picture_has_words(page, outline):
    found = outline(page)
    assert len(found.all("img")) >= 7  # data, samples of three, data and two maps, easiest, hardest
    assert all(picture["alt"] for picture in found.all("img"))
    charts = found.all("svg")
    assert charts
    assert all(chart["role"] == "img" and chart["aria-labelledby"] for chart in charts)
    assert all("tabindex" in region for region in found.all("div") if region.get("role") == "group")


def test_small(page):
    assert len(page) < 5e6 / 10 * 3


def test_numbers_come_from_records(page, runs, evaluation, outline):
    text = outline(page).text
    for run in runs:
        record = evaluation(run).record
        mark = "≤ " if record.kind == "bound" else ""
        assert f"{mark}{record.bits_per_dim:.3f} ± {record.standard_error_bits_per_dim:.3f}" in text
        assert record.data_sha256 in text
        assert record.model_sha256 in text
    cells = [a["data-sort"] for a in outline(page).all("td") if "data-sort" in a]
    for run in runs:
        assert str(evaluation(run).record.bits_per_dim) in cells
    assert f"{evaluation(runs[0]).record.memorization_floor_bits:.2f} bits" in text
    assert "A uniform model costs 4.087 bits/dim" in text  # log2 17
    for number in ("9,000", "4,000", "1,003", "+0.250 %", "500.0", "equal, every byte", "holds no such values"):
        assert number in text


def test_bounds_are_marked(page, runs, evaluation, outline):
    bound = next(evaluation(run).record for run in runs if evaluation(run).record.kind == "bound")
    text = outline(page).text
    value = f"{bound.bits_per_dim:.3f} ±"
    assert text.count(value) == text.count(f"≤ {value}") > 1
    exact = next(evaluation(run).record for run in runs if evaluation(run).record.kind == "exact")
    assert f"≤ {exact.bits_per_dim:.3f} ±" not in text


def test_hostile_names_are_words(runs, tmp_path, outline):
    name = "<script>alert(1)<svg onload=x> & 'q' \"d\""
    name = name.replace("/", "")
    folder = tmp_path / name
    shutil.copytree(runs[0].path, folder)
    out = tmp_path / "report.html"
    write_report([load_run(folder), runs[1]], out, title="</title><script>alert(2)</script>", codecs={})
    page = out.read_text()
    assert "<script>alert" not in page
    assert "<svg onload" not in page
    found = outline(page)
    assert len(found.all("script")) == 1
    assert "alert(1)" in found.text


def test_colour_images(colour_run, tmp_path, outline):
    out = write_report([colour_run], tmp_path / "report.html")
    text = outline(out.read_text()).text
    assert "bits/dim of each channel" in text
    assert "channels together" in text
    assert "Difference to" not in text  # nothing to compare one run with


def test_without_data_pictures_are_left_out_and_it_says_so(colour_run, tmp_path, outline):
    folder = tmp_path / "moved"
    shutil.copytree(colour_run.path, folder)
    recipe = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(recipe.replace("own.npz", "gone.npz"))
    out = write_report([load_run(folder)], tmp_path / "report.html")
    found = outline(out.read_text())
    assert "Pictures of data are left out" in found.text
    assert "gone.npz does not exist" in found.text
    assert len(found.all("img")) == 1  # samples need no data


def test_without_pictures_no_model_is_sampled(runs, tmp_path, outline):
    out = write_report(runs, tmp_path / "report.html", pictures=False)
    assert not outline(out.read_text()).all("img")


def test_runs_without_records(new_run, tmp_path):
    run = new_run(tmp_path / "fresh", "mean_field", {"components": 1}, measured=False)
    with pytest.raises(EvaluationError, match="nothing to report: no records in fresh; run `codelength evaluate"):
        write_report([run], tmp_path / "report.html")


def test_records_of_other_weights_do_not_count(new_run, tmp_path):
    run = new_run(tmp_path / "run", "mean_field", {"components": 1})
    assert len(collect([run])) == 1
    weights = json.loads((run.path / "weights.json").read_text())
    (run.path / "weights.json").write_text(json.dumps({**weights, "sha256": "0" * 64}))
    with pytest.raises(EvaluationError, match="nothing to report"):
        collect([load_run(run.path)])


def test_damaged_coding_result_is_named(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs[0].path, folder)
    run = load_run(folder)
    path = coding_path(run, "digits", "test")
    path.parent.mkdir(exist_ok=True)
    path.write_text("{")
    with pytest.raises(EvaluationError, match="is damaged"):
        write_report([run], tmp_path / "report.html", pictures=False)


def test_same_page_twice(runs, tmp_path):
    torch.manual_seed(1)
    first = write_report(runs, tmp_path / "a.html").read_text()
    torch.manual_seed(2)
    second = write_report(runs, tmp_path / "b.html").read_text()
    assert re.sub(r"(svg|heat)\d+", "", first) == re.sub(r"(svg|heat)\d+", "", second)


def test_a_conditional_model_stands_beside_others_with_its_label_paid_for(new_run, tmp_path):
    options = {"hidden": [16], "components": 2}
    plain = new_run(tmp_path / "plain", "made", options)
    told = new_run(tmp_path / "told", "made", {**options, "class_conditional": True})
    (group,) = collect([plain, told])
    records = {m.subject.name: m.record for m in group.measured}
    stored = Evaluation.load(next((told.path / "evaluation").iterdir())).record
    assert stored.conditioning == ["label"]
    assert stored.condition_bits == pytest.approx(3.3219, abs=1e-4)
    assert records["told"].bits_per_dim == pytest.approx(stored.bits_per_dim + stored.condition_bits / 64)
    assert {m.subject.name: m.mark for m in group.measured} == {"plain": "", "told": "≤"}
    page = write_report([plain, told], tmp_path / "report.html").read_text()
    assert "bound, label charged" in page
    # Alone it is what its record says.
    assert collect([told])[0].measured[0].record == stored
