#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds the objects of all examples.
#
#   examples/build.sh [OUT]
#
# OUT receives NAME/NAME.o; without it the committed objects beside the sources are replaced. CLANG names the compiler
# (default: clang-19). Objects depend on the sources and the compiler only: the file names in them are relative to the
# repository, so that a diagnostic of bpf2sys names a file that can be opened from there.
set -eu
out=examples
[ -z "${1-}" ] || { mkdir -p "$1" && out=$(cd "$1" && pwd); }
cd "$(dirname "$0")/.."

build() { # NAME CPU
    mkdir -p "$out/$1"
    "${CLANG:-clang-19}" -target bpf -mcpu="$2" -O2 -g -Wall -Wextra -Werror -Iexamples/include \
        -fdebug-compilation-dir=. -fdebug-prefix-map=.= -c "examples/$1/$1.c" -o "$out/$1/$1.o"
}

# Each page says why this level of the instruction set.
build udp_filter v3
build bind_policy v1
build connect_redirect v2
build flow_log v4
build tail_dispatch v3
build process_guard v3
