#!/bin/sh
# What `keytrail fleet` runs on a host: sh -s -- VERB FOLDER … <host.sh. POSIX sh, tar, gzip, setsid, sha256sum and
# /proc are all that it needs there. Everything lives in FOLDER, which carries a mark and is removed as a whole.
# Answers are lines KEY=VALUE on stdout; a line "keytrail-fleet: …" on stderr says what is wrong.
# Exit status: 0 done, 20 the host is not fit, 21 something else runs there, 22 the program ended at once.
set -u
LC_ALL=C
export LC_ALL
umask 077

mark=.keytrail-fleet

# What host.sh and the supervisor that it leaves behind both do.
# shellcheck disable=SC2016
common='
# Field 22 of /proc/PID/stat: when it began; a number that was given to another process has another one. One that
# ended and that nobody waits for is gone, too.
began() {
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  [ "$1" != Z ] || return 1
  echo "${20}"
}
# FOLDER: a start or stop is under way there. A lock whose owner is gone is none.
locked() {
  owner=$(readlink "$1/lock" 2>/dev/null) || return 1
  [ "$(began "${owner%% *}")" = "${owner#* }" ]
}
records_left() {
  for segment in "$1"/spool/*.spool; do
    [ -e "$segment" ] && return 0
  done
  return 1
}
# FOLDER STATUS KEEP: after the program ended. What is left is what somebody would miss: records, or why it failed.
clean() {
  if [ "$3" = nothing ] || { { [ "$2" = 0 ] || [ "$2" = 3 ]; } && ! records_left "$1"; }; then
    rm -rf "$1"
    return
  fi
  for thing in bin lib share own.key server.pub redact.secret admitted archive.sha256 archive.tar.gz new \
    launching supervisor.sh; do
    rm -rf "${1:?}/$thing"
  done
  records_left "$1" || rm -rf "$1/spool"
}
'
eval "$common"

say() { printf '%s\n' "$*"; }
fail() {
  status=$1
  shift
  printf 'keytrail-fleet: %s\n' "$*" >&2
  exit "$status"
}

# FILE with "PID BEGAN": that very process still runs, and is one of ours. Sets pid.
alive() {
  pid='' since=''
  [ -r "$1" ] && read -r pid since <"$1"
  case $pid in '' | *[!0-9]*) return 1 ;; esac
  [ "$(began "$pid")" = "$since" ] || return 1
  case $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) in
  *keytrail*) return 0 ;;
  esac
  return 1
}

# What is in the folder: sets state to none, prepared, starting, running, ended (by itself) or died (its supervisor too).
look() {
  state=none
  [ -e "$root" ] || [ -h "$root" ] || return 0
  if [ -h "$root" ] || [ ! -d "$root" ] || [ ! -O "$root" ] || [ ! -e "$root/$mark" ]; then
    # One that was cut off before the mark was made is empty.
    [ -h "$root" ] || ! rmdir "$root" 2>/dev/null || return 0
    fail 20 "'$root' is there and was not made by keytrail fleet; take another --dir, or remove it"
  fi
  state=prepared
  if alive "$root/pid"; then
    state=running
  elif [ -e "$root/ended" ]; then
    state=ended
  elif alive "$root/supervisor"; then
    state=starting
  elif [ -e "$root/supervisor" ]; then
    state=died
  fi
}

# One at a time.
lock() {
  tries=20
  until ln -s "$$ $(began $$)" "$root/lock" 2>/dev/null; do
    [ -d "$root" ] || fail 20 "'$root' went away meanwhile; begin again"
    # shellcheck disable=SC2154  # locked sets owner
    ! locked "$root" || fail 21 "another start or stop is under way here (process ${owner%% *}); wait for it"
    rm -f "$root/lock"
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || ln -s "$$ $(began $$)" "$root/lock" || exit 1
  done
  trap 'rm -f "$root/lock"' EXIT
  trap 'exit 1' HUP INT TERM PIPE
}

# The version of the program, if it can run here at all.
version_of() { "$1" --version 2>&1 | head -n 1; }

tell_running() {
  say "pid=$pid"
  say "version=$(cat "$root/version" 2>/dev/null)"
  say "started=$(cat "$root/started" 2>/dev/null)"
  say "limit=$(cat "$root/limit" 2>/dev/null)"
  say "now=$(date +%s)"
}

# What a supervisor that was killed, or hangs, has in its process group.
end_leftovers() {
  # shellcheck disable=SC2013  # no blanks in these
  for line in $(grep -lF "$root/supervisor.sh" /proc/[0-9]*/cmdline 2>/dev/null); do
    case $(tr '\0' ' ' <"$line" 2>/dev/null) in
    "sh $root/supervisor.sh "*) ;;
    *) continue ;;
    esac
    stat=$(cat "${line%/cmdline}/stat" 2>/dev/null) || continue
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    kill -s KILL -- "-$3" 2>/dev/null
  done
}

# GRACE seconds: ends the program and its supervisor. Killed, if it does not end.
end_program() {
  # The supervisor removes the folder before it ends itself.
  leader='' leader_began=''
  if alive "$root/supervisor"; then leader=$pid leader_began=$since; fi
  if alive "$root/pid"; then
    kill -TERM "$pid" 2>/dev/null
    left=$(($1 * 5))
    while alive "$root/pid"; do
      if [ "$left" -le 0 ]; then
        say killed=1
        kill -KILL "$pid" 2>/dev/null
        left=25
      fi
      sleep 0.2
      left=$((left - 1))
    done
  fi
  left=50
  while [ -n "$leader" ] && [ "$(began "$leader")" = "$leader_began" ] && [ "$left" -gt 0 ]; do
    sleep 0.2
    left=$((left - 1))
  done
  # It must not clean up what a later start makes.
  if [ -d "$root" ]; then end_leftovers; fi
}

# ROOT KIND WANTED NEED_KIB REPLACE GRACE: makes the folder; says whether the archive must come, and what runs already.
prepare() {
  kind=$1 wanted=$2 need=$3 replace=$4 grace=$5
  for tool in tar gzip setsid sha256sum tr head tail df du readlink; do
    command -v "$tool" >/dev/null 2>&1 || fail 20 "this host has no '$tool'"
  done
  [ -r /proc/self/stat ] || fail 20 "this host has no /proc"
  case $(uname -s)-$(uname -m) in
  Linux-x86_64 | Linux-amd64) ;;
  *) [ "$kind" != agent ] || fail 20 "this host is $(uname -s) on $(uname -m); the archive is for Linux on x86_64" ;;
  esac
  look
  case $state in
  running | starting)
    if [ "$(cat "$root/wanted" 2>/dev/null)" = "$wanted" ]; then
      say state=same
      tell_running
      exit 0
    fi
    was=$(cat "$root/version" 2>/dev/null)
    if [ "$replace" != 1 ]; then
      say state=other
      tell_running
      if [ "$(cut -d: -f1 "$root/wanted" 2>/dev/null)" = "${wanted%%:*}" ]; then
        fail 21 "$was runs here since an earlier start, with other options"
      fi
      fail 21 "$was of an earlier start runs here, and is not the one to be started"
    fi
    end_program "$grace"
    say "replaced=$was"
    ;;
  died) end_leftovers ;;
  esac
  if [ ! -d "$root" ]; then
    parent=${root%/*}
    [ -d "$parent" ] || fail 20 "there is no folder '$parent'; make it, or take another --dir"
    # Others may pass, not look: the program gives up root's rights, and its spool is below.
    mkdir -m 0711 "$root" || exit 1
  fi
  : >"$root/$mark" || { rm -rf "$root"; exit 1; }
  lock
  if [ "$kind" = collector ]; then mkdir -p "$root/admitted" && chmod 0755 "$root/admitted" || exit 1; fi
  # shellcheck disable=SC2046
  set -- $(df -Pk "$root" | tail -n 1)
  if [ "${4:-0}" -lt "$need" ]; then
    free=$4
    rm -f "$root/lock"
    records_left "$root" || rm -rf "$root"
    fail 20 "the disk of '${root%/*}' has $((free / 1024)) MiB free, and $((need / 1024)) MiB may be needed: a smaller --spool-bytes or another --dir will do"
  fi
  say state=ready
  sha=${wanted%%:*}
  if [ "$(cat "$root/archive.sha256" 2>/dev/null)" = "$sha" ] && [ -x "$root/bin/keytrail-agent" ]; then
    say archive=same
  else
    say archive=missing
  fi
}

unpack() {
  sum=$(sha256sum <"$root/archive.tar.gz")
  [ "${sum%% *}" = "$1" ] || fail 1 "the archive came damaged or was changed on the way; start again"
  rm -rf "$root/new" "${root:?}/bin" "${root:?}/lib" "$root/archive.sha256"
  mkdir "$root/new" || exit 1
  tar -xzf "$root/archive.tar.gz" --no-same-owner -C "$root/new" || exit 1
  mv "$root"/new/*/bin "$root"/new/*/lib "$root" || exit 1
  rm -rf "$root/new" "$root/archive.tar.gz"
  say "$1" >"$root/archive.sha256" || exit 1
}

write_supervisor() {
  {
    printf '%s' "$common"
    cat <<'SUPERVISOR'
# Ends with the program, which it ends if it has not done so a minute after LIMIT seconds, and cleans up behind it. It
# leads a process group, so that it can end all that it began at once: a signal to a shell that just forks may be lost.
supervise() {
  root=$1 limit=$2 keep=$3
  shift 3
  cd / || exit 1
  trap '' HUP INT
  trap 'kill -TERM "$pid" 2>/dev/null' TERM
  echo "$$ $(began $$)" >"$root/supervisor"
  "$@" </dev/null >/dev/null 2>>"$root/log" &
  pid=$!
  since=$(began "$pid")
  echo "$pid $since" >"$root/pid.new" && mv "$root/pid.new" "$root/pid"
  # A minute more: the program knows its time, and ships what it has at the end of it.
  (
    sleep "$((limit + 60))"
    [ "$(began "$pid")" != "$since" ] || kill -TERM "$pid" 2>/dev/null
    sleep 90
    [ "$(began "$pid")" != "$since" ] || kill -KILL "$pid" 2>/dev/null
  ) &
  while :; do
    wait "$pid"
    status=$?
    kill -0 "$pid" 2>/dev/null || break
  done
  echo "$status $(date +%s)" >"$root/ended"
  # While the start still looks, it cleans up itself.
  # shellcheck disable=SC2015
  [ -e "$root/launching" ] && locked "$root" || clean "$root" "$status" "$keep"
  kill -s KILL -- "-$$"
}
supervise "$@"
SUPERVISOR
  } >"$root/supervisor.sh"
}

# KIND WANTED SHA LIMIT KEEP READY PROGRAM ARGUMENTS…: unpacks if need be, and starts the program.
launch() {
  kind=$1 wanted=$2 sha=$3 limit=$4 keep=$5 ready=$6
  shift 6
  look
  [ "$state" != none ] || fail 20 "'$root' is not prepared; begin again"
  lock
  look
  case $state in
  running | starting)
    rm -f "$root/archive.tar.gz"
    [ "$(cat "$root/wanted" 2>/dev/null)" = "$wanted" ] || fail 21 "another one was started here meanwhile"
    say state=same
    tell_running
    return 0
    ;;
  esac
  if [ "$kind" = agent ]; then
    if [ -e "$root/archive.tar.gz" ]; then unpack "$sha"; fi
    [ "$(cat "$root/archive.sha256" 2>/dev/null)" = "$sha" ] || fail 1 "the archive is not there; start again"
  fi
  version=$(version_of "$1")
  case $version in
  keytrail-*) ;;
  *)
    [ "$kind" = agent ] || fail 20 "'$1' does not run here: $version; install keytrail-collector, or name it with --collector-program"
    fail 20 "the agent does not run here: $version"
    ;;
  esac
  if [ -e "$root/log" ]; then mv -f "$root/log" "$root/log.1"; fi
  rm -f "$root/ended" "$root/pid" "$root/supervisor"
  say "$version" >"$root/version" && say "$limit" >"$root/limit" && date +%s >"$root/started" &&
    : >"$root/log" && : >"$root/launching" && write_supervisor && say "$wanted" >"$root/wanted" || exit 1
  setsid sh "$root/supervisor.sh" "$root" "$limit" "$keep" "$@" </dev/null >/dev/null 2>&1 &
  tries=300
  while [ ! -e "$root/ended" ] && ! grep -q "$ready" "$root/log" 2>/dev/null && [ "$tries" -gt 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
  done
  if [ -e "$root/ended" ]; then
    read -r code _ <"$root/ended"
    tail -n 5 "$root/log" >&2
    records_left "$root" && kept="; its log and records that were not shipped stay in '$root'"
    clean "$root" 3 "$keep"
    fail 22 "$version ended at once, with status $code${kept:-}"
  fi
  # The program may say that it is ready before its supervisor has written down who it is.
  tries=50
  until alive "$root/pid" || [ -e "$root/ended" ] || [ "$tries" -le 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
  done
  [ -e "$root/ended" ] || alive "$root/pid" || fail 1 "$version was started, and is not to be seen; look at '$root/log'"
  rm -f "$root/launching"
  # It may have ended in between.
  if [ -e "$root/ended" ]; then
    read -r code _ <"$root/ended"
    clean "$root" "$code" "$keep"
    fail 22 "$version ended at once, with status $code"
  fi
  say state=running
  tell_running
}

status() {
  look
  say "state=$state"
  [ "$state" != none ] || return 0
  pid=
  alive "$root/pid" || pid=
  tell_running
  say "wanted=$(cat "$root/wanted" 2>/dev/null)"
  # shellcheck disable=SC2046
  set -- $(du -sk "$root" 2>/dev/null)
  say "disk_kib=${1:-0}"
  # shellcheck disable=SC2046
  set -- $(du -sk "$root/spool" 2>/dev/null)
  say "spool_kib=${1:-0}"
  if records_left "$root"; then say records_left=1; fi
  if [ -e "$root/ended" ]; then
    read -r code at <"$root/ended"
    say "ended_status=$code"
    say "ended_at=$at"
  fi
  say "link=$(grep -e "connected to the collector" -e "\[\"collector '" "$root/log" 2>/dev/null | tail -n 1)"
  say "log=$(tail -n 1 "$root/log" 2>/dev/null)"
}

# GRACE DISCARD: ends what runs, and removes all but records that were not shipped.
stop() {
  grace=$1 discard=$2
  look
  if [ "$state" = none ]; then
    say state=none
    return 0
  fi
  lock
  look
  say "was=$state"
  end_program "$grace"
  if [ -d "$root" ]; then
    if [ -e "$root/ended" ]; then
      read -r code _ <"$root/ended"
      say "ended_status=$code"
    fi
    say "log=$(tail -n 1 "$root/log" 2>/dev/null)"
    if [ "$discard" != 1 ] && records_left "$root"; then
      [ -e "$root/ended" ] || say "-1 $(date +%s)" >"$root/ended"
      clean "$root" 1 all
      say state=records_left
      return 0
    fi
  fi
  rm -rf "$root" || exit 1
  say state=removed
}

# After what was left has been fetched.
forget() {
  look
  case $state in
  running | starting) fail 21 "it runs again" ;;
  none) return 0 ;;
  esac
  rm -rf "$root"
}

verb=$1 root=$2
shift 2
case $root in
/*/keytrail-fleet-*) ;;
*) fail 20 "'$root' is no folder of keytrail fleet" ;;
esac
case $verb in
prepare | launch | status | stop | forget) "$verb" "$@" ;;
log) cat "$root/log" ;;
spool) tar -cf - -C "$root" spool ;;
*) fail 20 "no verb '$verb'" ;;
esac
