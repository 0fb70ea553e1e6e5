# shellcheck shell=bash
# The Debian 12 packages that keytrail needs, in one place, and how they get installed. Sourced by
# deploy/quickstart.sh, tests/run.sh and tests/fuzz/run.sh; does nothing by itself.

# To build the programs.
# shellcheck disable=SC2034  # read by the scripts that source this file
KEYTRAIL_BUILD_PACKAGES=(
  g++ cmake ninja-build pkg-config
  libpcap-dev libnghttp2-dev libprotobuf-dev libprotoc-dev protobuf-compiler
  libzmq3-dev cppzmq-dev libsodium-dev libsqlite3-dev libcli11-dev libzstd-dev zlib1g-dev nlohmann-json3-dev
  prometheus-cpp-dev libcivetweb-dev libcap-ng-dev libseccomp-dev libgrpc++-dev protobuf-compiler-grpc libedit-dev
  libyaml-cpp-dev
  python3
)

# To build and run the tests besides: zstd unpacks captures, tshark and prometheus-client are oracles,
# iproute2 makes networks, openssl certificates, libcap2-bin takes capabilities away, openssh is a host that keytrail
# fleet logs in to, tmux is a terminal, strace counts its writes.
# shellcheck disable=SC2034
KEYTRAIL_TEST_PACKAGES=(
  libgtest-dev libgmock-dev libbenchmark-dev
  zstd tshark openssl iproute2 libcap2-bin tmux strace procps python3-prometheus-client openssh-client openssh-server
)

# To fuzz besides (tests/fuzz/run.sh): the compiler with libFuzzer, and the sanitizers' runtime.
# shellcheck disable=SC2034
KEYTRAIL_FUZZ_PACKAGES=(
  clang-14 libclang-rt-14-dev
)

# install_packages NAME...: installs those that are missing, as root or through sudo. Says what it does.
install_packages() {
  local missing=() name
  for name in "$@"; do
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" != installed ]; then
      missing+=("$name")
    fi
  done
  if [ "${#missing[@]}" -eq 0 ]; then
    echo "== all ${#} Debian packages are installed"
    return 0
  fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "These packages are missing and there is neither root nor sudo: ${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "== installing ${#missing[@]} Debian packages: ${missing[*]}"
  local log
  log=$(mktemp)
  if "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update >"$log" 2>&1 &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
    rm -f "$log"
    return 0
  fi
  echo "apt-get failed; its last words:" >&2
  tail -n 20 "$log" >&2
  rm -f "$log"
  return 1
}

# say_seconds WORDS...: prints the words with the seconds since the script began.
say_seconds() {
  echo "== $* (${SECONDS} s since the start)"
}
