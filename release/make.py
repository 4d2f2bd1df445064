#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes a release: release/make.py OUT [--target TARGET]... [--built TARGET=FOLDER]... [--book FOLDER]

Into the folder OUT, which must be empty or not exist, go for each TARGET an archive with the executables, manual pages,
completions, CMake package and licences, and a CycloneDX bill of materials; the NuGet package with the executables; the sources;
and the SHA-256 of each of these. TARGET is x86_64-unknown-linux-musl unless another is named: linked statically, it runs on any
x86-64 Linux. With --built the executables of a target are taken from FOLDER and not built. With --book the pages that
book/build.py made are packed, too.

The same commit, compiler and C compiler give the same bytes, in any folder, at any time. Uncommitted changes are refused, unless
everything is --built. Python 3.11 or later.
"""

import argparse
import datetime
import gzip
import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

# Nothing is written beside the sources.
sys.dont_write_bytecode = True
from components import REPOSITORY, Components, Missing, output, rust_notices  # noqa: E402

DEFAULT_TARGET = "x86_64-unknown-linux-musl"
PROGRAMS = ["bpf2sys", "cargo-bpf2sys"]
# Where shells look for completions, below a prefix such as /usr/local.
COMPLETIONS = {
    "bash": "share/bash-completion/completions/bpf2sys",
    "zsh": "share/zsh/site-functions/_bpf2sys",
    "fish": "share/fish/vendor_completions.d/bpf2sys.fish",
}
# What NuGet calls the machines.
RUNTIME_IDS = {"x86_64-*-linux-*": "linux-x64", "x86_64-pc-windows-*": "win-x64", "x86_64-apple-darwin": "osx-x64"}


def expect_commit(commit: str) -> None:
    """That the sources are those of a commit."""
    changes = output("git", "status", "--porcelain", "--untracked-files=no")
    if changes:
        raise Missing(f"there are changes that are not committed:\n{changes.rstrip()}")
    if output("git", "rev-parse", "HEAD").strip() != commit:
        raise Missing(f"the sources were those of {commit}, and are no longer")


def build(target: str, commit: str) -> Path:
    """Compiles the executables; the folder that they are in."""
    print(f"building for {target}", file=sys.stderr, flush=True)
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    # Panics name files of the sources: no folder of this machine is in them.
    flags = [f"--remap-path-prefix={REPOSITORY}=bpf2sys", f"--remap-path-prefix={home}=cargo"]
    environment = os.environ | {"BPF2SYS_COMMIT": commit[:12], "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags)}
    # C sources of dependencies have no business with the folder, either.
    variable = f"CFLAGS_{target.replace('-', '_')}"
    maps = f"-ffile-prefix-map={home}=cargo -ffile-prefix-map={REPOSITORY}=bpf2sys"
    environment[variable] = f"{os.environ.get(variable, '')} {maps}".strip()
    # Its own folder: what was compiled with other flags is not taken, and is not thrown away.
    folder = REPOSITORY / "target/release-archives"
    words = [word for name in PROGRAMS for word in ("--bin", name)]
    subprocess.run(
        ["cargo", "build", "--locked", "--release", "--package=bpf2sys", f"--target={target}", f"--target-dir={folder}", *words],
        cwd=REPOSITORY, env=environment, check=True,
    )  # fmt: skip
    return folder / target / "release"


def needs_loader(program: bytes) -> bool:
    """Whether an ELF file names a program interpreter, as each does that is not linked statically."""
    INTERPRETER = 3
    (table,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    return any(struct.unpack_from("<I", program, table + i * size)[0] == INTERPRETER for i in range(count))


class Archive:
    """The content of an archive: all in one folder with its name, without owner or time of any machine."""

    def __init__(self, name: str, time: int):
        self.name, self.time = name, time
        self.files: dict[str, tuple[bytes, bool]] = {}

    def add(self, place: str, content: bytes, executable: bool = False) -> None:
        self.files[place] = (content, executable)

    def add_tree(self, place: str, folder: Path) -> None:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.add(f"{place}{file.relative_to(folder).as_posix()}", file.read_bytes())

    def tar(self) -> bytes:
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for place, (content, executable) in sorted(self.files.items()):
                entry = tarfile.TarInfo(f"{self.name}/{place}")
                entry.size, entry.mtime, entry.mode = len(content), self.time, 0o755 if executable else 0o644
                archive.addfile(entry, io.BytesIO(content))
        return gzip.compress(plain.getvalue(), mtime=0)

    def zip(self) -> bytes:
        packed = io.BytesIO()
        # The format knows no time before 1980, and local time only.
        time = max(datetime.datetime.fromtimestamp(self.time, datetime.UTC), datetime.datetime(1980, 1, 1, tzinfo=datetime.UTC))
        with zipfile.ZipFile(packed, "w") as archive:
            for place, (content, _) in sorted(self.files.items()):
                entry = zipfile.ZipInfo(f"{self.name}/{place}", time.timetuple()[:6])
                entry.create_system, entry.external_attr = 3, 0o100644 << 16
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
        return packed.getvalue()


def documentation(tool: Path) -> dict[str, bytes]:
    """What the tool tells of itself, by where it goes below a prefix."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([tool, "man", "--out-dir", folder], check=True)
        for page in Path(folder).iterdir():
            found[f"share/man/man1/{page.name}"] = page.read_bytes()
    for shell, place in (COMPLETIONS | {"powershell": "share/bpf2sys/bpf2sys.ps1"}).items():
        found[place] = subprocess.run([tool, "completions", shell], check=True, stdout=subprocess.PIPE).stdout
    return found


def runs_here(program: Path) -> bool:
    try:
        return subprocess.run([program, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def try_out(tool: Path, reference: dict[str, bytes]) -> None:
    """Has the tool build every example for both machines. Every tool of a release must make the same drivers."""
    with tempfile.TemporaryDirectory() as folder:
        objects = sorted(REPOSITORY.glob("examples/*/*.o"))
        subprocess.run([tool, "build", "--quiet", "--arch=x64,arm64", "--out-dir", folder, *objects], check=True)
        drivers = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
        if len(drivers) != 2 * len(objects):
            raise Missing(f"{tool} made {len(drivers)} drivers of {len(objects)} objects for two machines")
        subprocess.run([tool, "check", *sorted(Path(folder).iterdir())], check=True, stdout=subprocess.DEVNULL)
        if reference and reference != drivers:
            raise Missing(f"{tool} makes other drivers than the tool for another machine")
        reference.update(drivers)


def target_archive(target: str, folder: Path, docs: dict[str, bytes], named: str, commit: str, time: int) -> dict[str, bytes]:
    """The files of a release for one target, by name."""
    windows = "-windows-" in target
    suffix = ".exe" if windows else ""
    archive = Archive(f"{named}-{target}", time)
    hashes = {}
    for name in PROGRAMS:
        program = (folder / f"{name}{suffix}").read_bytes()
        if target == DEFAULT_TARGET and needs_loader(program):
            raise Missing(f"{folder / name} is not linked statically")
        archive.add(f"{'' if windows else 'bin/'}{name}{suffix}", program, executable=True)
        hashes[f"{name}{suffix}"] = hashlib.sha256(program).hexdigest()
    for place, content in docs.items():
        # Windows has no manual pages, and one shell.
        if not windows:
            archive.add(place, content)
        elif place.endswith(".ps1"):
            archive.add(Path(place).name, content)
    archive.add_tree("cmake/" if windows else "lib/cmake/bpf2sys/", REPOSITORY / "templates/cmake")
    components = Components(target)
    about = "" if windows else "share/doc/bpf2sys/"
    for name in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"]:
        archive.add(f"{about}{name}", (REPOSITORY / name).read_bytes())
    archive.add(f"{about}THIRD-PARTY.txt", components.notices().encode())
    archive.add(f"{about}THIRD-PARTY-RUST.html", rust_notices())
    stamp = datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    bill = components.bill(hashes, commit, stamp)
    archive.add(f"{about}bpf2sys.cdx.json", bill)
    packed = {f"{archive.name}.zip": archive.zip()} if windows else {f"{archive.name}.tar.gz": archive.tar()}
    return packed | {f"{archive.name}.cdx.json": bill}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--built", action="append", default=[], metavar="TARGET=FOLDER")
    parser.add_argument("--book", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    out = arguments.out
    if out.exists() and any(out.iterdir()):
        raise Missing(f"{out} is not empty")
    built = {}
    for words in arguments.built:
        target, equals, folder = words.partition("=")
        if not equals:
            parser.error(f"--built {words}: must be TARGET=FOLDER")
        built[target] = Path(folder)
    targets = arguments.target or ([] if built else [DEFAULT_TARGET])
    commit = output("git", "rev-parse", "HEAD").strip()
    if targets:
        expect_commit(commit)
    # The time of the release is that of its commit.
    time = int(os.environ.get("SOURCE_DATE_EPOCH") or output("git", "show", "--no-patch", "--format=%ct", "HEAD"))
    manifest = (REPOSITORY / "Cargo.toml").read_text()
    version = re.search(r'^version = "(.*)"$', manifest, re.MULTILINE).group(1)
    named = f"bpf2sys-{version}"

    folders = {target: build(target, commit) for target in targets} | built
    if targets:
        # Compiling takes minutes, in which somebody may have gone on working.
        expect_commit(commit)
    tools = [folder / "bpf2sys" for folder in folders.values() if runs_here(folder / "bpf2sys")]
    if not tools:
        raise Missing("none of the targets runs on this machine, and only the tool itself knows its manual pages")
    drivers: dict[str, bytes] = {}
    for tool in tools:
        try_out(tool, drivers)
    docs = documentation(tools[0])

    files: dict[str, bytes] = {}
    for target, folder in folders.items():
        files |= target_archive(target, folder, docs, named, commit, time)
    if arguments.book:
        book = Archive(f"{named}-book", time)
        book.add_tree("", arguments.book)
        files[f"{book.name}.tar.gz"] = book.tar()
    source = subprocess.run(
        ["git", "archive", "--format=tar", f"--prefix={named}/", "HEAD"], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE
    )
    files[f"{named}.tar.gz"] = gzip.compress(source.stdout, mtime=0)
    with tempfile.TemporaryDirectory() as folder:
        words = {}
        for target, place in folders.items():
            for pattern, identifier in RUNTIME_IDS.items():
                if Path(target).match(pattern):
                    suffix = ".exe" if identifier.startswith("win") else ""
                    # The first of several for the same machine.
                    words.setdefault(identifier, f"{identifier}={place / f'bpf2sys{suffix}'}")
        package = Path(folder) / f"bpf2sys.{version}.nupkg"
        subprocess.run([sys.executable, REPOSITORY / "templates/msbuild/pack.py", package, *words.values()], check=True)
        files[package.name] = package.read_bytes()
    sums = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    files["SHA256SUMS"] = sums.encode()

    # Beside it, and then renamed: a release is there completely or not at all.
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as part:
        whole = Path(part) / "release"
        whole.mkdir()
        for name, content in files.items():
            (whole / name).write_bytes(content)
        whole.replace(out)
    for name in sorted(files):
        print(f"{len(files[name]):>12,}  {name}")


if __name__ == "__main__":
    try:
        main()
    except Missing as missing:
        sys.exit(f"error: {missing}")
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
