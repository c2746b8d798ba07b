#!/bin/sh
# Prints the regular expression of "go test -run" for some end-to-end stories. The
# argument is a group, which is a file of e2e/stories without _test.go, or a regular
# expression for their names, or nothing for all. "list" lists groups and stories.
set -eu
tools=$(cd "$(dirname "$0")" && pwd)
cd "$tools/../../e2e/stories"
names() { sed -nE 's/^func (Test[A-Za-z0-9_]+)\(t .*/\1/p' "$@"; }
list() {
	printf '  %-12s %s\n' attacks 'Attacks that worked once, as a table of before and after'
	printf '  %-12s %s\n' partial 'Everything that breaks in part, in network namespaces, then the group trouble'
	printf '  %-12s %s\n' any-cni 'Those that the network of pods may break: paths, policies, failover, director; with CNI='
	grep -l '^func Test.*(t ' ./*_test.go | while read -r file; do
		group=${file#./}
		printf '  %-12s %s\n' "${group%_test.go}" "$(names "$file" | paste -sd ' ')"
	done
}
case ${1-} in
'') echo . ;;
list) list ;;
control-plane) exec "$tools/stories.sh" controlplane ;;
any-cni) echo '^(TestEveryPath|TestIPv6Only|TestUDPService|TestServicesThatPeopleWrite|TestHostPort|TestPodsKeep|TestNetworkPolicy|TestNodeWithoutPower|TestDirected)' ;;
director) echo "^($(names director_test.go nexthops_test.go | paste -sd '|'))\$" ;;
partial) exec "$tools/stories.sh" trouble ;; # a file that go test takes last: its nodes need a while after it
*)
	if [ -e "$1_test.go" ] && [ -n "$(names "$1_test.go")" ]; then
		echo "^($(names "$1_test.go" | paste -sd '|'))\$"
	elif names ./*_test.go | grep -qE -e "$1"; then
		echo "$1"
	else
		{
			echo "There is no WHAT=$1. It is one of these groups, or a regular expression for the names of stories:"
			list
		} >&2
		exit 2
	fi
	;;
esac
