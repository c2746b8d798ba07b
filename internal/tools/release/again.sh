#!/bin/sh
# Makes a release in the checkout and once more in a clone elsewhere with an empty
# build cache, and compares the checksums.
set -eu
cd "$(dirname "$0")/../../.."
version=$1
other=$(mktemp -d)
trap 'rm -rf "$other"' EXIT
release() { (cd "$1/internal/tools/release" && GOWORK=off go run . -root "$1" -out "$1/dist" -version "$version"); }
release "$PWD"
git clone -q "$PWD" "$other/clone"
GOCACHE=$other/cache
export GOCACHE
release "$other/clone"
sums=dist/fairlead_${version#v}_checksums.txt
diff "$sums" "$other/clone/$sums"
echo "test-release: ok, $(wc -l <"$sums") files are the same"
