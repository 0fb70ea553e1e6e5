#!/usr/bin/env bash
# Fuzzes every target from its corpus on. See tests/fuzz/README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=deploy/packages.sh
. deploy/packages.sh

usage() {
  cat <<'TEXT'
usage: tests/fuzz/run.sh [--seconds N] [--jobs N] [--no-install] [TARGET...]

Builds preset `fuzz` in build/fuzz and runs each TARGET (all without one) for N seconds (60), N targets at the
same time (1). Each begins with tests/fuzz/corpus/TARGET, its regressions, and what earlier runs found; inputs
with new coverage go to build/fuzz/run/TARGET/corpus, findings to build/fuzz/run/TARGET/findings, never to the
repository. The last lines are a table; the exit status is 1 if anything was found or a target did not run.

  --no-install   install nothing; the packages must be there
TEXT
}

seconds=60
jobs=1
install=yes
targets=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --seconds) seconds=${2:?--seconds needs a number}; shift ;;
    --jobs) jobs=${2:?--jobs needs a number}; shift ;;
    --no-install) install=no ;;
    -*) echo "run.sh: $1 is not an option" >&2; usage >&2; exit 2 ;;
    *) targets+=("$1") ;;
  esac
  shift
done
case "$seconds$jobs" in
  *[!0-9]*) echo "run.sh: --seconds and --jobs need whole numbers" >&2; exit 2 ;;
esac
[ "$jobs" -gt 0 ] || jobs=1

[ "$install" = no ] || install_packages "${KEYTRAIL_BUILD_PACKAGES[@]}" "${KEYTRAIL_TEST_PACKAGES[@]}" \
  "${KEYTRAIL_FUZZ_PACKAGES[@]}"
say_seconds "preset fuzz: building"
cmake --preset fuzz --log-level=WARNING >/dev/null
cmake --build --preset fuzz

if [ "${#targets[@]}" -eq 0 ]; then
  for folder in tests/fuzz/corpus/*/; do targets+=("$(basename "$folder")"); done
fi

export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}"

# run_target NAME: one libFuzzer process; leaves its exit status in run/NAME/status.
run_target() {
  local name=$1 run=build/fuzz/run/$1 dict=tests/fuzz/$1.dict
  mkdir -p "$run/corpus" "$run/findings"
  echo 1 >"$run/status"
  [ ! -d "tests/fuzz/corpus/$name" ] || cp -r "tests/fuzz/corpus/$name/." "$run/corpus"
  local options=(-max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=4096 -print_final_stats=1
    -artifact_prefix="$run/findings/")
  [ ! -f "$dict" ] || options+=(-dict="$dict")
  local inputs=("$run/corpus")
  [ ! -d "tests/fuzz/regressions/$name" ] || inputs+=("tests/fuzz/regressions/$name")
  local status=0
  "build/fuzz/bin/fuzz_$name" "${options[@]}" "${inputs[@]}" >"$run/log" 2>&1 || status=$?
  echo "$status" >"$run/status"
}

say_seconds "${#targets[@]} targets, $seconds s each, $jobs at a time"
for name in "${targets[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
  run_target "$name" &
done
wait

# value NAME FILE: a figure that libFuzzer prints at the end; empty if it did not come so far.
value() {
  sed -n "s/^stat::$1: *//p" "$2" | tail -n 1
}

found=0
printf '%-12s %12s %8s %9s  %s\n' target executions seconds coverage findings
for name in "${targets[@]}"; do
  run=build/fuzz/run/$name
  log=$run/log
  executions=$(value number_of_executed_units "$log")
  # The last figures stand before a finding too; a run that was ended by one has no total time.
  coverage=$(grep -ao ' cov: [0-9]*' "$log" | tail -n 1 | tr -dc 0-9 || true)
  ran=$(grep -ao 'Done [0-9]* runs in [0-9]*' "$log" | tail -n 1 | sed 's/.* //' || true)
  findings=none
  if [ "$(cat "$run/status")" -ne 0 ]; then
    found=$((found + 1))
    findings=$(grep -ao "$run/findings/[A-Za-z0-9_-]*" "$log" | tail -n 1 || true)
    findings="${findings:-no input left, see} ($log)"
  fi
  printf '%-12s %12s %8s %9s  %s\n' "$name" "${executions:-?}" "${ran:-?}" "${coverage:-?}" "$findings"
done
say_seconds "done, $found targets with a finding"
[ "$found" -eq 0 ]
