"""HTML to PDF: one font set-up per process, and a fetcher that knows nothing but what it was given.

Tuned: fixed table layout and no collapsed borders in the style sheet, one FontConfiguration, parsed style sheets kept.
"""

import atexit
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FONTS = HERE / "fonts"
STYLE = HERE / "document.css"
DEFAULTS = HERE / "ua.css"
SCHEME = "munim:"

FACES = "".join(
    f"@font-face {{ font-family: '{family}'; font-weight: {weight}; src: url('{SCHEME}fonts/{name}-{weight}.ttf'); }}\n"
    for family, name in (("Munim Sans", "NotoSans"), ("Munim Devanagari", "NotoSansDevanagari"))
    for weight in (400, 600)
)
_drawing = threading.Lock()  # the font map is shared and not made for threads


class AssetRefused(ValueError):
    """A document asked for something that was not given with it."""


def _fetcher(assets: Mapping[str, tuple[str, bytes]]) -> Any:
    """A fetcher of in-memory assets: no file, no network, no data outside of ``assets`` and our fonts."""
    from weasyprint.urls import URLFetcher, URLFetcherResponse

    class Closed(URLFetcher):
        """Refuses every address but ``munim:…``."""

        def fetch(self, url: str, headers: Any = None) -> Any:
            name = url.removeprefix(SCHEME)
            if url.startswith(SCHEME + "fonts/") and Path(name).name in _font_files():
                return URLFetcherResponse(url, _font_files()[Path(name).name], {"Content-Type": "font/ttf"})
            if url.startswith(SCHEME) and name in assets:
                kind, body = assets[name]
                return URLFetcherResponse(url, body, {"Content-Type": kind})
            raise AssetRefused(f"Documents load nothing from outside: {url[:80]}")

    return Closed()


@lru_cache(maxsize=1)
def _font_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in FONTS.glob("*.ttf")}


@lru_cache(maxsize=1)
def _shared() -> tuple[Any, Any, Any]:
    """The process's font configuration, its parsed style sheet, and the kind of page that takes our defaults."""
    from weasyprint import CSS, HTML
    from weasyprint.text.fonts import FontConfiguration

    fonts = FontConfiguration()
    style = CSS(string=FACES + STYLE.read_text(), font_config=fonts, url_fetcher=_fetcher({}))
    defaults = CSS(string=DEFAULTS.read_text())

    class Page(HTML):
        """HTML of our own elements only."""

        def _ua_stylesheets(self, *_: object, **__: object) -> list[Any]:
            return [defaults]

    return fonts, style, Page


atexit.register(_shared.cache_clear)  # while Pango's library is still there


def pdf(html: str, assets: Mapping[str, tuple[str, bytes]] | None = None) -> bytes:
    """Draw ``html`` with the house's style. ``assets``: name → (content type, bytes), reachable as ``munim:<name>``."""
    with _drawing:
        fonts, style, page = _shared()
        document = page(string=html, url_fetcher=_fetcher(assets or {}), base_url=None)
        return document.write_pdf(stylesheets=[style], font_config=fonts) or b""
