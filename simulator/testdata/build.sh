#!/bin/sh
# Builds module.image, module.dll.image and module-arm64.image from module.c. Needs clang, lld-link and llvm-dlltool;
# version 19 was used.
set -eu
cd "$(dirname "$0")"
v=${LLVM_SUFFIX--19}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
printf 'LIBRARY ntoskrnl.exe\nEXPORTS\nRtlQueryRegistryValues\n' > "$out/ntoskrnl.def"
printf 'LIBRARY NETIO.SYS\nEXPORTS\nNmrRegisterClient\nNmrDeregisterClient\nNmrWaitForClientDeregisterComplete\nNmrClientAttachProvider\n' > "$out/netio.def"
compile() {
    clang"$v" -O1 -ffreestanding -fno-builtin -mno-implicit-float -fshort-wchar -fno-jump-tables -funwind-tables \
        -Wall -Wno-unused-function "$@" -c module.c
}
# link MACHINE IMAGE
link() {
    for lib in ntoskrnl netio; do llvm-dlltool"$v" -m "$1" -d "$out/$lib.def" -l "$out/$lib.lib"; done
    lld-link"$v" /nologo /driver /subsystem:native,10.00 /entry:DriverEntry /nodefaultlib /release /Brepro \
        /dynamicbase /highentropyva /nxcompat /base:0x140000000 "/out:$2" \
        "$out/module.obj" "$out/ntoskrnl.lib" "$out/netio.lib"
}
x64="--target=x86_64-pc-windows-msvc -mno-red-zone"
# With LSE atomics and signed return addresses, which the simulated processor has.
arm64="--target=aarch64-pc-windows-msvc -march=armv8.3-a -ffixed-x18 -mbranch-protection=pac-ret+b-key"
compile $x64 -o "$out/module.obj"
link i386:x86-64 module.image
compile $arm64 -o "$out/module.obj"
link arm64 module-arm64.image
compile $x64 -DMODULE_DLL -o "$out/dll.obj"
lld-link"$v" /nologo /dll /entry:DllMain /nodefaultlib /noimplib /Brepro "/out:module.dll.image" "$out/dll.obj"
