#!/usr/bin/env bash
# Installs the packages in a bare Debian 12, runs what is in them, upgrades and purges them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: tests/packages.sh [--build DIR] [--mirror URL]

As root, with debootstrap, unshare and ip: builds the packages of DIR (build/release, configured already), makes a
bare Debian 12 in a temporary folder, and there runs the agent of the archive, installs the packages, checks them,
runs the daemons as the services would be run, upgrades, and purges. Needs a Debian mirror. Nothing else on this
machine is changed. The last line is `N checks passed`; the exit status is not 0 if one failed.

  --build DIR    another build folder
  --mirror URL   of Debian (http://deb.debian.org/debian)
TEXT
}

build=build/release
mirror=http://deb.debian.org/debian
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --build | --mirror)
      [ $# -gt 1 ] || { usage >&2; exit 2; }
      [ "$1" = --build ] && build=$2 || mirror=$2
      shift
      ;;
    *) echo "packages.sh: $1 is not an option" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
[ "$(id -u)" -eq 0 ] || { echo "packages.sh: this needs root, for debootstrap and chroot" >&2; exit 2; }
for tool in debootstrap unshare ip systemd-analyze; do
  command -v "$tool" >/dev/null || { echo "packages.sh: $tool is not installed" >&2; exit 2; }
done
[ -f "$build/CPackConfig.cmake" ] || { echo "packages.sh: $build: configure it first (cmake --preset release)" >&2; exit 2; }

# Mounts are this script's own and end with it.
if [ -z "${KEYTRAIL_PACKAGES_UNSHARED:-}" ]; then
  KEYTRAIL_PACKAGES_UNSHARED=1 exec unshare --mount --propagation private -- \
    tests/packages.sh --build "$build" --mirror "$mirror"
fi

scratch=$(mktemp -d)
root=$scratch/root
finish() {
  umount "$root/proc" 2>/dev/null || true
  # Whatever is still mounted is another's folder.
  rm -rf --one-file-system "$scratch"
}
trap finish EXIT

# shellcheck source=tests/support/checks.sh
. tests/support/checks.sh
inside() { chroot "$root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }
# alone COMMAND...: inside, with a loopback of its own, so that no port of this machine is taken.
alone() {
  # shellcheck disable=SC2016  # the inner shell's arguments
  unshare --net -- sh -c 'ip link set lo up && root=$1 && shift && exec chroot "$root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@"' \
    sh "$root" "$@"
}
mode() { inside stat -c '%U:%G %a' "$1"; }
enabled() { inside systemctl is-enabled "$1" 2>/dev/null || true; }
installed() { inside dpkg-query -W -f '${db:Status-Status} ${Version}' "$1"; }

echo "== building"
cmake --build "$build" -j "${KEYTRAIL_JOBS:-$(nproc)}" --target packages >"$scratch/build.log" 2>&1 || { tail -n 20 "$scratch/build.log" >&2; exit 1; }
packages=$(cd "$build/packages" && pwd)
version=$(sed -n 's/^set(CPACK_PACKAGE_VERSION "\(.*\)")$/\1/p' "$build/CPackConfig.cmake")
next=$version+next
cpack --config "$build/CPackConfig.cmake" -G DEB -R "$next" -B "$scratch/next" >"$scratch/build.log" 2>&1 || { tail -n 20 "$scratch/build.log" >&2; exit 1; }
names=(keytrail keytrail-agent keytrail-collector)
architecture=$(dpkg --print-architecture)
(cd "$packages" && stat -c '        %n %s bytes' -- *"_${version}_$architecture.deb" "keytrail-agent-$version-$(uname -m).tar.gz")

for unit in keytrail-agent keytrail-collector; do
  check "$unit.service scores at most 2.0: $(systemd-analyze security --no-pager --offline=true "deploy/systemd/$unit.service" |
    sed -n 's/.*Overall exposure level[^:]*: \([0-9.]*\).*/\1/p')" -- \
    systemd-analyze security --no-pager --offline=true --threshold=20 "deploy/systemd/$unit.service"
done

echo "== a bare Debian 12"
debootstrap --variant=minbase bookworm "$root" "$mirror" >"$scratch/debootstrap.log" 2>&1 || { tail -n 20 "$scratch/debootstrap.log" >&2; exit 1; }
mount -t proc proc "$root/proc"
mkdir "$root/pd_wide"
cp tests/data/pd_wide/*.pcap.zst "$root/pd_wide"

echo "== the archive, without any package"
tar -xzf "$packages/keytrail-agent-$version-$(uname -m).tar.gz" -C "$root/opt"
portable=/opt/keytrail-agent-$version-$(uname -m)/bin/keytrail-agent
check "no libpcap, libzmq or libprotobuf is there" -- \
  sh -c "! ls $root/usr/lib/*/libpcap.so* $root/usr/lib/*/libzmq.so* $root/usr/lib/*/libprotobuf.so* 2>/dev/null | grep ."
same "it says its version" -- "keytrail-agent $version" "$(inside "$portable" --version)"
inside "$portable" -r /pd_wide/tikv1.pcap.zst --json >"$scratch/portable.json" 2>"$scratch/portable.log" || [ $? -eq 3 ]
KEYTRAIL_USER=root "$build/bin/keytrail-agent" -r tests/data/pd_wide/tikv1.pcap.zst --json >"$scratch/built.json" 2>/dev/null || [ $? -eq 3 ]
# The last line, the summary, names the file and how long it took.
check "it decodes as the build does: $(wc -l <"$scratch/built.json") lines" -- \
  sh -c "cd $scratch && sed -i '\$d' built.json portable.json && test -s built.json && cmp portable.json built.json"
rm -r "$root/opt/keytrail-agent-$version-$(uname -m)"

echo "== installing"
cp "$packages"/*"_${version}_$architecture.deb" "$scratch"/next/*"_${next}_$architecture.deb" "$root"
files() { inside find / -xdev -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o -path /run -prune -o -path /tmp -prune -o -print | sort; }
needed=()
for name in "${names[@]}"; do needed+=("$(dpkg-deb -f "$packages/${name}_${version}_$architecture.deb" Depends)"); done
inside apt-get update >"$scratch/apt.log" 2>&1
inside apt-get satisfy -y --no-install-recommends "${needed[@]}" >>"$scratch/apt.log" 2>&1 || { tail -n 20 "$scratch/apt.log" >&2; exit 1; }
files >"$scratch/before"
paths=("${names[@]/%/_${version}_$architecture.deb}")
check "apt installs them" -- inside apt-get install -y --no-install-recommends "${paths[@]/#//}"
for name in "${names[@]}"; do
  same "$name is installed" -- "installed $version" "$(installed "$name")"
  check "$name says its version" -- sh -c "chroot '$root' $name --version | grep -qx '$name $version'"
  check "what $name brought is as it was packed" -- sh -c "chroot '$root' dpkg -V $name && ! chroot '$root' dpkg -V $name | grep ."
done
for name in agent collector; do
  same "its defaults are a conffile of keytrail-$name" -- " /etc/default/keytrail-$name" \
    "$(inside dpkg-query -W -f '${Conffiles}' "keytrail-$name" | sed -n 's/^\( [^ ]*\) .*/\1/p')"
done
same "the user keytrail cannot log in" -- "/usr/sbin/nologin" "$(inside getent passwd keytrail | cut -d: -f7)"
same "/etc/keytrail" -- "root:keytrail 750" "$(mode /etc/keytrail)"
same "/etc/keytrail/admitted" -- "root:keytrail 750" "$(mode /etc/keytrail/admitted)"
same "/var/lib/keytrail" -- "root:keytrail 750" "$(mode /var/lib/keytrail)"
same "/var/lib/keytrail/spool" -- "keytrail:keytrail 700" "$(mode /var/lib/keytrail/spool)"
same "/var/lib/keytrail/collector" -- "keytrail:keytrail 700" "$(mode /var/lib/keytrail/collector)"
same "the agent is disabled" -- disabled "$(enabled keytrail-agent)"
same "the collector is enabled" -- enabled "$(enabled keytrail-collector)"
check "systemd reads the units" -- inside systemd-analyze verify --man=no keytrail-agent.service keytrail-collector.service

echo "== running them as the services would be run"
cat >"$root/run_services.sh" <<'INSIDE'
set -eu
# What a unit runs: its ExecStart with its defaults, ${NAME} one word as for systemd.
command_of() { sed -n 's/^ExecStart=//p' "/usr/lib/systemd/system/$1.service" | sed 's/\${\([A-Z_]*\)}/"${\1}"/g'; }
someone="setpriv --reuid=keytrail --regid=keytrail --clear-groups --no-new-privs"
ask() { $someone keytrail "$@"; }
fail() { echo "$1" >&2; cat /tmp/collector.log /tmp/agent.log >&2; exit 1; }
status_of() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" | cut -f1; }
wait_for() {
  tries=300
  until "$@" >/tmp/waited 2>&1; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || fail "in vain: $*"
    sleep 0.2
  done
}
touch /tmp/agent.log
. /etc/default/keytrail-collector
eval "exec $someone --inh-caps=-all --bounding-set=-all $(command_of keytrail-collector)" >/tmp/collector.log 2>&1 &
collector=$!
wait_for ask agents
[ "$(status_of "$collector" Uid)" = "$(id -u keytrail)" ] || fail "the collector is not keytrail's"
for file in /pd_wide/*.pcap.zst; do
  name=${file##*/}
  done=0
  $someone keytrail-agent -r "$file" --collector 127.0.0.1:7450 --agent-name "${name%%.*}" \
    --spool /var/lib/keytrail/spool >/tmp/agent.log 2>&1 || done=$?
  [ "$done" -eq 0 ] || [ "$done" -eq 3 ] || fail "the agent ended with $done"
done
wait_for sh -c "$someone keytrail verdicts | grep '^PD is wrong'"
# A live capture with the one capability, which is gone when it runs.
. /etc/default/keytrail-agent
eval "exec $someone --inh-caps=-all,+net_raw --ambient-caps=-all,+net_raw --bounding-set=-all,+net_raw $(command_of keytrail-agent) -v" >/tmp/agent.log 2>&1 &
agent=$!
wait_for grep -q '^Seccomp:.*2' "/proc/$agent/status"
[ "$(status_of "$agent" CapEff)" = 0000000000000000 ] || fail "the agent has $(status_of "$agent" CapEff)"
[ "$(status_of "$agent" Uid)" = "$(id -u keytrail)" ] || fail "the agent is not keytrail's"
wait_for sh -c "$someone keytrail agents --json | grep -q '$(cat /proc/sys/kernel/hostname)'"
kill -TERM "$agent"
wait "$agent" || [ $? -eq 3 ] || fail "the agent did not end well"
kill -TERM "$collector"
wait "$collector" || fail "the collector did not end well"
[ "$(stat -c %U /var/lib/keytrail/collector/audit.log)" = keytrail ] || fail "audit.log is somebody else's"
INSIDE
check "the collector says that PD is wrong, and a live agent gives its capability up" -- alone sh /run_services.sh
# Without that capability the same agent cannot begin, so it is what opened the device.
check "an agent without CAP_NET_RAW is refused the device" -- sh -c \
  "! unshare --net chroot '$root' setpriv --reuid=keytrail --regid=keytrail --clear-groups --bounding-set=-all keytrail-agent -i lo -c 1"

echo "== upgrading to $next"
inside systemctl enable keytrail-agent >/dev/null 2>&1
inside systemctl disable keytrail-collector >/dev/null 2>&1
echo '# of the administrator' >>"$root/etc/default/keytrail-agent"
paths=("${names[@]/%/_${next}_$architecture.deb}")
check "apt upgrades them" -- inside apt-get install -y --no-install-recommends "${paths[@]/#//}"
for name in "${names[@]}"; do same "$name is upgraded" -- "installed $next" "$(installed "$name")"; done
same "the agent stays enabled" -- enabled "$(enabled keytrail-agent)"
same "the collector stays disabled" -- disabled "$(enabled keytrail-collector)"
check "the administrator's defaults stay" -- grep -qx '# of the administrator' "$root/etc/default/keytrail-agent"
check "the database stays" -- test -s "$root/var/lib/keytrail/collector/audit.log"

echo "== removing, then purging"
check "removing" -- inside dpkg --remove "${names[@]}"
check "state and configuration stay" -- test -f "$root/var/lib/keytrail/collector/audit.log" -a -f "$root/etc/default/keytrail-agent"
check "purging" -- inside dpkg --purge "${names[@]}"
files >"$scratch/after"
# Accounts keep a backup, dpkg and apt a log; nothing else may have come.
left=$(comm -13 "$scratch/before" "$scratch/after" |
  grep -vE '^/(etc/(passwd|group|shadow|gshadow|subuid|subgid)-|etc/\.pwd\.lock|run_services\.sh|var/log/.*|var/lib/dpkg/.*|var/cache/.*|var/lib/apt/.*)$' || true)
same "nothing is left" -- "" "$left"
check "the user stays" -- inside getent passwd keytrail
echo "$checks checks passed"
