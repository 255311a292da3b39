"""Compare libraries that read web pages: pages a second, words lost and kept, what they install.

    python benchmarks/document_parsers.py --pages 2000 --seed 1

The pages are synthetic, of mixed size (log-normal, median 5 KB), with navigation, forms, lists, tables and code. What a
page tells is known, so it can be counted which of its words an extractor keeps, and which of the navigation.
A candidate that is not installed is left out; `pip install trafilatura lxml_html_clean kreuzberg` adds those that lost.
`masksearch` is the whole way from bytes to passages, in its process.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files, version

from masksearch_agent.corpus.process import ParserProcess

SYLLABLES = ("ba", "den", "kor", "li", "mo", "nes", "pra", "sul", "ter", "vin", "wel", "zor")
PACKAGES = {
    "resiliparse, skipping elements": ("Resiliparse", "FastWARC", "brotli"),
    "resiliparse, main content": ("Resiliparse", "FastWARC", "brotli"),
    "trafilatura": (
        *(
            "trafilatura",
            "jusText",
            "courlan",
            "htmldate",
            "babel",
            "dateparser",
            "tld",
            "lxml",
            "lxml_html_clean",
        ),
        *("pytz", "tzlocal", "regex"),
    ),
    "kreuzberg": ("kreuzberg",),
}


def make_page(rng: random.Random) -> tuple[str, set[str], set[str]]:
    """Return a page, the words that it tells, and the words of its navigation; no word is of both."""
    told: list[str] = []
    menu: list[str] = []

    def say(count: int, into: list[str], prefix: str = "") -> str:
        words = [prefix + "".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(count)]
        into.extend(words)
        return " ".join(words)

    blocks: list[str] = []
    size = min(rng.lognormvariate(8.5, 1), 300_000)
    while sum(map(len, blocks)) < size:
        kind = rng.random()
        if kind < 0.6:
            blocks.append(f"<p>{say(rng.randint(8, 90), told)}.</p>")
        elif kind < 0.7:
            blocks.append(f"<h2>{say(3, told)}</h2>")
        elif kind < 0.8:
            blocks.append("<ul>" + "".join(f"<li>{say(6, told)}</li>" for _ in range(4)) + "</ul>")
        elif kind < 0.9:
            row = "".join(f"<td>{say(2, told)}</td>" for _ in range(3))
            blocks.append(f"<table><tr>{row}</tr></table>")
        else:
            blocks.append(f"<pre><code>{say(10, told)}</code></pre>")
    links = "".join(f'<li><a href="/{n}">{say(1, menu, "nav")}</a></li>' for n in range(20))
    body = f"<h1>{say(3, told)}</h1>{''.join(blocks)}"
    shape = rng.choice(("main", "article", "div", "form"))
    page = (
        f"<!doctype html><html><head><title>{say(2, told)}</title><script>var a = 1;</script></head><body>"
        f"<nav><ul>{links}</ul></nav><{shape}>{body}</{shape}><footer>{say(5, menu, 'nav')}</footer></body></html>"
    )
    return page, set(told), set(menu)


def candidates() -> dict[str, Callable[[str], str]]:
    """Return the extractors that are installed."""
    found: dict[str, Callable[[str], str]] = {}
    from resiliparse.extract.html2text import extract_plain_text

    from masksearch_agent.corpus.documents import DOCUMENT_PARSERS

    def ours(page: str) -> str:
        document = DOCUMENT_PARSERS[".html"](page.encode(), "")
        return "\n".join([document.title, *(f"{' '.join(path)}\n{text}" for path, text in document.sections)])

    found["resiliparse, skipping elements"] = ours
    found["resiliparse, main content"] = lambda page: extract_plain_text(page, main_content=True)
    try:
        import trafilatura

        found["trafilatura"] = lambda page: trafilatura.extract(page, output_format="markdown") or ""
    except ImportError:
        pass
    try:
        import kreuzberg

        found["kreuzberg"] = lambda page: kreuzberg.extract_bytes_sync(page.encode(), "text/html").content
    except ImportError:
        pass
    return found


def installed_mb(packages: tuple[str, ...]) -> float:
    """Return what distributions take on disk, in megabytes."""
    total = 0
    for package in packages:
        try:
            total += sum(file.size or 0 for file in files(package) or ())
        except PackageNotFoundError:
            print(f"({package} is not installed, so it is not counted)")
    return total / 1e6


def measure(name: str, read: Callable[[str], str], pages: list[tuple[str, set[str], set[str]]]) -> str:
    """Return a row of the table: processor seconds decide, so that a busy machine changes little."""
    kept = menu = told_words = menu_words = lost = 0
    seconds = 0.0
    for page, told, navigation in pages:
        start = time.process_time()
        words = set(re.findall(r"\w+", read(page)))
        seconds += time.process_time() - start
        kept += len(told & words)
        menu += len(navigation & words)
        told_words += len(told)
        menu_words += len(navigation)
        lost += not told & words
    packages = PACKAGES[name]
    return (
        f"| {name} {version(packages[0])} | {len(pages) / seconds:,.0f} | {100 * kept / told_words:.1f}% | {lost} | "
        f"{100 * menu / menu_words:.1f}% | {installed_mb(packages):.0f} MB, {len(packages)} packages |"
    )


def main() -> None:
    """Print the comparison as a table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--pages", type=int, default=2000)
    options.add_argument("--seed", type=int, default=1)
    arguments = options.parse_args()
    rng = random.Random(arguments.seed)
    pages = [make_page(rng) for _ in range(arguments.pages)]
    size = sum(len(page) for page, _, _ in pages)
    print(
        f"{len(pages):,} pages, {size / 1e6:.1f} MB, the largest {max(len(page) for page, _, _ in pages):,} bytes"
    )
    print("| library | pages a second and core | words kept | pages lost | navigation left in | installed |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, read in candidates().items():
        print(measure(name, read, pages), flush=True)
    process = ParserProcess(60, 100)
    before = os.times()
    count = sum(len(process.read(".html", page.encode(), "page", "", 10**9)) for page, _, _ in pages)
    process.close()
    after = os.times()
    seconds = sum(after[:4]) - sum(before[:4])
    print(
        f"masksearch, bytes to {count:,} passages: {len(pages) / seconds:,.0f} pages a second and core, "
        "the start of its process included"
    )


if __name__ == "__main__":
    main()
