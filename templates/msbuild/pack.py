#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes the NuGet package.

    templates/msbuild/pack.py OUT.nupkg [RID=FILE ...]

Each FILE is the tool's executable for a machine: win-x64, linux-x64 or osx-x64. A package without executables takes the tool from
the PATH. The same files give the same bytes: nothing of the machine, the user or the time is in the package.
"""

import hashlib
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
RIDS = ["win-x64", "linux-x64", "osx-x64"]
FILES = [
    "README.md",
    "ebpf.props",
    "build/bpf2sys.props",
    "build/bpf2sys.targets",
    "buildTransitive/bpf2sys.props",
    "buildTransitive/bpf2sys.targets",
]
HEAD = b'<?xml version="1.0" encoding="utf-8"?>\n'
SCHEMAS = "http://schemas.microsoft.com/packaging/2010/07/"
OPC = "http://schemas.openxmlformats.org/package/2006/"


def core_properties(nuspec: bytes) -> bytes:
    """What the container says of its content: the same as the nuspec."""
    space = "{http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd}"
    metadata = ElementTree.fromstring(nuspec).find(space + "metadata")
    of = lambda name: escape(metadata.findtext(space + name))
    return HEAD + (
        f'<coreProperties xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns="{OPC}metadata/core-properties">\n'
        f"  <dc:creator>{of('authors')}</dc:creator>\n"
        f"  <dc:description>{of('description')}</dc:description>\n"
        f"  <dc:identifier>{of('id')}</dc:identifier>\n"
        f"  <version>{of('version')}</version>\n"
        f"  <keywords>{of('tags')}</keywords>\n"
        "</coreProperties>\n"
    ).encode()


def relationships(parts: list[tuple[str, str]]) -> bytes:
    """The parts that a reader begins with, by type and name."""
    lines = [
        f'  <Relationship Type="{kind}" Target="/{name}" Id="R{hashlib.sha256(name.encode()).hexdigest()[:16]}" />\n'
        for kind, name in parts
    ]
    return HEAD + f'<Relationships xmlns="{OPC}relationships">\n{"".join(lines)}</Relationships>\n'.encode()


def content_types(names: list[str]) -> bytes:
    """The type of each part, by its extension, or by its name where it has none."""
    known = {
        "rels": "application/vnd.openxmlformats-package.relationships+xml",
        "psmdcp": "application/vnd.openxmlformats-package.core-properties+xml",
    }
    extensions = sorted({Path(name).suffix[1:] for name in names if Path(name).suffix})
    lines = [f'  <Default Extension="{e}" ContentType="{known.get(e, "application/octet")}" />\n' for e in extensions]
    lines += [
        f'  <Override PartName="/{name}" ContentType="application/octet" />\n' for name in names if not Path(name).suffix
    ]
    types = f'<Types xmlns="{OPC}content-types">\n{"".join(lines)}</Types>\n'
    return HEAD + types.encode()


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    tools = {}
    for word in sys.argv[2:]:
        rid, _, file = word.partition("=")
        if rid not in RIDS or not file:
            sys.exit(f"{word}: must be RID=FILE with one of {', '.join(RIDS)}")
        tools[f"tools/{rid}/bpf2sys{'.exe' if rid.startswith('win') else ''}"] = Path(file).read_bytes()
    nuspec = (HERE / "bpf2sys.nuspec").read_bytes()
    properties = f"package/services/metadata/core-properties/{hashlib.sha256(nuspec).hexdigest()[:32]}.psmdcp"
    parts = {
        "_rels/.rels": relationships(
            [(SCHEMAS + "manifest", "bpf2sys.nuspec"), (OPC + "relationships/metadata/core-properties", properties)]
        ),
        "bpf2sys.nuspec": nuspec,
        **{name: (HERE / name).read_bytes() for name in FILES},
        **tools,
    }
    parts[properties] = core_properties(nuspec)
    # `.rels` is an extension, not a name.
    parts["[Content_Types].xml"] = content_types([name.replace("/.rels", "/x.rels") for name in parts])
    with zipfile.ZipFile(sys.argv[1], "w") as package:
        for name, content in parts.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, which has the permission to execute
            entry.external_attr = (0o100755 if name in tools else 0o100644) << 16
            package.writestr(entry, content, zipfile.ZIP_DEFLATED)


main()
