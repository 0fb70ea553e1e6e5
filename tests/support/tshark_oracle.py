"""What tshark (Debian's package) reads out of a capture, as an oracle for the agent.

tshark decodes HTTP/2, gRPC and, with our .proto files as its search path, every field. It is told by port
what is HTTP/2, which is enough for captures whose ports are known. Only connections whose preface is in the
capture are counted: behind a late join tshark guesses.
"""

import collections
import os
import re
import shutil
import subprocess
import tempfile

Message = collections.namedtuple(
    "Message", "t_ns source destination tcp_stream stream path is_request fields")  # fields: [(name, show, hex)]

FIELD = re.compile(rb'name="([^"]*)"')
SHOW = re.compile(rb' show="([^"]*)"')
VALUE = re.compile(rb' value="([^"]*)"')
GRPC = re.compile(rb'GRPC Message: ([^,"]+), (Request|Response)')


def available():
    return shutil.which("tshark") is not None


class Reading:
    """Counts by path and by sub-command; messages with their fields if asked for."""

    def __init__(self):
        self.streams = collections.Counter()
        self.messages = collections.Counter()      # (path, "Request" or "Response")
        self.sub_commands = collections.Counter()  # (name, "Request" or "Response")
        self.details = []

    def by_path(self):
        return {path: [count, self.messages[(path, "Request")], self.messages[(path, "Response")]]
                for path, count in self.streams.items()}

    def by_sub_command(self):
        return {name: [self.sub_commands[(name, "Request")], self.sub_commands[(name, "Response")]]
                for name in sorted({name for name, _ in self.sub_commands})}


def read(capture, proto_dir, ports=(20160, 2379), keep=None):
    """Runs tshark over a plain pcap file. keep(path): whether a message's fields are wanted."""
    proto_dir = os.path.realpath(proto_dir)  # tshark finds nothing through ".."
    command = ["tshark", "-r", capture, "-Y", "http2",
               "-o", f'uat:protobuf_search_paths:"{proto_dir}","TRUE"',
               "-o", "protobuf.preload_protos:TRUE", "-o", "protobuf.pbf_as_hf:TRUE",
               "-T", "pdml", "-J", "frame ip tcp http2 grpc protobuf"]
    for port in ports:
        command += ["-d", f"tcp.port=={port},http2"]
    with tempfile.TemporaryDirectory() as home:
        environment = dict(os.environ, HOME=home, XDG_CONFIG_HOME=home, TZ="UTC")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
            reading = parse(process.stdout, keep)
        if process.returncode != 0:
            raise RuntimeError(f"tshark failed on {capture}")
    return reading


def parse(lines, keep):
    reading = Reading()
    from_start = set()
    t_ns = tcp_stream = stream = None
    ip, port = [None, None], [None, None]
    message = None
    for line in lines:
        if b"pbf." in line and message is not None:
            name = FIELD.search(line).group(1)
            if not name.startswith(b"pbf."):
                continue
            name = name[4:].decode()
            if name.startswith(("tikvpb.BatchCommandsRequest.Request.", "tikvpb.BatchCommandsResponse.Response.")):
                reading.sub_commands[(name.rsplit(".", 1)[1], "Request" if message.is_request else "Response")] += 1
            if message.fields is not None:
                show, value = SHOW.search(line), VALUE.search(line)
                message.fields.append((name, show.group(1).decode() if show else "",
                                       value.group(1).decode() if value else ""))
        elif b"<packet>" in line:
            message = None
        elif b'name="frame.time_epoch"' in line:
            seconds, fraction = SHOW.search(line).group(1).split(b".")
            t_ns = int(seconds) * 1000000000 + int(fraction.ljust(9, b"0"))
        elif b'name="ip.src"' in line:
            ip[0] = SHOW.search(line).group(1).decode()
        elif b'name="ip.dst"' in line:
            ip[1] = SHOW.search(line).group(1).decode()
        elif b'name="tcp.srcport"' in line:
            port[0] = SHOW.search(line).group(1).decode()
        elif b'name="tcp.dstport"' in line:
            port[1] = SHOW.search(line).group(1).decode()
        elif b'name="tcp.stream"' in line:
            tcp_stream = int(SHOW.search(line).group(1))
        elif b'name="http2.magic"' in line:
            from_start.add(tcp_stream)
        elif b'name="http2.streamid"' in line:
            stream = int(SHOW.search(line).group(1))
        elif b'name="http2.headers.path"' in line and tcp_stream in from_start:
            reading.streams[SHOW.search(line).group(1).decode()] += 1
        elif b'<proto name="grpc"' in line:
            message = None
            hit = GRPC.search(line)
            if not hit or tcp_stream not in from_start:
                continue
            path, kind = hit.group(1).decode(), hit.group(2).decode()
            reading.messages[(path, kind)] += 1
            message = Message(t_ns, f"{ip[0]}:{port[0]}", f"{ip[1]}:{port[1]}", tcp_stream, stream, path,
                              kind == "Request", [] if keep and keep(path) else None)
            if message.fields is not None:
                reading.details.append(message)
    return reading
