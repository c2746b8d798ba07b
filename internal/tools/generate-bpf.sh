#!/bin/sh
# Compiles the eBPF programs and writes the Go code that loads them. Run from
# anywhere; a second run changes nothing. Another compiler writes other objects,
# so it has to be this one.
set -eu
cd "$(dirname "$0")/../.."
want=14
internal/tools/packages.sh clang-$want:clang-$want llvm-strip-$want:llvm-$want /usr/include/bpf/bpf_helpers.h:libbpf-dev
root=$PWD

# compile DIRECTORY NAME TYPE...: of the program bpf/NAME.c in a package, with the
# types that the Go code is to know.
compile() (
	cd "$1"
	name=$2
	shift 2
	for type; do
		set -- "$@" -type "$type"
		shift
	done
	GOWORK=off GOPACKAGE=$(basename "$PWD") go tool -modfile="$root/internal/tools/go.mod" bpf2go \
		-cc clang-$want -strip llvm-strip-$want -target bpfel -go-package "$(basename "$PWD")" -output-stem "$name" \
		"$@" "$name" "bpf/$name.c" -- \
		-O2 -Wall -Werror -mcpu=v3 -I"/usr/include/$(uname -m)-linux-gnu"
)

compile proxy/ebpf connect address frontend service slot member socket peer seat settings
compile proxy/director/program director key frontend port_range port_ranges ring node mac address path settings counts count
