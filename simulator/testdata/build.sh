#!/bin/sh
# Builds module.image and module.dll.image from module.c. Needs clang, lld-link and llvm-dlltool; version 19 was used.
set -eu
cd "$(dirname "$0")"
v=${LLVM_SUFFIX--19}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
printf 'LIBRARY ntoskrnl.exe\nEXPORTS\nRtlQueryRegistryValues\n' > "$out/ntoskrnl.def"
printf 'LIBRARY NETIO.SYS\nEXPORTS\nNmrRegisterClient\nNmrDeregisterClient\nNmrWaitForClientDeregisterComplete\nNmrClientAttachProvider\n' > "$out/netio.def"
for lib in ntoskrnl netio; do llvm-dlltool"$v" -m i386:x86-64 -d "$out/$lib.def" -l "$out/$lib.lib"; done
compile() {
    clang"$v" --target=x86_64-pc-windows-msvc -O1 -ffreestanding -fno-builtin -mno-red-zone -mno-implicit-float \
        -fshort-wchar -fno-jump-tables -funwind-tables -Wall -Wno-unused-function "$@" -c module.c
}
compile -o "$out/module.obj"
compile -DMODULE_DLL -o "$out/dll.obj"
lld-link"$v" /nologo /driver /subsystem:native,10.00 /entry:DriverEntry /nodefaultlib /release /Brepro \
    /dynamicbase /highentropyva /nxcompat /base:0x140000000 "/out:module.image" \
    "$out/module.obj" "$out/ntoskrnl.lib" "$out/netio.lib"
lld-link"$v" /nologo /dll /entry:DllMain /nodefaultlib /noimplib /Brepro "/out:module.dll.image" "$out/dll.obj"
