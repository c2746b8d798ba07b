#!/bin/bash
# Runs the attacks that worked once, and prints what each did then and does now. What
# they did is in attacks.txt: the package and test, the attack, and what it did before
# there was something against it. Those of ./e2e/stories run in the lab. Needs root.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=$(mktemp)
trap 'rm -f "$out"' EXIT
failed=0
rows=()
while IFS='|' read -r test attack before; do
	read -r package name <<<"$test"
	args=()
	# The agent's figures are held to their limits here: the machine does nothing else.
	[ "$package" != ./internal/agent ] || args=(-args -measure)
	dir=.
	[ "$package" != ./e2e/stories ] || dir=e2e package=./stories
	if env -C "$dir" REQUIRE_ROOT=1 FAIRLEAD_E2E=1 FAIRLEAD_E2E_ALL=1 \
		go test -count=1 -v -timeout=45m -run "^$name\$" "$package" "${args[@]}" >"$out" 2>&1; then
		after=$(sed -nE 's/^.*_test.go:[0-9]+: attack: [^:]*: (.*)$/\1/p' "$out" | paste -sd ';' | sed 's/;/; /g')
		after="held${after:+: $after}"
	else
		failed=1 after="NOT HELD"
		cat "$out"
	fi
	rows+=("| $attack | $before | $after |")
done <internal/tools/attacks.txt
echo "| attack | before | after |"
echo "|---|---|---|"
printf '%s\n' "${rows[@]}"
exit "$failed"
