# shellcheck shell=bash
# Checks of a script that runs on a machine of its own, for tests/packages.sh and tests/systemd.sh: each is counted, told in
# a line, and ends the script if it fails. They want a folder $scratch. A function `at_failure` says what else there is to see.

: "${scratch:?the script makes it}"
checks=0
# check WORDS -- COMMAND...: the command must succeed.
check() {
  local words=()
  while [ "$1" != -- ]; do words+=("$1"); shift; done
  shift
  if ! "$@" >"$scratch/output" 2>&1; then
    echo "failed: ${words[*]}" >&2
    echo "        $*" >&2
    tail -n 30 "$scratch/output" >&2
    at_failure >&2 || true
    exit 1
  fi
  checks=$((checks + 1))
  echo "ok      ${words[*]}"
}
# same WORDS -- WANTED FOUND
same() {
  local words=()
  while [ "$1" != -- ]; do words+=("$1"); shift; done
  shift
  check "${words[@]}" -- test "$1" = "$2"
}
at_failure() { :; }
