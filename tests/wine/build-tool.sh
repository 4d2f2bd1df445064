#!/usr/bin/env bash
# Makes bpf2sys.exe, the tool for Windows on x64, on a Debian 12 machine: build-tool.sh [FOLDER [CARGO OPTIONS]]
#
# A compiler for Windows needs its standard library. That is built from source, with the compiler that it belongs to; both are
# packages of Debian in these versions, whose signatures apt verifies. They are unpacked into the folder, and not installed: they
# would replace the machine's own compiler. Needed besides: cargo, gcc-mingw-w64-x86-64, and 4 GB of disk.
set -euo pipefail

repository=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(realpath -m "${1:-$repository/target/windows-host}")
shift || true
target=x86_64-pc-windows-gnu
rust='1.96.0+dfsg1-1~deb12u2'
packages=(
    "rustc-web=$rust" "libstd-rust-web-1.96=$rust" "libstd-rust-web-dev=$rust" "rust-web-src=$rust"
    'libllvm22=1:22.1.8-1~deb12u1'
)

# Unpacked completely, or not at all.
compiler=$folder/rust-$rust
if [ ! -d "$compiler" ]; then
    rm -rf "$folder/debs" "$compiler.part"
    mkdir -p "$folder/debs" "$compiler.part"
    (cd "$folder/debs" && apt-get download -o APT::Get::AllowUnauthenticated=false "${packages[@]}")
    for package in "$folder"/debs/*.deb; do
        dpkg -x "$package" "$compiler.part"
    done
    # The compiler looks for its libraries where they would be installed.
    printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' "$compiler/usr/lib/x86_64-linux-gnu" "$compiler/usr/bin/rustc" \
        >"$compiler.part/rustc"
    chmod +x "$compiler.part/rustc"
    mv "$compiler.part" "$compiler"
    rm -rf "$folder/debs"
fi

# What builds the standard library is no stable part of cargo.
export RUSTC="$compiler/rustc" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$folder/target"
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc
cd "$repository"
cargo build --locked -p bpf2sys --target "$target" -Zbuild-std=std,panic_unwind "$@"
ls -l "$folder/target/$target"/*/bpf2sys.exe
