"""The page itself, by NiceGUI, which brings its scripts and fonts along and asks no other machine for anything."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from typing import Any

import numpy as np

from codelength.errors import CodelengthError
from codelength.explore.session import MOST_BYTES, Explorer, Measurement, map_pixels
from codelength.report.images import data_uri, tile, to_pixels

HOST = "127.0.0.1"
SHOWN = 224
STYLE = """
body { font-size: 16px; } h1 { font-size: 1.7rem; margin: .5rem 0; } h2 { font-size: 1.25rem; margin: 1.5rem 0 .3rem; }
img { image-rendering: pixelated; max-width: 100%; height: auto; } figure { display: inline-block; margin: 0 1rem 1rem 0; max-width: 100%; }
table { border-collapse: collapse; margin: .5rem 0; } th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8888; }
.trouble { color: #b3261e; font-weight: 600; } .body--dark .trouble { color: #ff8f87; }
.q-field__label, .q-field__native { color: inherit !important; opacity: 1 !important; }
:focus-visible { outline: 3px solid #b35900; outline-offset: 2px; }
"""

# Quasar's uploader is a link around the real input; the input gets the words and the focus, the link gives up both.
NAMED = """<script>
document.documentElement.lang = "en";
const name = () => {
  for (const input of document.querySelectorAll(".q-uploader input[type=file]")) {
    if (input.getAttribute("aria-label")) continue;
    input.setAttribute("aria-label", "Choose an image");
    input.tabIndex = 0;
    const link = input.closest(".q-btn");
    link.removeAttribute("role");
    link.removeAttribute("tabindex");
  }
};
new MutationObserver(name).observe(document.documentElement, { childList: true, subtree: true });
</script>"""


def picture(pixels: np.ndarray, alt: str, caption: str = "", width: int = SHOWN) -> str:
    """An image element with its words; everything is escaped."""
    shown = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><img src="{data_uri(pixels)}" alt="{html.escape(alt, quote=True)}" width="{width}">{shown}</figure>'
    )


def results(explorer: Explorer, x: np.ndarray, measured: list[Measurement]) -> str:
    """The image, its code length under each run, and the maps."""
    rows = "".join(
        f"<tr><th scope=row>{html.escape(m.run)}</th><td>{m.mark} {m.bits_per_dim:.3f}</td><td>{html.escape(m.rank or 'no record to rank it by')}</td></tr>"
        for m in measured
    )
    table = f"<table><thead><tr><th scope=col>run</th><th scope=col>bits/dim</th><th scope=col>rank</th></tr></thead><tbody>{rows}</tbody></table>"
    words = ""
    if len(measured) > 1:
        gap = measured[-1].bits_per_dim - measured[0].bits_per_dim
        words = f"<p>On this image {html.escape(measured[0].run)} has the shortest code, {gap:.3f} bits/dim under the longest.</p>"
    pictures = picture(to_pixels(x[None], explorer.space)[0], "The image that was measured", "the image")
    for name, pixels in map_pixels(measured).items():
        pictures += picture(pixels, f"Bits that {name} spends on each pixel, bright is many", f"bits, {name}")
    return table + words + pictures


def build(explorer: Explorer) -> None:
    """Put the elements on the page that is being made."""
    from nicegui import ui

    names = list(explorer.runs)
    state: dict[str, Any] = {"x": None}
    ui.add_css(STYLE)
    ui.add_body_html(NAMED)
    ui.colors(primary="#0a4fb3")
    ui.html(f"<h1>{html.escape(', '.join(names))}</h1><p>Images: {explorer.wanted}.</p>", sanitize=False, tag="header")
    main = ui.element("main").classes("w-full")
    with main:
        trouble = ui.html("", sanitize=False).props('role=alert aria-live="assertive"')
        ui.html("<h2>An image</h2>", sanitize=False)
        with ui.row().classes("items-end"):
            item = ui.number("test item", value=0, min=0, precision=0).props("outlined dense")
            pick = ui.button("Measure the test item")
        fit = ui.checkbox("fit uploads: cut the centre square, scale, convert (that is another image than the file's)")
        upload = ui.upload(label="or upload an image", auto_upload=True, max_file_size=MOST_BYTES).props(
            'accept="image/*" flat bordered'
        )
        told = {
            key: ui.number(f"{key}, 0 to {count - 1}", value=0, min=0, max=count - 1, precision=0).props(
                "outlined dense"
            )
            for key, count in explorer.classes.items()
        }
        shown = ui.html("", sanitize=False).props('aria-live="polite"')
        ui.html("<h2>Samples and completions</h2>", sanitize=False)
        with ui.row().classes("items-end"):
            which = ui.radio(names, value=names[0]).props("inline")
            temperature = ui.number("temperature", value=1.0, min=0.0, max=2.0, step=0.1).props("outlined dense")
            seed = ui.number("seed", value=0, min=0, precision=0).props("outlined dense")
        with ui.row():
            draw, complete = ui.button("Draw 16 samples"), ui.button("Complete the lower half of the image")
        drawn = ui.html("", sanitize=False).props('aria-live="polite"')

    def conditions() -> dict[str, int]:
        return {key: int(field.value or 0) for key, field in told.items()}

    async def attempt(work: Callable[[], str], place: Any) -> None:
        """Run work beside the page; its text goes to `place`, an error of ours to the top."""
        trouble.content = ""
        try:
            place.content = await asyncio.to_thread(work)
        except CodelengthError as error:
            trouble.content = f"<p class=trouble>{html.escape(' '.join(str(error).split()))}</p>"

    def measure(x: np.ndarray) -> str:
        measured = explorer.measure(x, conditions())
        state["x"] = x
        return results(explorer, x, measured)

    async def on_pick() -> None:
        index = int(item.value) if item.value is not None else -1
        await attempt(lambda: measure(explorer.test_item(index)), shown)

    async def on_upload(event: Any) -> None:
        content = await event.file.read()
        name = event.file.name
        await attempt(lambda: measure(explorer.read_upload(content, name, fit=bool(fit.value))), shown)
        upload.reset()

    def sampled() -> str:
        pixels = explorer.samples(
            which.value, 16, temperature=float(temperature.value), seed=int(seed.value), conditions=conditions()
        )
        words = f"16 samples of {which.value}, temperature {temperature.value:g}, seed {int(seed.value)}, none chosen"
        return picture(tile(pixels), words, words, 2 * SHOWN)

    def completed() -> str:
        x = explorer.test_item(0) if state["x"] is None else state["x"]
        pixels = explorer.completions(which.value, x, 7, seed=int(seed.value), conditions=conditions())
        words = f"The image, and seven lower halves drawn by {which.value} given the upper one"
        return picture(tile(pixels, columns=4), words, words, 2 * SHOWN)

    def refused() -> None:
        trouble.content = f"<p class=trouble>the file was refused: wanted one image of at most {MOST_BYTES:,} bytes</p>"

    pick.on_click(on_pick)
    upload.on_upload(on_upload)
    upload.on_rejected(refused)
    draw.on_click(lambda: attempt(sampled, drawn))
    complete.on_click(lambda: attempt(completed, drawn))
    if explorer.trouble:
        trouble.content = f"<p class=trouble>Test data are not here: {html.escape(explorer.trouble)}</p>"


def serve(explorer: Explorer, port: int, *, show: bool) -> None:
    """Serve the page to this machine until interrupted.

    Args:
        explorer: The runs.
        port: Port of the loopback interface.
        show: Open the reader's browser.
    """
    from nicegui import ui

    def root() -> None:
        build(explorer)

    ui.run(
        root,
        host=HOST,
        port=port,
        title="codelength explore",
        dark=None,
        show=show,
        reload=False,
        show_welcome_message=False,
    )
