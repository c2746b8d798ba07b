#!/bin/sh
# Makes a release in the checkout and once more in a clone elsewhere with an empty
# build cache, and compares the checksums: release-again.sh VERSION.
set -eu
cd "$(dirname "$0")/../.."
version=$1
other=$(mktemp -d)
trap 'rm -rf "$other"' EXIT
internal/tools/release.sh "$version"
git clone -q "$PWD" "$other/clone"
GOCACHE=$other/cache "$other/clone/internal/tools/release.sh" "$version"
sums=dist/fairlead_${version#v}_checksums.txt
diff "$sums" "$other/clone/$sums"
echo "release: ok, $(wc -l <"$sums") files are the same"
