#!/bin/sh
# Installs the Debian packages that are missing. Each argument is PROGRAM:PACKAGE: the
# package is missing when its program, or file, is. Without arguments these are the
# packages that build and tests need.
set -eu
[ $# != 0 ] || set -- gcc:gcc nft:nftables ip:iproute2 ping:iputils-ping conntrack:conntrack sysctl:procps iptables-nft:iptables \
	git:git curl:curl /usr/lib/frr/bgpd:frr bird:bird2 radvd:radvd dnsmasq:dnsmasq-base promtool:prometheus chromium:chromium
missing=
for pair in "$@"; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || [ -e "${pair%%:*}" ] || missing="$missing ${pair#*:}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "missing programs; as root on Debian or Ubuntu: apt-get install$missing" >&2
	exit 1
fi
echo "installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# What is installed here is for tests to start, not for the machine.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
# shellcheck disable=SC2086 # a list of names
apt-get -qq install --yes --no-install-recommends $missing >/dev/null
