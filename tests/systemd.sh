#!/usr/bin/env bash
# Boots a bare Debian 12 with a systemd of its own and has it install, start, restart, upgrade and purge the packages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: tests/systemd.sh [--build DIR] [--mirror URL] [--root DIR]

As root, with debootstrap and systemd-nspawn (package systemd-container): builds the packages of DIR (build/release,
configured already), boots a bare Debian 12 in a temporary folder as a container without a network, and installs,
starts, kills, upgrades, stops and purges the packages under its systemd. Needs a Debian mirror. Nothing else on this
machine is changed. The last line is `N checks passed`; the exit status is not 0 if one failed.

  --build DIR    another build folder
  --mirror URL   of Debian (http://deb.debian.org/debian)
  --root DIR     a copy of this bare Debian 12 (debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus bookworm)
                 instead of one that is made anew
TEXT
}

build=build/release
mirror=http://deb.debian.org/debian
bare=
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --build | --mirror | --root)
      [ $# -gt 1 ] || { usage >&2; exit 2; }
      case "$1" in --build) build=$2 ;; --mirror) mirror=$2 ;; --root) bare=$2 ;; esac
      shift
      ;;
    *) echo "systemd.sh: $1 is not an option" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
[ "$(id -u)" -eq 0 ] || { echo "systemd.sh: this needs root, for debootstrap and systemd-nspawn" >&2; exit 2; }
for tool in debootstrap systemd-nspawn nsenter; do
  command -v "$tool" >/dev/null || { echo "systemd.sh: $tool is not installed" >&2; exit 2; }
done
[ -f "$build/CPackConfig.cmake" ] || { echo "systemd.sh: $build: configure it first (cmake --preset release)" >&2; exit 2; }

scratch=$(mktemp -d)
root=$scratch/root
container=
leader=
finish() {
  [ -z "$container" ] || { kill "$container" 2>/dev/null && wait "$container" 2>/dev/null; } || true
  rm -rf --one-file-system "$scratch"
}
trap finish EXIT

# shellcheck source=tests/support/checks.sh
. tests/support/checks.sh
at_failure() { [ -z "$leader" ] || inside journalctl --no-pager -n 40 -u keytrail-agent -u keytrail-collector; }
# soon WORDS -- COMMAND...: the command must succeed within a minute.
soon() {
  local words=()
  while [ "$1" != -- ]; do words+=("$1"); shift; done
  shift
  for _ in $(seq 300); do
    "$@" >/dev/null 2>&1 && break
    sleep 0.2
  done
  check "${words[@]}" -- "$@"
}
inside() {
  nsenter --target "$leader" --mount --uts --ipc --net --pid --root --wd -- \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}
property() { inside systemctl show -P "$2" "$1"; }
status_of() { inside sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" | cut -f1; }
active() { inside systemctl is-active "$1" 2>/dev/null || true; }

echo "== building"
cmake --build "$build" -j "${KEYTRAIL_JOBS:-$(nproc)}" --target packages live_node >"$scratch/build.log" 2>&1 || { tail -n 20 "$scratch/build.log" >&2; exit 1; }
version=$(sed -n 's/^set(CPACK_PACKAGE_VERSION "\(.*\)")$/\1/p' "$build/CPackConfig.cmake")
next=$version+next
cpack --config "$build/CPackConfig.cmake" -G DEB -R "$next" -B "$scratch/next" >"$scratch/build.log" 2>&1 || { tail -n 20 "$scratch/build.log" >&2; exit 1; }
names=(keytrail keytrail-agent keytrail-collector)
architecture=$(dpkg --print-architecture)

echo "== a bare Debian 12 that boots"
if [ -n "$bare" ]; then
  cp -a "$bare" "$root"
else
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus bookworm "$root" "$mirror" >"$scratch/log" 2>&1 || { tail -n 20 "$scratch/log" >&2; exit 1; }
fi
cp "$build/packages"/*"_${version}_$architecture.deb" "$scratch"/next/*"_${next}_$architecture.deb" "$root"
# What the packages need comes before it boots: it has no network then.
needed=()
for name in "${names[@]}"; do needed+=("$(dpkg-deb -f "$root/${name}_${version}_$architecture.deb" Depends)"); done
before_boot() { chroot "$root" env LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@" >"$scratch/log" 2>&1 || { tail -n 20 "$scratch/log" >&2; exit 1; }; }
before_boot apt-get update
before_boot apt-get satisfy -y --no-install-recommends "${needed[@]}"
# The role runs inside as well, on itself.
before_boot apt-get install -y --no-install-recommends ansible-core python3-apt
cp -r deploy/ansible "$root/srv/ansible"
mkdir "$root/srv/ansible/packages"
cp "$build/packages"/*"_${version}_$architecture.deb" "$root/srv/ansible/packages"
printf '[keytrail_collector]\nlocalhost\n[keytrail_agents]\nlocalhost\n' >"$root/srv/hosts"
systemd-nspawn --quiet --directory "$root" --boot --register=no --keep-unit --private-network --console=pipe --machine=keytrail-test \
  --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" </dev/null >"$scratch/console" 2>&1 &
container=$!
for _ in $(seq 150); do
  leader=$(pgrep --parent "$container" | head -n 1) || leader=
  # Units may fail that want hardware; ours are not there yet.
  [ -n "$leader" ] && case "$(inside systemctl is-system-running 2>/dev/null)" in running | degraded) break ;; esac
  sleep 0.2
done
check "systemd runs as the container's first process" -- sh -c "test '$(inside cat /proc/1/comm)' = systemd"

echo "== the Ansible role"
role() { # WANTED CHANGES
  inside env HOME=/tmp ansible-playbook --connection local --inventory /srv/hosts --extra-vars "keytrail_version=$version \
    keytrail_architecture=$architecture keytrail_agent_enabled=true" /srv/ansible/site.yml | tee "$scratch/role" &&
    grep -Eq "^localhost .*changed=$1 .*failed=0 " "$scratch/role"
}
check "it is applied" -- role '[1-9][0-9]*'
soon "the agent runs" -- inside systemctl is-active keytrail-agent
soon "the collector has it" -- sh -c "nsenter --target $leader --mount --net --pid --root --wd keytrail agents --json | grep -q '\"input\": *\"any\"'"
check "applied once more, it changes nothing" -- role 0
check "away again" -- inside apt-get purge -y "${names[@]}"

echo "== installing"
install() { # VERSION
  local paths=("${names[@]/%/_$1_$architecture.deb}")
  inside apt-get install -y --no-install-recommends --allow-downgrades "${paths[@]/#//}"
}
check "apt installs them" -- install "$version"
soon "the collector runs" -- inside systemctl is-active keytrail-collector
soon "it answers" -- inside keytrail agents
collector=$(property keytrail-collector MainPID)
same "as keytrail" -- "$(inside id -u keytrail)" "$(status_of "$collector" Uid)"
same "without a capability" -- 0000000000000000 "$(status_of "$collector" CapEff)"
same "nor may it get one" -- 0000000000000000 "$(status_of "$collector" CapBnd)"
same "the agent does not run" -- inactive "$(active keytrail-agent)"

echo "== the agent"
inside sed -i 's/^KEYTRAIL_AGENT_OPTIONS=.*/KEYTRAIL_AGENT_OPTIONS="--metrics 127.0.0.1:7453"/' /etc/default/keytrail-agent
check "systemctl enable --now" -- inside systemctl enable --now keytrail-agent
figure() { # NAME
  inside bash -c 'exec 3<>/dev/tcp/127.0.0.1/7453; printf "GET /metrics HTTP/1.0\r\n\r\n" >&3; cat <&3' |
    tr -d '\r' | sed -n "s/^keytrail_agent_$1 //p" | cut -d. -f1
}
soon "it serves its metrics" -- figure packets_total
agent=$(property keytrail-agent MainPID)
same "it runs as keytrail" -- "$(inside id -u keytrail)" "$(status_of "$agent" Uid)"
same "the device is open, and it has no capability any more" -- 0000000000000000 "$(status_of "$agent" CapEff)"
same "with a filter of system calls" -- 2 "$(status_of "$agent" Seccomp)"
# Nobody listens there: a SYN and a RST.
inside bash -c 'for _ in 1 2 3; do (exec 3<>/dev/tcp/127.0.0.1/20160) 2>/dev/null || true; done'
captured() { [ "$(figure packets_total)" -ge 6 ]; }
soon "it captures packets of the port" -- captured
enrolled() { inside keytrail agents --json | grep -q '"input": *"any"'; }
soon "the collector has it" -- enrolled

echo "== the processes of other users, with the drop-in of docs/security.md"
# Root's ends of calls, as TiKV's would be of the user tidb.
cp "$build/tests/live_node" "$root/usr/bin"
calls_of_root() {
  inside bash -c 'live_node serve 127.0.0.1:20160 < <(sleep 30) >/dev/null & server=$!; sleep 0.5
    live_node load 127.0.0.1:20160 2 4; kill $server; wait $server 2>/dev/null; true'
}
processes() { inside keytrail sql --format csv -e "SELECT DISTINCT server_process FROM calls WHERE server_process IS NOT NULL"; }
some_calls() { [ "$(inside keytrail sql --format csv -e "SELECT count(*) > 0 FROM calls WHERE method LIKE '%/KvGet'" | tail -n 1)" = 1 ]; }
calls_of_root >"$scratch/output"
soon "calls of root's processes arrive" -- some_calls
same "the unit as it is finds none of them" -- "" "$(processes | tail -n +2)"
others_found() { inside journalctl --no-pager -u keytrail-agent | grep "which was not captured"; }
same "what keytrail itself asks is not taken for a cluster's" -- "" "$(others_found)"
inside mkdir -p /etc/systemd/system/keytrail-agent.service.d
sed -n '/^# systemctl edit keytrail-agent$/,/^```$/{/^#/d;/^```$/d;p}' docs/security.md >"$root/etc/systemd/system/keytrail-agent.service.d/override.conf"
check "the drop-in is there" -- grep -q CAP_SYS_PTRACE "$root/etc/systemd/system/keytrail-agent.service.d/override.conf"
check "the agent starts with it" -- inside sh -c "systemctl daemon-reload && systemctl restart keytrail-agent"
soon "and captures" -- figure packets_total
named() { processes | grep -qx live_node; }
calls_of_root >"$scratch/output"
soon "now they have names" -- named
same "the agent itself has no capability" -- 0000000000000000 "$(status_of "$(property keytrail-agent MainPID)" CapEff)"
check "without the drop-in again" -- inside sh -c "rm -r /etc/systemd/system/keytrail-agent.service.d && systemctl daemon-reload && systemctl restart keytrail-agent"
soon "it captures" -- figure packets_total

echo "== killing"
agent=$(property keytrail-agent MainPID)
inside bash -c "kill -KILL $agent"
back() { local now; now=$(property keytrail-agent MainPID); [ "$now" != 0 ] && [ "$now" != "$1" ] && figure packets_total >/dev/null; }
soon "a killed agent is back" -- back "$agent"
inside bash -c "kill -KILL $collector"
collector_back() { local now; now=$(property keytrail-collector MainPID); [ "$now" != 0 ] && [ "$now" != "$collector" ] && inside keytrail agents; }
soon "a killed collector is back" -- collector_back
starts() { [ "$(inside keytrail agents --json | grep -o '"input": *"any"' | wc -l)" -ge 2 ]; }
soon "with what it had stored, and both starts of the agent" -- starts

echo "== upgrading to $next"
agent=$(property keytrail-agent MainPID)
collector=$(property keytrail-collector MainPID)
check "apt upgrades them" -- install "$next"
soon "the agent was restarted" -- back "$agent"
soon "the collector was restarted" -- collector_back
same "the agent stays enabled" -- enabled "$(inside systemctl is-enabled keytrail-agent)"
check "neither has failed" -- sh -c "test -z '$(inside systemctl list-units --failed --plain --no-legend 'keytrail*')'"

echo "== stopping"
check "systemctl stop keytrail-agent" -- inside systemctl stop keytrail-agent
same "it ended well" -- success "$(property keytrail-agent Result)"
check "systemctl stop keytrail-collector" -- inside systemctl stop keytrail-collector
same "it ended well" -- success "$(property keytrail-collector Result)"
check "both start again" -- inside systemctl start keytrail-collector keytrail-agent

echo "== purging"
check "apt purges them while they run" -- inside apt-get purge -y "${names[@]}"
gone() { ! inside bash -c "cat /proc/[0-9]*/comm" | grep -q "^keytrail"; }
soon "no process is left" -- gone
same "systemd has no unit of theirs" -- "" "$(inside systemctl list-units --all --plain --no-legend 'keytrail*')"
same "no folder is left" -- "" "$(inside find /var/lib/keytrail /usr/bin -name 'keytrail*' 2>/dev/null)"
echo "$checks checks passed"
