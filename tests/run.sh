#!/usr/bin/env bash
# Builds keytrail and runs every test, from a fresh clone on Debian 12.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/packages.sh
. deploy/packages.sh

usage() {
  cat <<'TEXT'
usage: tests/run.sh [--no-install] [--quick]

Installs the Debian packages that are missing (as root or through sudo), builds preset `release` in
build/release and runs all tests with ctest; then builds preset `asan` in build/asan and runs them again under
AddressSanitizer and UndefinedBehaviorSanitizer. The last line is `N passed, N failed`; the exit status is not
0 if anything failed. Tests that want the large captures look in $KEYTRAIL_SHARED_DATA (../shared/data if it
is not set) and say so when they run without.

  --no-install   install nothing; the packages must be there
  --quick        preset `release` only
TEXT
}

install=yes
presets=(release asan)
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --no-install) install=no ;;
    --quick) presets=(release) ;;
    *) echo "run.sh: $1 is not an option" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

[ "$install" = no ] || install_packages "${KEYTRAIL_BUILD_PACKAGES[@]}" "${KEYTRAIL_TEST_PACKAGES[@]}"

passed=0
failed=0

# count_results FILE: adds the results of a ctest run (JUnit form) to `passed` and `failed`.
count_results() {
  local counts
  counts=$(python3 - "$1" <<'PYTHON'
import sys
import xml.etree.ElementTree as tree

suite = tree.parse(sys.argv[1]).getroot()
total, failures = int(suite.get("tests", 0)), int(suite.get("failures", 0))
idle = int(suite.get("skipped", 0)) + int(suite.get("disabled", 0))
print(total - failures - idle, failures)
for case in suite.iter("testcase"):
    if case.get("status") == "fail":
        print("failed: " + case.get("name"), file=sys.stderr)
PYTHON
  ) || return 1
  passed=$((passed + ${counts% *}))
  failed=$((failed + ${counts#* }))
}

# run_preset NAME: configures, builds and tests; a build that fails counts as one failure.
run_preset() {
  local preset=$1 results=build/$1/tests.xml
  say_seconds "preset $preset: building"
  if ! cmake --preset "$preset" -DKEYTRAIL_TESTS=ON --log-level=WARNING >/dev/null ||
    ! cmake --build --preset "$preset"; then
    echo "preset $preset: the build failed" >&2
    failed=$((failed + 1))
    return 0
  fi
  say_seconds "preset $preset: testing"
  rm -f "$results"
  # The counts say what failed; ctest's own status would only repeat it.
  ctest --preset "$preset" --parallel "$(nproc)" --no-tests=error --output-junit "$PWD/$results" || true
  if ! count_results "$results"; then
    echo "preset $preset: ctest left no results" >&2
    failed=$((failed + 1))
  fi
}

export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}"
for preset in "${presets[@]}"; do
  run_preset "$preset"
done

say_seconds "done"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
