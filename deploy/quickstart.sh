#!/usr/bin/env bash
# From a fresh clone on Debian 12 to a first verdict.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/packages.sh
. deploy/packages.sh

usage() {
  cat <<'TEXT'
usage: deploy/quickstart.sh [--no-install] [--scenario NAME]

Installs the Debian packages that the build needs (as root or through sudo), builds the three programs in
build/release/bin without the tests, and investigates a bundled set of captures of a cluster in which PD gave
wrong answers. It prints the verdict and the commands that go on from there. Nothing else on this machine is
changed. About 5 minutes on two cores.

  --no-install      install nothing; the packages must be there
  --scenario NAME   another folder of tests/data: healthy, modern_pd_wide, tidb_neighbour, tikv_narrow
TEXT
}

install=yes
scenario=pd_wide
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --no-install) install=no ;;
    --scenario)
      [ $# -gt 1 ] || { usage >&2; exit 2; }
      shift
      scenario=$1
      ;;
    *) echo "quickstart.sh: $1 is not an option" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
if [ ! -d "tests/data/$scenario" ]; then
  echo "quickstart.sh: tests/data/$scenario: no such folder" >&2
  exit 2
fi

[ "$install" = no ] || install_packages "${KEYTRAIL_BUILD_PACKAGES[@]}"

say_seconds "building keytrail-agent, keytrail-collector and keytrail"
cmake --preset release -DKEYTRAIL_TESTS=OFF -DKEYTRAIL_BENCH=OFF --log-level=WARNING >/dev/null
cmake --build --preset release --target keytrail-agent keytrail-collector keytrail

files=(tests/data/"$scenario"/*.pcap.zst)
say_seconds "investigating ${#files[@]} captures, one from each host"
echo "\$ build/release/bin/keytrail investigate ${files[*]}"
echo
status=0
build/release/bin/keytrail investigate "${files[@]}" || status=$?
# 3: done, but something was incomplete, and the output says what.
if [ "$status" -ne 0 ] && [ "$status" -ne 3 ]; then
  echo "keytrail investigate failed with exit status $status" >&2
  exit 1
fi
echo
say_seconds "done"
cat <<TEXT
Next:
  build/release/bin/keytrail investigate --json ${files[0]%/*}/*.pcap.zst     the same for programs
  build/release/bin/keytrail-agent -r ${files[0]}     a line a message
  build/release/bin/keytrail-agent -i eth0     the same, live (needs root or CAP_NET_RAW)
  deploy/quickstart.sh --no-install --scenario tidb_neighbour     another culprit
TEXT
