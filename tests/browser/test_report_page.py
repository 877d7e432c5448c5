"""The report, used: sorted, filtered, opened, printed, on a phone, in the dark; by mouse and by keyboard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.browser.conftest import DESK, PHONE, seconds_to_load
from tests.report.conftest import write_run

from codelength.coding.baselines import CodecResult
from codelength.report import write_report

pytestmark = pytest.mark.slow

CODECS = [
    CodecResult(f"codec {i}", "per image", f"level {i}", "library", 9000 - 100 * i, 4.5 - 0.1 * i) for i in range(6)
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page on runs of grey and colour images and of text, one of them audited."""
    folder = tmp_path_factory.mktemp("runs")
    vae = {"network": "dense", "filters": 16, "latents": 2, "components": 2}
    runs = [
        write_run(folder / "mean_field", "mean_field", {"components": 2}),
        write_run(folder / "made", "made", {"hidden": [32], "components": 2}),
        write_run(folder / "made-wide", "made", {"hidden": [48], "components": 2}),
        write_run(folder / "made-deep", "made", {"hidden": [32, 32], "components": 2}),
        write_run(folder / "vae", "vae", vae, samples=8),
        write_run(folder / "photos", "mean_field", {"components": 2}, data="photos32"),
    ]
    words = folder / "own.txt"
    words.write_text("".join(f"Line {i} says that every byte costs bits.\n" for i in range(200)))
    runs.append(write_run(folder / "gpt2", "gpt2", {"layers": 1, "heads": 1, "width": 16}, data=str(words)))
    verdict = {
        "probe": "P1",
        "name": "normalization",
        "status": "pass",
        "evidence": {},
        "message": "sums to 1",
        "cause": "",
    }
    audit = {"model_sha256": runs[1].model_sha256, "data": "digits", "split": "validation", "verdicts": [verdict]}
    (runs[1].path / "audit.json").write_text(json.dumps(audit))
    return write_report(runs, folder / "report.html", codecs={"digits-test": CODECS, "photos32-test": CODECS})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_accessible_quick_and_alone(report, visit, violations, scheme, size):
    seen = visit(report.as_uri(), scheme, size)
    assert seconds_to_load(seen) < 1
    seen.screenshot(f"report-{scheme}-{size['width']}")
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # tables scroll inside the page
    ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 27)"}[scheme]
    assert seen.foreign(report.as_uri()) == []
    assert seen.errors == []
    assert violations(seen) == []


def texts(page, selector):
    return [element.inner_text() for element in page.query_selector_all(selector)]


def test_sorts_by_mouse_and_keyboard(report, visit):
    page = visit(report.as_uri()).page
    table = page.locator("figure.table", has_text="digits, test: the ranking").first
    head = table.locator("thead button", has_text="bits/dim")
    cells = table.locator("tbody tr > :nth-child(3)")

    def values():
        return [float(value) for value in cells.evaluate_all("c => c.map(x => x.dataset.sort)")]

    head.first.click()
    assert values() == sorted(values())
    assert table.locator("th[aria-sort=ascending]").count() == 1
    head.first.focus()
    page.keyboard.press("Enter")
    assert values() == sorted(values(), reverse=True)
    assert len(set(values())) > 3


def test_filters(report, visit):
    page = visit(report.as_uri()).page
    table = page.locator("figure.table", has_text="digits, test: the ranking").first
    table.locator("input").fill("vae")
    assert table.locator("tbody tr:visible").count() == 1
    assert table.locator("[role=status]").inner_text() == "1 of 5 rows"
    table.locator("input").fill("")
    assert table.locator("tbody tr:visible").count() == 5


def test_a_record_is_one_click_away(report, visit):
    page = visit(report.as_uri()).page
    assert page.locator("details[open]").count() == 0
    page.locator("figure.table tbody a", has_text="made-deep").first.click()
    opened = page.locator("details[open]")
    assert opened.count() == 1
    assert "data_sha256" in opened.inner_text()
    assert "made-deep" in opened.inner_text()
    page.locator("figure.table", has_text="verdicts of the audit").locator("tbody a").first.click()
    assert (
        "sums to 1"
        in page.locator("details[open]").last.inner_text() + page.locator("details[open]").first.inner_text()
    )


def test_keyboard_reaches_everything(report, visit):
    page = visit(report.as_uri()).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    reachable = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).every(e => e.tabIndex === 0)"
    )
    assert reachable


def test_prints(report, visit):
    page = visit(report.as_uri(), "dark").page
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator(".filter").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf()[:5] == b"%PDF-"


def test_pictures_and_charts_have_words(report, visit):
    page = visit(report.as_uri()).page
    assert page.evaluate("[...document.images].every(i => i.alt.length > 10 && i.naturalWidth > 0)")
    assert page.evaluate(
        "[...document.querySelectorAll('svg')].every(s => s.querySelector('title') && s.querySelector('desc').textContent)"
    )
    headings = texts(page, "h3")
    for wanted in (
        "Really compressed",
        "Audit",
        "Training",
        "Bounds over K",
        "Latents",
        "Samples beside data",
        "Where the bits go",
        "Easiest and hardest",
    ):
        assert wanted in headings
    assert "bits/dim of each bit plane" in page.inner_text("main")
    assert page.locator(".passage span[title$=bits]").count() > 100


def test_ten_runs_stay_under_5_megabytes(tmp_path):
    runs = [
        write_run(tmp_path / f"run{i}", "mean_field", {"components": 1}, data="photos32" if i % 2 else "mnist5k")
        for i in range(10)
    ]
    page = write_report(runs, tmp_path / "report.html")  # untrained: samples are noise, whose pictures do not shrink
    assert page.stat().st_size < 5e6


def test_the_watch_sees_what_it_must(tmp_path, visit, violations):
    """Negative control: a page that asks for something, and that nobody could read aloud."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<html><body><img src='http://127.0.0.1:9/x.png'><p style='color:#ddd;background:#fff'>pale</p></body></html>"
    )
    seen = visit(bad.as_uri())
    assert seen.foreign(bad.as_uri()) == ["http://127.0.0.1:9/x.png"]
    found = " ".join(violations(seen))
    assert "image-alt" in found
    assert "color-contrast" in found
