# SPDX-License-Identifier: MIT OR Apache-2.0
"""What an executable consists of: its crates as cargo resolves them, as a CycloneDX bill of materials and with their licences."""

import json
import re
import subprocess
import tomllib
import urllib.parse
import uuid
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
# Texts of licences that a package does not have itself.
LICENSES = Path(__file__).resolve().parent / "licenses"
LICENSE_FILE = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)

# Packages that name no repository, and one of the same repository.
OF_THE_SAME = {"cranelift-assembler-x64": "cranelift-codegen", "wasmtime-internal-core": "cranelift-codegen"}


class Missing(Exception):
    """Something without which no release can be made."""


def output(*command: str) -> str:
    """What a program prints; it runs in the repository."""
    return subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout


class Components:
    """The packages of the tool for a machine."""

    def __init__(self, target: str):
        self.target = target
        metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={target}"))
        self.packages = {(p["name"], p["version"]): p for p in metadata["packages"]}
        lock = tomllib.loads((REPOSITORY / "Cargo.lock").read_text())
        self.checksums = {(p["name"], p["version"]): p["checksum"] for p in lock["package"] if "checksum" in p}
        # What is in the executable, and what made it: procedural macros, build scripts, and what those need.
        self.linked, self.edges = self.tree("normal,no-proc-macro")
        everything, more = self.tree("normal,build")
        self.tools = everything - self.linked
        for package, needs in more.items():
            self.edges.setdefault(package, set()).update(needs)
        self.root = next(key for key in self.linked if key[0] == "bpf2sys")

    def tree(self, edges: str) -> tuple[set, dict]:
        """The packages that cargo builds the tool of with the features that they then have, and what each needs of the others."""
        lines = output(
            "cargo", "tree", "--locked", "--package=bpf2sys", f"--target={self.target}", f"--edges={edges}",
            "--prefix=depth", "--format= {p}",
        )  # fmt: skip
        found, needs, above = set(), {}, []
        for line in lines.splitlines():
            depth, name, version = line.split()[:3]
            key = (name, version.removeprefix("v"))
            found.add(key)
            del above[int(depth) :]
            if above:
                needs.setdefault(above[-1], set()).add(key)
            above.append(key)
        return found, needs

    def license(self, key: tuple) -> str:
        """The SPDX expression of a package. Old packages write a slash for OR."""
        expression = self.packages[key]["license"]
        if not expression:
            raise Missing(f"{key[0]} {key[1]} states no licence")
        return re.sub(r"\s*/\s*", " OR ", expression)

    def texts(self, key: tuple) -> list[str]:
        """The texts of a package's licences: those kept here, its own, or those of its repository's other packages."""
        kept = LICENSES / f"{key[0]}.txt"
        if kept.exists():
            return [kept.read_text()]
        package = self.packages[key]
        same = OF_THE_SAME.get(key[0])
        repository = package["repository"]
        others = sorted(self.packages.values(), key=lambda p: (p["name"], p["version"]))
        siblings = [p for p in others if p["source"] and (p["name"] == same or p["repository"] == repository is not None)]
        for one in [package, *siblings]:
            folder = Path(one["manifest_path"]).parent
            files = sorted(f for f in folder.iterdir() if f.is_file() and LICENSE_FILE.match(f.name))
            if files:
                return [f.read_text(errors="replace") for f in files]
        raise Missing(f"{key[0]} {key[1]} comes without a text of its licence: write it to {kept}")

    def notices(self) -> str:
        """The licences of everything in the executable, each text once."""
        by_text: dict[str, list[str]] = {}
        for key in sorted(self.linked):
            if self.packages[key]["source"] is None:
                continue
            for text in self.texts(key):
                text = "\n".join(line.rstrip() for line in text.strip().splitlines())
                by_text.setdefault(text, []).append(f"{key[0]} {key[1]} ({self.license(key)})")
        for name, expression in self.runtime():
            text = (LICENSES / f"{name}.txt").read_text().strip()
            by_text.setdefault(text, []).append(f"{name} ({expression})")
        line = "=" * 80
        parts = [f"{line}\n{chr(10).join(names)}\n{line}\n\n{text}\n" for text, names in by_text.items()]
        return "bpf2sys contains the following software.\n\n" + "\n".join(parts)

    def runtime(self) -> list[tuple[str, str]]:
        """The C library that is linked in: name, licence. Its version is that of the machine, and nothing tells it."""
        if "-musl" in self.target:
            return [("musl", "MIT")]
        return [("mingw-w64", "ZPL-2.1")] if self.target.endswith("-windows-gnu") else []

    def component(self, key: tuple) -> dict:
        package = self.packages[key]
        found = {
            "type": "application" if key == self.root else "library",
            "bom-ref": purl(key),
            "name": key[0],
            "version": key[1],
            "description": (package["description"] or "").strip(),
            "scope": "required" if key in self.linked else "excluded",
            "licenses": [{"expression": self.license(key)}],
            "purl": purl(key),
        }
        if key in self.checksums:
            found["hashes"] = [{"alg": "SHA-256", "content": self.checksums[key]}]
        if package["repository"]:
            found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        return found

    def bill(self, executables: dict[str, str], commit: str, time: str) -> bytes:
        """The bill of materials: CycloneDX 1.6. `executables` are SHA-256 hashes by name, `time` is in RFC 3339."""
        root = self.component(self.root)
        del root["scope"]
        root["properties"] = [
            {"name": "bpf2sys:commit", "value": commit},
            {"name": "bpf2sys:target", "value": self.target},
        ]
        root["components"] = [
            {"type": "file", "bom-ref": name, "name": name, "hashes": [{"alg": "SHA-256", "content": digest}]}
            for name, digest in sorted(executables.items())
        ]
        components = [self.component(key) for key in sorted(self.linked | self.tools) if key != self.root]
        for name, expression in [*self.runtime(), ("rust-std", "MIT OR Apache-2.0")]:
            known = {"version": rust_version()} if name == "rust-std" else {}
            license = {"expression": expression}
            components.append({"type": "library", "bom-ref": name, "name": name, "licenses": [license], "scope": "required"} | known)
        everything = sorted(self.linked | self.tools)
        bill = {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {"timestamp": time, "component": root},
            "components": components,
            "dependencies": [
                {"ref": purl(key), "dependsOn": sorted(purl(need) for need in self.edges.get(key, ()))} for key in everything
            ],
        }
        # The same release has the same number.
        bill["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill, sort_keys=True))}"
        return (json.dumps(bill, indent=2) + "\n").encode()


def rust_version() -> str:
    """The version of the compiler, which its standard library has, too."""
    return re.search(r"^release: (.*)$", output("rustc", "-vV"), re.MULTILINE).group(1)


def rust_notices() -> bytes:
    """The licences of the standard library and of what it contains, as the compiler brings them."""
    file = Path(output("rustc", "--print=sysroot").strip()) / "share/doc/rust/COPYRIGHT-library.html"
    if not file.exists():
        raise Missing(f"the compiler comes without the licences of its standard library, {file}")
    return file.read_bytes()


def purl(key: tuple) -> str:
    """A package's address, which other tools know it by."""
    return f"pkg:cargo/{key[0]}@{urllib.parse.quote(key[1], safe='.-')}"
