#!/usr/bin/env python3
"""Checks that no #include breaks the rule between rooms (docs/decisions.md, "The rule between rooms").

    include_rule.py [ROOT]     exit 0: kept; 1: broken, one line a violation
    include_rule.py --self-test    plants violations in a scratch tree and fails if one goes unnoticed

Data goes right only. A room includes `common`, itself, and what the table below names: the event header of
its left neighbour, as a rule. A third-party header belongs to the rooms that wrap it, and never stands in a
header that another room can reach. The pure rooms have no clock, file, socket, thread or log line.
"""

import os
import re
import sys
import tempfile

# What a room may include besides `common` and itself. An entry is a file, or a folder with a final slash.
SCHEMA = "agent/schema/"
ROOMS = {
    "common": [],
    "agent/capture": [],
    "agent/packet": ["agent/capture/packet_source.h"],
    "agent/tcp": ["agent/packet/segment.h"],
    "agent/http2": ["agent/tcp/byte_events.h"],
    "agent/schema": [],  # a pure library without data flow
    "agent/grpc": ["agent/http2/stream_events.h", SCHEMA],
    "agent/ship": ["agent/grpc/call_events.h", SCHEMA],
    "agent/restraint": [],
    "agent/process": [],
    "agent/focus": ["agent/packet/segment.h", "agent/capture/packet_source.h"],
    # Looks at all that an agent uses, with the agent's own rooms.
    "agent/doctor": ["agent/capture/", "agent/packet/", "agent/focus/", "agent/tcp/", "agent/http2/", "agent/ship/"],
    "agent": ["agent/"],  # the wiring: pipeline and main
    "collector/store": ["collector/correlate/report_model.h", "collector/correlate/correlator.h"],
    "collector/receive": ["collector/store/"],
    "collector/correlate": [],
    "collector/report": ["collector/correlate/report_model.h", "collector/store/timeline_model.h"],
    "collector/query": ["collector/store/", "collector/report/", "collector/correlate/report_model.h"],
    "deploy/fleet": [],  # processes on hosts; knows nothing of packets and records
    "collector/cli": ["collector/", "deploy/fleet/"],
    "collector": ["collector/"],
}

# Files with a rule of their own. `keytrail investigate` wires agents and collector in one process.
FILES = {
    "collector/cli/pipeline.cc": ["collector/", "agent/"],
}

# Generated code of our own protocol is reached through proto/.
GENERATED = ("proto/",)

# Third-party header (pattern) -> where it may stand.
THIRD_PARTY = [
    (r"pcap(/.*)?(\.h)?$", ["agent/capture/"]),
    (r"nghttp2/", ["agent/http2/"]),
    (r"sqlite3(ext)?\.h$", ["collector/store/"]),
    (r"zmq(_addon)?\.h(pp)?$", ["agent/ship/", "collector/receive/", "collector/cli/pipeline.cc", "common/curve_pair.cc"]),
    (r"google/protobuf/", ["agent/schema/*.cc", "common/record_codec.cc", "agent/ship/*.cc",
                           "collector/receive/*.cc", "collector/query/*.cc"]),
    (r".*\.pb\.h$", ["common/record_codec.cc", "agent/schema/*.cc", "agent/ship/*.cc",
                     "collector/receive/*.cc", "collector/query/"]),
    (r"(grpcpp|grpc|absl)/", ["collector/query/"]),
    (r"(histedit|editline/.*)\.h$", ["collector/cli/line_editor.cc"]),
    (r"zstd.*\.h$", ["agent/capture/", "agent/ship/", "collector/receive/", "common/record_codec.cc"]),
    (r"zlib\.h$", ["agent/grpc/", "agent/ship/", "collector/receive/", "common/"]),
    (r"sodium\.h$", ["common/key_token.cc", "deploy/fleet/state_folder.cc"]),
    (r"yaml-cpp/", ["deploy/fleet/"]),
    (r"(civetweb\.h|prometheus/.*)$", ["common/operations_port.cc"]),
    (r"(cap-ng\.h|seccomp\.h|linux/landlock\.h)$", ["common/confinement.cc"]),
    (r"nlohmann/", ["common/check_list.cc", "collector/report/", "collector/cli/", "collector/query/audit_log.cc"]),
    (r"CLI/", ["agent/*.cc", "collector/cli/", "collector/*.cc"]),
]

PURE = ["agent/packet", "agent/tcp", "agent/http2", "agent/grpc", "agent/restraint", "agent/focus", "collector/correlate"]
IMPURE_HEADERS = re.compile(
    r"^(thread|mutex|shared_mutex|condition_variable|future|atomic|semaphore|latch|barrier|stop_token|chrono|"
    r"ctime|time\.h|sys/time\.h|iostream|fstream|filesystem|unistd\.h|fcntl\.h|sys/socket\.h|netinet/.*|"
    r"arpa/.*|sys/(stat|mman|ioctl|epoll|select|types)\.h|poll\.h|pthread\.h|syslog\.h|random)$")
IMPURE_CALLS = re.compile(
    r"(?<![\w:>.])(?:std::)?(printf|fprintf|puts|fputs|perror|fopen|fwrite|getenv|clock_gettime|gettimeofday|"
    r"system|syslog|rand|srand)\s*\(|\bstd::(cout|cerr|clog|chrono)\b")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SOURCE = (".h", ".cc", ".hpp", ".cpp", ".c", ".inc")


def strip_comments(text):
    """Comments and the contents of string literals become blanks; lines stay."""
    out = re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'',
                 lambda m: re.sub(r"[^\n]", " ", m.group(0)), text, flags=re.S)
    return out


def room_of(path):
    """The longest room name that `path` lies in, or None."""
    folder = os.path.dirname(path)
    while folder:
        if folder in ROOMS:
            # A folder of its own under agent/ or collector/ must stand in the table by itself.
            if folder in ("agent", "collector") and os.path.dirname(path) != folder:
                return None
            return folder
        folder = os.path.dirname(folder)
    return None


def matches(path, entries):
    for entry in entries:
        if entry.endswith("/") and path.startswith(entry):
            return True
        if "*" in entry:
            folder, pattern = entry.split("*")
            if path.startswith(folder) and path.endswith(pattern) and "/" not in path[len(folder):]:
                return True
        if path == entry:
            return True
    return False


def scan(root):
    """{path: [(line number, quoted, include)]} and {path: stripped text} of all rooms."""
    includes, texts = {}, {}
    for top in ("common", "agent", "collector", "deploy"):
        for folder, folders, names in os.walk(os.path.join(root, top)):
            folders.sort()
            for name in sorted(names):
                if not name.endswith(SOURCE):
                    continue
                full = os.path.join(folder, name)
                path = os.path.relpath(full, root)
                with open(full, encoding="utf-8") as handle:
                    text = handle.read()
                stripped = strip_comments(text)
                found = []
                for number, (raw, clean) in enumerate(zip(text.split("\n"), stripped.split("\n")), 1):
                    hit = INCLUDE.match(raw)
                    if hit and "#" in clean:  # not inside a comment
                        found.append((number, hit.group(1) == '"', hit.group(2)))
                includes[path] = found
                texts[path] = stripped
    return includes, texts


def reachable(path, includes):
    """Headers of ours that `path` includes, directly or not, itself among them."""
    seen, todo = set(), [path]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        todo.extend(i for _, quoted, i in includes.get(current, []) if quoted and i in includes)
    return seen


def check(root):
    includes, texts = scan(root)
    problems = []

    def tell(path, line, text):
        problems.append(f"{path}:{line}: {text}")

    wraps = {}  # header of ours -> (line, third-party header) standing in it
    for path, found in sorted(includes.items()):
        room = room_of(path)
        if room is None:
            tell(path, 1, "lies in no room of the table in tests/support/include_rule.py")
            continue
        allowed = FILES.get(path, ROOMS[room]) + ["common/", room + "/"]
        if room in ("agent", "collector"):
            allowed = FILES.get(path, ROOMS[room]) + ["common/"]
        for line, quoted, name in found:
            third = [places for pattern, places in THIRD_PARTY if re.match(pattern, name)]
            if third:
                if not any(matches(path, places) for places in third):
                    tell(path, line, f"includes {name}, which belongs to {', '.join(third[0])}")
                if path.endswith((".h", ".hpp")):
                    wraps.setdefault(path, (line, name))
            elif quoted and not name.startswith(GENERATED):
                if "/" not in name:
                    tell(path, line, f"includes \"{name}\": write the path from the repository's root")
                elif name.split("/")[0] in ("common", "agent", "collector", "deploy"):
                    if not matches(name, allowed):
                        tell(path, line, f"room {room} may not include {name}")
                elif name.startswith("tests/"):
                    tell(path, line, f"includes {name}: tests are not part of the program")
            if room in PURE and IMPURE_HEADERS.match(name):
                tell(path, line, f"room {room} is pure, but includes <{name}>")
        if room in PURE:
            for line, text in enumerate(texts[path].split("\n"), 1):
                hit = IMPURE_CALLS.search(text)
                if hit:
                    tell(path, line, f"room {room} is pure, but says {hit.group(0).strip('( ')}")

    # A third-party type must not leave its room through a header.
    for path in sorted(includes):
        room = room_of(path)
        for header in sorted(reachable(path, includes) & set(wraps)):
            if room_of(header) != room:
                line, name = wraps[header]
                tell(header, line, f"has {name} in a header that room {room} reaches ({path})")
    return problems, len(includes)


PLANTS = [
    # (file, content, words that the complaint must have)
    ("agent/tcp/a.cc", '#include "agent/http2/stream_events.h"\n', "room agent/tcp may not include"),
    ("agent/tcp/b.cc", '#include "agent/capture/packet_source.h"\n', "room agent/tcp may not include"),
    ("agent/http2/a.cc", '#include "agent/tcp/tcp_tracker.h"\n', "room agent/http2 may not include"),
    ("agent/grpc/a.cc", '#include "collector/store/store.h"\n', "room agent/grpc may not include"),
    ("collector/store/a.cc", '#include "agent/schema/schema.h"\n', "room collector/store may not include"),
    ("collector/cli/a.cc", '#include "agent/pipeline.h"\n', "room collector/cli may not include"),
    ("collector/correlate/a.cc", '#include "collector/store/store.h"\n', "collector/correlate may not include"),
    ("common/a.cc", '#include "agent/tcp/byte_events.h"\n', "room common may not include"),
    ("agent/schema/a.h", '#include "agent/grpc/call_events.h"\n', "room agent/schema may not include"),
    ("agent/ship/a.cc", '#include "agent/http2/stream_events.h"\n', "room agent/ship may not include"),
    ("agent/packet/a.cc", "#include <pcap.h>\n", "includes pcap.h"),
    ("agent/packet/b.cc", "#include <pcap/pcap.h>\n", "includes pcap/pcap.h"),
    ("agent/grpc/b.cc", "#include <nghttp2/nghttp2.h>\n", "includes nghttp2/nghttp2.h"),
    ("collector/receive/a.cc", "#include <sqlite3.h>\n", "includes sqlite3.h"),
    ("collector/store/b.cc", "#include <zmq.hpp>\n", "includes zmq.hpp"),
    ("collector/cli/e.cc", "#include <yaml-cpp/yaml.h>\n", "includes yaml-cpp/yaml.h"),
    ("deploy/fleet/b.cc", '#include "collector/store/store.h"\n', "room deploy/fleet may not include"),
    ("deploy/fleet/plan.h", "#include <yaml-cpp/yaml.h>\n", "in a header that room collector/cli reaches"),
    ("collector/store/c.cc", '#include "deploy/fleet/plan.h"\n', "room collector/store may not include"),
    ("collector/cli/b.cc", "#include <grpcpp/grpcpp.h>\n", "includes grpcpp/grpcpp.h"),
    ("collector/cli/c.cc", '#include "proto/keytrail/query.pb.h"\n', "includes proto/keytrail/query.pb.h"),
    ("collector/cli/d.cc", "#include <histedit.h>\n", "includes histedit.h"),
    ("collector/query/a.h", "#include <grpcpp/grpcpp.h>\n", "in a header that room collector/cli reaches"),
    ("agent/ship/c.cc", "#include <nlohmann/json.hpp>\n", "includes nlohmann/json.hpp"),
    ("agent/schema/b.h", "#include <google/protobuf/descriptor.h>\n", "includes google/protobuf/descriptor.h"),
    ("agent/grpc/c.cc", '#include "proto/keytrail/record.pb.h"\n', "includes proto/keytrail/record.pb.h"),
    ("agent/grpc/d.cc", "#include <thread>\n", "is pure, but includes <thread>"),
    ("collector/correlate/b.cc", "#include <chrono>\n", "is pure, but includes <chrono>"),
    ("agent/tcp/c.cc", "#include <fstream>\n", "is pure, but includes <fstream>"),
    ("agent/http2/b.cc", 'void F() { fprintf(stderr, "x"); }\n', "is pure, but says fprintf"),
    ("agent/tcp/d.cc", '#include "tcp_tracker.h"\n', "path from the repository's root"),
    ("agent/ship/b.cc", '#include "tests/support/segmenter.h"\n', "tests are not part"),
    ("agent/novel/a.cc", "int x;\n", "lies in no room"),
    ("agent/capture/packet_source.h", "#include <pcap.h>\n", "in a header that room agent/packet reaches"),
]

KEPT = {
    "common/bytes.h": "",
    "agent/capture/packet_source.h": '#include "common/bytes.h"\n',
    "agent/packet/segment.h": "",
    "agent/packet/use.cc": '#include "agent/capture/packet_source.h"\n#include "common/bytes.h"\n',
    "agent/tcp/byte_events.h": '// #include <thread>\n/* #include <pcap.h>\n#include <pcap.h> */\n',
    "agent/tcp/tcp_tracker.h": '#include "agent/packet/segment.h"\n#include "agent/tcp/byte_events.h"\n',
    "agent/http2/stream_events.h": '#include "agent/tcp/byte_events.h"\n',
    "agent/http2/hpack.cc": "#include <nghttp2/nghttp2.h>\n",
    "agent/schema/schema.h": '#include "common/bytes.h"\n',
    "agent/schema/schema.cc": "#include <google/protobuf/descriptor.h>\n",
    "agent/grpc/call_events.h": '#include "agent/schema/schema.h"\n',
    "agent/grpc/say.cc": 'const char* kText = "printf(";  // printf(\n',
    "agent/ship/ship.cc": '#include "agent/grpc/call_events.h"\n#include <zmq.hpp>\n'
                          '#include "proto/keytrail/record.pb.h"\n',
    "agent/pipeline.h": '#include "agent/ship/x.h"\n',
    "collector/correlate/report_model.h": "",
    "collector/store/store.h": '#include "collector/correlate/report_model.h"\n',
    "collector/store/store.cc": "#include <sqlite3.h>\n",
    "collector/receive/receive.cc": '#include "collector/store/store.h"\n#include <thread>\n',
    "collector/query/rpc.h": '#include <grpcpp/grpcpp.h>\n#include "proto/keytrail/query.grpc.pb.h"\n',
    "collector/query/a.h": "",
    "collector/query/service.cc": '#include "collector/query/rpc.h"\n#include "collector/store/store.h"\n',
    "collector/cli/sql.cc": '#include "collector/query/a.h"\n#include "deploy/fleet/plan.h"\n',
    "deploy/fleet/plan.h": "",
    "deploy/fleet/read.cc": '#include <yaml-cpp/yaml.h>\n#include "deploy/fleet/plan.h"\n',
    "collector/cli/pipeline.cc": '#include "agent/pipeline.h"\n#include "collector/store/store.h"\n',
}


def write_tree(root, files):
    for path, text in files.items():
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as handle:
            handle.write(text)


def self_test():
    failures = 0
    with tempfile.TemporaryDirectory() as root:
        write_tree(root, KEPT)
        problems, _ = check(root)
        for problem in problems:
            print(f"self test: a tree that keeps the rule is refused: {problem}")
            failures += 1
    for path, text, words in PLANTS:
        with tempfile.TemporaryDirectory() as root:
            write_tree(root, {**KEPT, path: text})
            problems, _ = check(root)
            if not any(words in problem for problem in problems):
                print(f"self test: {path} with {text.strip()!r} went unnoticed ({problems})")
                failures += 1
    print(f"self test: {len(PLANTS)} planted violations, {failures} failures")
    return 1 if failures else 0


def main():
    if "--help" in sys.argv or "-h" in sys.argv:
        print(__doc__.strip())
        return 0
    if "--self-test" in sys.argv:
        return self_test()
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "..")
    problems, files = check(root)
    for problem in problems:
        print(problem)
    if files == 0:
        print(f"{root}: no source file found")
        return 1
    print(f"{files} files, {len(problems)} violations")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
