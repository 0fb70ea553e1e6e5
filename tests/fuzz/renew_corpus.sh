#!/usr/bin/env bash
# Picks the corpora in the repository anew. See tests/fuzz/README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  cat <<'TEXT'
usage: tests/fuzz/renew_corpus.sh [TARGET...]

Makes the inputs to begin with from tests/data (bin/fuzz_seeds), adds tests/fuzz/corpus and what runs of
tests/fuzz/run.sh have found (build/fuzz/run), and writes to tests/fuzz/corpus/TARGET the fewest of them that
reach the same code. Preset `fuzz` must be built.
TEXT
}

case "${1:-}" in
  -h | --help) usage; exit 0 ;;
esac
targets=("$@")
if [ "${#targets[@]}" -eq 0 ]; then
  for program in build/fuzz/bin/fuzz_*; do
    name=$(basename "$program")
    [ "$name" = fuzz_seeds ] || targets+=("${name#fuzz_}")
  done
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
build/fuzz/bin/fuzz_seeds "$scratch/seeds" tests/data/*/*.pcap.zst
for name in "${targets[@]}"; do
  mkdir -p "$scratch/new/$name" "tests/fuzz/corpus/$name"
  inputs=("tests/fuzz/corpus/$name")
  for folder in "$scratch/seeds/$name" "build/fuzz/run/$name/corpus"; do
    [ ! -d "$folder" ] || inputs+=("$folder")
  done
  # Edges alone: how often each was taken would keep ten times as many files.
  if ! "build/fuzz/bin/fuzz_$name" -set_cover_merge=1 -use_counters=0 -max_len=1400 -timeout=5 -rss_limit_mb=1024 \
    "$scratch/new/$name" "${inputs[@]}" >"$scratch/log" 2>&1; then
    tail -n 20 "$scratch/log" >&2
    exit 1
  fi
  rm -rf "tests/fuzz/corpus/$name"
  mv "$scratch/new/$name" "tests/fuzz/corpus/$name"
  # One name the same everywhere, so that a renewal shows what has really changed.
  (cd "tests/fuzz/corpus/$name" && for file in *; do mv -n "$file" "$(sha1sum "$file" | cut -c1-12)"; done)
  echo "$name: $(find "tests/fuzz/corpus/$name" -type f | wc -l) inputs," \
    "$(cat "tests/fuzz/corpus/$name"/* | wc -c) bytes"
done
