#!/bin/sh
# Compiles the eBPF programs and writes the Go code that loads them. Run from
# anywhere; a second run changes nothing. Another compiler writes other objects,
# so it has to be this one.
set -eu
cd "$(dirname "$0")/../.."
want=14
internal/tools/packages.sh clang-$want:clang-$want llvm-strip-$want:llvm-$want /usr/include/bpf/bpf_helpers.h:libbpf-dev
root=$PWD
cd proxy/ebpf
GOWORK=off GOPACKAGE=ebpf go tool -modfile="$root/internal/tools/go.mod" bpf2go \
	-cc clang-$want -strip llvm-strip-$want -target bpfel -go-package ebpf -output-stem connect \
	-type address -type frontend -type service -type slot -type member -type socket -type peer -type seat -type settings connect bpf/connect.c -- \
	-O2 -Wall -Werror -mcpu=v3 -I"/usr/include/$(uname -m)-linux-gnu"
