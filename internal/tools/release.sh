#!/bin/sh
# Makes every file of a release in dist/: release.sh VERSION, such as v0.1.0. OS=linux in
# the environment makes the programs of one system alone, to try it. The same commit,
# version and Go toolchain give the same bytes.
set -eu
cd "$(dirname "$0")/../.."
version=$1
number=${version#v}
echo "$version" | grep -qE '^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$' || {
	echo "release: $version is not a version such as v0.1.0 or v0.1.0-rc.1" >&2
	exit 2
}
[ -z "$(git status --porcelain --untracked-files=no)" ] ||
	echo "release: files differ from the commit: this can be tried, and not published" >&2
work=bin/release # .goreleaser.yaml knows it
rm -rf dist "$work"
mkdir -p dist "$work"
ours() { GOWORK=off go run -C internal/tools/release . -root "$PWD" "$@"; }

notes=$(awk -v version="$version" '/^## / { inside = $2 == version; next } inside' CHANGELOG.md | sed '/./,$!d')
[ -n "$notes" ] || {
	echo "release: CHANGELOG.md has no text below the heading ## $version" >&2
	exit 1
}
printf '%s\n' "$notes" >dist/RELEASE-NOTES.md
ours -notices "$PWD/dist/THIRD-PARTY-NOTICES.txt"
cp dist/THIRD-PARTY-NOTICES.txt "$work"

# goreleaser asks for a remote although nothing is published.
goreleaser=$(internal/tools/program.sh goreleaser internal/tools/goreleaser github.com/goreleaser/goreleaser/v2)
sed "s/^    goos: .*/    goos: [${OS:-linux, darwin, windows}]/" .goreleaser.yaml >"$work/goreleaser.yaml"
GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=remote.origin.url GIT_CONFIG_VALUE_0=https://github.com/fairlead/fairlead \
	GORELEASER_CURRENT_TAG=$version "$goreleaser" release --config "$work/goreleaser.yaml" --clean --skip=validate,publish,announce
find "$work/dist" -maxdepth 1 -name 'fairlead_*_*.*' -type f -exec cp {} dist \;
cp "$work/dist/krew/fairlead.yaml" dist/fairlead.krew.yaml
ours -version "$version" -artifacts "$PWD/$work/dist/artifacts.json" -out "$PWD/dist"

cp -R charts/fairlead "$work/fairlead"
find "$work/fairlead" -exec touch -d "@$(git log -1 --format=%ct)" {} + # helm keeps the times
GOWORK=off go tool -modfile=internal/tools/go.mod helm package "$work/fairlead" --version "$number" --app-version "$number" --destination dist
internal/tools/manifests.sh "dist/fairlead-$number.tgz" >"dist/fairlead_${number}_manifests.yaml"

(cd dist && LC_ALL=C && sha256sum -- *) >"$work/checksums"
mv "$work/checksums" "dist/fairlead_${number}_checksums.txt"
ls -l dist
