#!/bin/sh
# Builds module.image, module-arm64.image and module-dll.image from module.c, and sample.image and sample-arm64.image from
# sample.c, and the object sample-bpf.o. Needs clang, lld-link, llvm-dlltool and llvm-strip; version 19 was used.
set -eu
cd "$(dirname "$0")"
v=${LLVM_SUFFIX--19}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
printf 'LIBRARY ntoskrnl.exe\nEXPORTS\nRtlQueryRegistryValues\n' > "$out/ntoskrnl.def"
printf 'LIBRARY NETIO.SYS\nEXPORTS\nNmrRegisterClient\nNmrDeregisterClient\nNmrWaitForClientDeregisterComplete\nNmrClientAttachProvider\n' > "$out/netio.def"
# compile SOURCE TARGET FLAG...
compile() {
    source=$1 target=$2
    shift 2
    clang"$v" --target="$target" "$@" -O1 -ffreestanding -fno-builtin \
        -fshort-wchar -fno-jump-tables -funwind-tables -Wall -Wno-unused-function -c "$source" -o "$out/module.obj"
}
# build SOURCE IMAGE TARGET MACHINE FLAG...
build() {
    source=$1 image=$2 target=$3 machine=$4
    shift 4
    for lib in ntoskrnl netio; do llvm-dlltool"$v" -m "$machine" -d "$out/$lib.def" -l "$out/$lib.lib"; done
    compile "$source" "$target" "$@"
    lld-link"$v" /nologo /driver /subsystem:native,10.00 /entry:DriverEntry /nodefaultlib /release /Brepro \
        /dynamicbase /highentropyva /nxcompat /base:0x140000000 "/out:$image" \
        "$out/module.obj" "$out/ntoskrnl.lib" "$out/netio.lib"
}
for name in module sample; do
    build $name.c $name.image x86_64-pc-windows-msvc i386:x86-64 -mno-red-zone -mno-implicit-float
    # With LSE atomics and signed return addresses, which the simulated processor has.
    build $name.c $name-arm64.image aarch64-pc-windows-msvc arm64 -march=armv8.3-a -mno-implicit-float -ffixed-x18 \
        -mbranch-protection=pac-ret+b-key
done
compile module.c x86_64-pc-windows-msvc -mno-red-zone -mno-implicit-float -DMODULE_DLL
lld-link"$v" /nologo /dll /entry:DllMain /nodefaultlib /noimplib /Brepro /out:module-dll.image "$out/module.obj"
clang"$v" -target bpf -mcpu=v3 -O2 -g -ffile-compilation-dir=. -Wall -c sample-bpf.c -o sample-bpf.o
llvm-strip"$v" --strip-debug sample-bpf.o
