#!/bin/sh
# Asks the EXTERNAL-IP until it answers, ten minutes at most, then a hundred times, and
# says who answered. Exits with 1 unless every request was answered.
set -eu
env=${LAB_ENV:-/etc/fairlead-lab.env}
# shellcheck source=/dev/null
[ ! -r "$env" ] || . "$env"
: "${URL:?what to ask, such as http://192.168.56.200/hostname}"
patience=${PATIENCE:-600}

for route in ${ROUTES:-}; do # as CIDR=ADDRESS
	ip route replace "${route%%=*}" via "${route#*=}"
done
began=$(date +%s)
until curl -fsS -o /dev/null --max-time 2 "$URL" 2>/dev/null; do
	if [ $(($(date +%s) - began)) -ge "$patience" ]; then
		echo "client.sh: $URL did not answer within $patience s" >&2
		exit 1
	fi
	sleep 1
done
answers=$(mktemp)
trap 'rm -f "$answers"' EXIT
failed=0
for _ in $(seq 100); do
	curl -fsS --max-time 2 "$URL" >>"$answers" || failed=$((failed + 1))
	echo >>"$answers"
done
grep -v '^$' "$answers" | sort | uniq -c
echo "$URL: 100 requests, $failed failed"
[ "$failed" = 0 ]
