#!/usr/bin/env python3
"""Builds the book: book/build.py OUT [MDBOOK]

Beside its own chapters the book has pages that stand elsewhere in the repository: they are copied to a folder of its own, and what
they link to is linked to the book's page of it, or is a plain name where the book has none. MDBOOK is the program, 0.5.4 by default
on the PATH.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

BOOK = pathlib.Path(__file__).resolve().parent
REPOSITORY = BOOK.parent

# Pages that stand elsewhere, by their names in the book.
PAGES = {
    "catalogue.md": "compiler/bpf2sys/docs/diagnostics.md",
    "messages.md": "compiler/bpf2sys/docs/messages.md",
    "provenance.md": "compiler/bpf2sys/docs/provenance.md",
    "signing.md": "pe-emit/authenticode/README.md",
    "contexts.md": "compiler/testing/docs/contexts.md",
    "test-files.md": "compiler/testing/docs/test-files.md",
    "platform.md": "compiler/platform/README.md",
    "exactness.md": "compiler/verifier/docs/exactness.md",
    "codegen.md": "codegen/README.md",
    "optimizations.md": "codegen/docs/optimizations.md",
    "rules.md": "compiler/check/README.md",
}
CODES = REPOSITORY / "compiler/bpf2sys/docs/codes"
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def linked(text, place, here, names):
    """The text with its links to files of the repository as links to pages of the book. `place` is where it stands in the
    repository, `here` its name in the book."""

    def link(match):
        words, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match.group(0)
        path, _, anchor = target.partition("#")
        page = names.get((place.parent / path).resolve())
        if page is None:
            return words
        up = "../" * here.count("/")
        return f"[{words}]({up}{page}{'#' + anchor if anchor else ''})"

    return LINK.sub(link, text)


def main():
    out = pathlib.Path(sys.argv[1]).resolve()
    mdbook = sys.argv[2] if len(sys.argv) > 2 else "mdbook"
    codes = {f"codes/{page.name}": page for page in sorted(CODES.glob("*.md"))}
    copied = {name: REPOSITORY / page for name, page in PAGES.items()} | codes
    names = {page.resolve(): name for name, page in copied.items()}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        # What is included is named from where the book's sources are.
        source = folder / "book" / "src"
        shutil.copytree(BOOK / "src", source)
        shutil.copy(BOOK / "book.toml", folder / "book")
        (folder / "book" / "porting").symlink_to(BOOK / "porting")
        for included in ["templates", "examples"]:
            (folder / included).symlink_to(REPOSITORY / included)
        (source / "codes").mkdir()
        for name, page in copied.items():
            text = linked(page.read_text(encoding="utf-8"), page, name, names)
            # Nothing of these pages is a command of the book's.
            (source / name).write_text(text.replace("{{#", "\\{{#"), encoding="utf-8")
        listed = "".join(
            f"  - [{page.read_text(encoding='utf-8').splitlines()[0][2:]}]({name})\n" for name, page in codes.items()
        )
        summary = source / "SUMMARY.md"
        summary.write_text(
            summary.read_text(encoding="utf-8").replace("<!-- the catalogue's pages -->\n", listed), encoding="utf-8"
        )
        missing = [
            f"{page.relative_to(source)}: {target}"
            for page in source.rglob("*.md")
            for _, target in LINK.findall(page.read_text(encoding="utf-8"))
            if not re.match(r"[a-z]+:|#", target) and not (page.parent / target.partition("#")[0]).is_file()
        ]
        if missing:
            sys.exit("links that lead nowhere:\n" + "\n".join(missing))
        subprocess.run([mdbook, "build", folder / "book", "--dest-dir", out], check=True)


main()
