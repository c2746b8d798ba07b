#!/bin/sh
# Checks every shell script of the checkout with shellcheck.
set -eu
cd "$(dirname "$0")/../.."
internal/tools/packages.sh shellcheck:shellcheck
git ls-files '*.sh' .ci/run | xargs shellcheck
