#!/usr/bin/env bash
# Records the captures of this folder again: real programs that do not speak HTTP/2, on loopback alone.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: record.sh [--only NAME] [OUT]

Starts each server on 127.0.0.1 with its data in a scratch folder, records its port on `lo` with tcpdump while a client
talks to it, and leaves OUT/NAME.pcap.zst (OUT: this folder). Each recording ends after 2000 packets or 30 seconds.
Needs root (tcpdump, sshd) and: tcpdump zstd redis-server redis-tools postgresql memcached openssl openssh-server
openssh-client dropbear-bin netcat-openbsd python3 curl. What is not installed is left out and said.
TEXT
}

only=
out=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --only) only=$2; shift ;;
    *) out=$1 ;;
  esac
  shift
done

scratch=$(mktemp -d)
chmod 755 "$scratch"
jobs_started=()
finish() {
  for pid in "${jobs_started[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$scratch"
}
trap finish EXIT

# wanted NAME PROGRAM…: whether to record NAME, and whether its programs are there.
wanted() {
  local name=$1
  shift
  [ -z "$only" ] || [ "$only" = "$name" ] || return 1
  local program
  for program in "$@"; do
    if ! command -v "$program" >/dev/null; then
      echo "$name: left out, $program is not installed" >&2
      return 1
    fi
  done
}

# serve PROGRAM…: runs a server until the end of this script.
serve() {
  "$@" >"$scratch/server.log" 2>&1 &
  jobs_started+=($!)
}

# await PORT: returns when something listens there.
await() {
  local n
  for n in $(seq 100); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return 0; fi
    sleep 0.1
  done
  echo "nothing listens on port $1" >&2
  tail -5 "$scratch/server.log" >&2
  return 1
}

# record NAME PORT COMMAND…: records the port while the command runs.
record() {
  local name=$1 port=$2
  shift 2
  timeout 30 tcpdump -i lo -U -s 0 -c 2000 -w "$scratch/$name.pcap" "tcp port $port" 2>"$scratch/$name.log" &
  local dump=$!
  until grep -q listening "$scratch/$name.log" 2>/dev/null; do sleep 0.05; done
  "$@" >"$scratch/client.log" 2>&1 || echo "$name: the client ended with status $?" >&2
  sleep 1.5  # tcpdump hands packets on once a second
  kill -INT "$dump" 2>/dev/null || true
  wait "$dump" 2>/dev/null || true
  zstd -q --ultra -22 -c "$scratch/$name.pcap" >"$out/$name.pcap.zst"
  echo "$name: $(wc -c <"$out/$name.pcap.zst") bytes"
}

redis_client() {
  redis-benchmark -p 16379 -n 400 -c 4 -r 1000 -d 64 -t set,get,incr,lpush,lrange_100,mset -q
  redis-benchmark -p 16379 -n 200 -c 2 -P 8 -r 100 -3 -t hset,zadd -q
  printf 'SUBSCRIBE news\r\n' | timeout 1 nc -N 127.0.0.1 16379 || true
  redis-cli -p 16379 INFO clients
  head -c 20000 /dev/urandom | redis-cli -p 16379 -x SET random
  redis-cli -p 16379 GET random
}

if wanted redis redis-server redis-benchmark redis-cli nc; then
  serve redis-server --port 16379 --bind 127.0.0.1 --save '' --appendonly no --dir "$scratch"
  await 16379
  record redis 16379 redis_client
fi

postgres_client() {
  pgbench -h 127.0.0.1 -p 15432 -U postgres -i -s 1 -q postgres
  pgbench -h 127.0.0.1 -p 15432 -U postgres -c 3 -t 40 -M prepared postgres
  pgbench -h 127.0.0.1 -p 15432 -U postgres -c 2 -t 40 -S postgres
  psql -h 127.0.0.1 -p 15432 -U postgres -c 'COPY (SELECT * FROM pgbench_accounts LIMIT 500) TO STDOUT WITH BINARY'
  psql -h 127.0.0.1 -p 15432 -U postgres -c 'SELECT no_such_column' || true
}

if wanted postgres initdb postgres pgbench psql setpriv; then
  mkdir "$scratch/postgres" && chown postgres "$scratch/postgres"
  as_postgres=(setpriv --reuid postgres --regid postgres --clear-groups)
  "${as_postgres[@]}" initdb -D "$scratch/postgres" -A trust >/dev/null
  serve "${as_postgres[@]}" postgres -D "$scratch/postgres" -p 15432 -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c fsync=off
  await 15432
  record postgres 15432 postgres_client
fi

memcached_client() {
  python3 - <<'PYTHON'
import os, socket, struct
text = socket.create_connection(("127.0.0.1", 21211))
stream = text.makefile("rb")
for n in range(120):
    value = os.urandom(n * 5)
    text.sendall(b"set key%d %d 0 %d\r\n" % (n, n, len(value)) + value + b"\r\n")
    stream.readline()
    text.sendall(b"get key%d key%d\r\n" % (n, n // 2))
    while stream.readline() != b"END\r\n":
        pass
text.sendall(b"stats\r\n")
while stream.readline() != b"END\r\n":
    pass
# The binary protocol: magic, opcode, key length, extras length, …
binary = socket.create_connection(("127.0.0.1", 21211))
stream = binary.makefile("rb")
for n in range(200):
    key, value = b"b%d" % (n // 2), bytes(n)
    if n % 2 == 0:
        binary.sendall(struct.pack(">BBHBBHIIQ", 0x80, 1, len(key), 8, 0, 0, 8 + len(key) + len(value), n, 0) + bytes(8) + key + value)
    else:
        binary.sendall(struct.pack(">BBHBBHIIQ", 0x80, 0, len(key), 0, 0, 0, len(key), n, 0) + key)
    head = stream.read(24)
    stream.read(struct.unpack(">I", head[8:12])[0])
PYTHON
}

if wanted memcached memcached python3; then
  serve memcached -l 127.0.0.1 -p 21211 -U 0 -u nobody
  await 21211
  record memcached 21211 memcached_client
fi

tls_client() {
  local protocol
  # With ALPN h2 the ClientHello names HTTP/2; what follows cannot be read all the same.
  for protocol in -tls1_2 -tls1_3 '-tls1_3 -alpn h2' '-tls1_2 -alpn h2,http/1.1'; do
    # shellcheck disable=SC2086
    (head -c 12000 /dev/urandom | base64; sleep 0.5) |
      openssl s_client -connect 127.0.0.1:14433 $protocol -quiet -no_ign_eof
  done
}

if wanted tls openssl; then
  openssl req -x509 -newkey rsa:2048 -nodes -keyout "$scratch/key.pem" -out "$scratch/cert.pem" -days 1 -subj /CN=localhost 2>/dev/null
  # -rev answers each line with its reverse.
  serve openssl s_server -accept 127.0.0.1:14433 -key "$scratch/key.pem" -cert "$scratch/cert.pem" -rev -alpn h2,http/1.1
  await 14433
  record tls 14433 tls_client
fi

ssh_client() {
  local ssh=(ssh -p 12222 -i "$scratch/user" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o LogLevel=ERROR)
  "${ssh[@]}" root@127.0.0.1 'head -c 30000 /dev/urandom'
  head -c 30000 /dev/urandom | "${ssh[@]}" -c aes128-ctr root@127.0.0.1 'wc -c'
  "${ssh[@]}" -c chacha20-poly1305@openssh.com root@127.0.0.1 'for n in $(seq 40); do echo line $n; sleep 0.01; done'
}

if wanted ssh /usr/sbin/sshd ssh ssh-keygen; then
  ssh-keygen -q -t ed25519 -N '' -f "$scratch/host"
  ssh-keygen -q -t ed25519 -N '' -f "$scratch/user"
  mkdir -p /run/sshd
  serve /usr/sbin/sshd -D -e -f /dev/null -p 12222 -h "$scratch/host" -o ListenAddress=127.0.0.1 -o StrictModes=no \
    -o PidFile=none -o "AuthorizedKeysFile=$scratch/user.pub" -o UsePAM=no -o PermitRootLogin=yes
  await 12222
  record ssh 12222 ssh_client
fi

dropbear_client() {
  # Nobody is let in: the handshake and refused passwords.
  local n
  for n in 1 2 3; do dbclient -y -y -p 12223 "nobody$n@127.0.0.1" true </dev/null || true; done
}

if wanted dropbear dropbear dropbearkey dbclient; then
  dropbearkey -t ecdsa -f "$scratch/dropbear" >/dev/null 2>&1
  serve dropbear -F -E -p 127.0.0.1:12223 -r "$scratch/dropbear" -P "$scratch/dropbear.pid"
  await 12223
  record dropbear 12223 env HOME="$scratch" bash -c "$(declare -f dropbear_client); dropbear_client"
fi

noise_client() {
  local n
  for n in 1 2 3 4; do
    (for _ in $(seq 20); do head -c $((RANDOM % 3000)) /dev/urandom; sleep 0.01; done) | nc -N 127.0.0.1 $((17000 + n)) >/dev/null
  done
  head -c 300000 /dev/zero | nc -N 127.0.0.1 17005 >/dev/null
}

if wanted noise nc; then
  for n in 1 2 3 4 5; do
    # The other direction: random bytes too, or (17005) zeroes.
    source=/dev/urandom
    [ "$n" != 5 ] || source=/dev/zero
    serve bash -c "head -c 20000 $source | nc -l -N 127.0.0.1 $((17000 + n))"
  done
  sleep 1
  record noise '17001 or tcp port 17002 or tcp port 17003 or tcp port 17004 or tcp port 17005' noise_client
fi

http1_client() {
  local n
  for n in $(seq 8); do
    curl -s --noproxy '*' "http://127.0.0.1:18080/page$n" "http://127.0.0.1:18080/" --http1.1 -H 'Content-Type: application/grpc' || true
  done
  # Asks for HTTP/2 and is not given it.
  curl -s --noproxy '*' --http2 http://127.0.0.1:18080/page1 || true
}

if wanted http1 python3 curl; then
  mkdir "$scratch/pages"
  for n in $(seq 8); do head -c $((n * 700)) /dev/urandom >"$scratch/pages/page$n"; done
  serve python3 -m http.server 18080 --bind 127.0.0.1 --directory "$scratch/pages"
  await 18080
  record http1 18080 http1_client
fi
