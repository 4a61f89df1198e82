"""Run pages of the course: each block of Python, in the order of its page.

    python docs/course/run.py hello forecasting --data ../shared/data    # whole, with its checks
    python docs/course/run.py --quick                                    # all pages, less training
    python docs/course/run.py forecasting --write                        # and renew what it shows

A page is Markdown that renders without this script, and its code can be copied as it is. Comments
that a reader does not see say what the script does between two blocks:

    <!-- quick: epochs = 2 -->             runs with --quick only
    <!-- check: error < 0.1 -->            must be true, with and without --quick
    <!-- full check: error < 0.01 -->      must be true without --quick
    <!-- quick check: error < 0.5 -->      must be true with --quick

If the first block of a page sets `data` (the folder of its files) or `pictures` (the folder of its
plots), the script gives them the values of its options afterwards. With --write, a block of text
that follows a block of Python becomes what that block printed, and plots are saved where the page
shows them, with few colours so that their files are small.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[2] / "shared/data"
NO_FILE = 3  # exit status if a file of the data is missing
PART = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<shown>.*?)^```\n)?"
    r"|^<!-- (?P<when>quick|(?:full |quick )?check): (?P<note>.*?) -->\n",
    re.M | re.S,
)


def pages() -> list[str]:
    """The names of all pages that have code."""
    return sorted(p.stem for p in HERE.glob("*.md") if "```python\n" in p.read_text("utf-8"))


class Both(io.StringIO):
    """Keeps what is printed, and prints it."""

    def write(self, text: str) -> int:
        sys.__stdout__.write(text)
        return super().write(text)


def run(page: str, data: Path, pictures: Path, *, quick: bool) -> str:
    """Run one page and return its text with new output.

    Raises
    ------
    AssertionError
        If a check fails.
    FileNotFoundError
        If the folder `data` lacks a file that the page reads.
    """
    path = HERE / f"{page}.md"
    text = path.read_text("utf-8")
    names: dict[str, object] = {"__name__": page}
    options = {"data": data, "pictures": pictures}
    new, end = [], 0
    for part in PART.finditer(text):
        line = text.count("\n", 0, part.start()) + 1
        if part["code"] is not None:
            printed = Both()
            code = compile("\n" * line + part["code"], str(path), "exec")
            with contextlib.redirect_stdout(printed):
                exec(code, names)
            names.update({k: v for k, v in options.items() if k in names})
            options = {}
            if part["shown"] is not None:
                new += [text[end : part.start("shown")], printed.getvalue()]
                end = part.end("shown")
        elif part["when"] == "quick":
            if quick:
                exec(part["note"], names)
        elif not part["when"].startswith("full " if quick else "quick "):
            assert eval(part["note"], names), f"{path.name}:{line}: {part['note']} is not true"
    return "".join([*new, text[end:]])


def shrink(picture: Path) -> None:
    """Reduce a plot to 64 colours, which makes its file a third as large."""
    from PIL import Image  # matplotlib brings it

    Image.open(picture).convert("RGB").quantize(64).save(picture, optimize=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="names of pages (default: all)")
    parser.add_argument("--data", type=Path, default=os.environ.get("FUSEDRNN_DATA", DATA))
    parser.add_argument("--quick", action="store_true", help="train less")
    parser.add_argument("--write", action="store_true", help="renew output and plots in the page")
    options = parser.parse_args()
    unknown = set(options.pages) - set(pages())
    if unknown:
        parser.error(f"no page {', '.join(sorted(unknown))}; there are {', '.join(pages())}")
    if options.quick and options.write:
        parser.error("--write shows full results, so it excludes --quick")
    with tempfile.TemporaryDirectory() as temporary:
        pictures = HERE / "pictures" if options.write else Path(temporary)
        pictures.mkdir(exist_ok=True)
        for page in options.pages or pages():
            start = time.monotonic()
            print(f"--- {page}")
            try:
                text = run(page, Path(options.data), pictures, quick=options.quick)
            except FileNotFoundError as error:
                print(f"{page}: {error}. The page says where to get its files.", file=sys.stderr)
                return NO_FILE
            if options.write:
                (HERE / f"{page}.md").write_text(text, "utf-8")
                for name in re.findall(r"\(pictures/(\S+\.png)\)", text):
                    shrink(pictures / name)
            print(f"--- {page}: {time.monotonic() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
