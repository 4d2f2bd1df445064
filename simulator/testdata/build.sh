#!/bin/sh
# Builds module.image and module-arm64.image from module.c. Needs clang, lld-link and llvm-dlltool; version 19 was used.
set -eu
cd "$(dirname "$0")"
v=${LLVM_SUFFIX--19}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
printf 'LIBRARY ntoskrnl.exe\nEXPORTS\nRtlQueryRegistryValues\n' > "$out/ntoskrnl.def"
printf 'LIBRARY NETIO.SYS\nEXPORTS\nNmrRegisterClient\nNmrDeregisterClient\nNmrWaitForClientDeregisterComplete\nNmrClientAttachProvider\n' > "$out/netio.def"
# build IMAGE TARGET MACHINE FLAG...
build() {
    image=$1 target=$2 machine=$3
    shift 3
    for lib in ntoskrnl netio; do llvm-dlltool"$v" -m "$machine" -d "$out/$lib.def" -l "$out/$lib.lib"; done
    clang"$v" --target="$target" "$@" -O1 -ffreestanding -fno-builtin \
        -fshort-wchar -fno-jump-tables -funwind-tables -Wall -Wno-unused-function -c module.c -o "$out/module.obj"
    lld-link"$v" /nologo /driver /subsystem:native,10.00 /entry:DriverEntry /nodefaultlib /release /Brepro \
        /dynamicbase /highentropyva /nxcompat /base:0x140000000 "/out:$image" \
        "$out/module.obj" "$out/ntoskrnl.lib" "$out/netio.lib"
}
build module.image x86_64-pc-windows-msvc i386:x86-64 -mno-red-zone -mno-implicit-float
# With LSE atomics and signed return addresses, which the simulated processor has.
build module-arm64.image aarch64-pc-windows-msvc arm64 -march=armv8.3-a -mno-implicit-float -ffixed-x18 \
    -mbranch-protection=pac-ret+b-key
