#!/bin/bash
# Prints each line of the tree that has a word of words.txt, and what to write instead.
# It exits with 1 if there is one.
set -euo pipefail
cd "$(dirname "$0")/../.."

found=0
while IFS=$'\t' read -r words instead; do
	[[ $words == '#'* ]] && continue
	# Generated files have their words from the files that are looked at.
	if git grep -nIiP "$words" -- ':!*.sum' ':!internal/tools/words.txt' ':!CONTRIBUTING.md' ':!charts/testdata' ':!internal/ui/static'; then
		echo "  write $instead" >&2
		found=1
	fi
done <internal/tools/words.txt
exit $found
