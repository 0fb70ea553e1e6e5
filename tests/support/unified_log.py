"""A reader of TiDB's unified log format, written from the text of the RFC alone (tikv/rfcs, text/0018-unified-log-format).

    parse(line)    a Line; ValueError says what the RFC does not allow
"""

import collections
import datetime
import json
import re

Line = collections.namedtuple("Line", "time level source message fields")

HEADER = re.compile(r"\[(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d\d:\d\d)\] \[(FATAL|ERROR|WARN|INFO|DEBUG)\] "
                    r"\[(<unknown>|[a-zA-Z0-9._-]+:\d+)\] ")
# What must not stand in a text that is no JSON string: U+0000 to U+0020, and " = [ ].
BARE = re.compile(r'[^\x00-\x20"=\[\]]*')
STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')


def text(line, at):
    """(the text that begins at `at`, where it ends)."""
    if line.startswith('"', at):
        found = STRING.match(line, at)
        if not found:
            raise ValueError(f"no JSON string at {at}: {line!r}")
        return json.loads(found.group()), found.end()
    found = BARE.match(line, at)
    return found.group(), found.end()


def expect(line, at, what):
    if not line.startswith(what, at):
        raise ValueError(f"no {what!r} at {at}: {line!r}")
    return at + len(what)


def parse(line):
    line = line.rstrip("\n").removesuffix("\r")
    header = HEADER.match(line)
    if not header:
        raise ValueError(f"no header: {line!r}")
    time = datetime.datetime.strptime(header.group(1), "%Y/%m/%d %H:%M:%S.%f %z")
    message, at = text(line, expect(line, header.end(), "["))
    at = expect(line, at, "]")
    fields = {}
    while at < len(line):
        key, at = text(line, expect(line, at, " ["))
        value, at = text(line, expect(line, at, "="))
        at = expect(line, at, "]")
        fields[key] = value
    return Line(time, header.group(2), header.group(3), message, fields)


def parse_all(data):
    """The lines of `data`, bytes of a log; each must be whole and UTF-8."""
    words = data.decode("utf-8")
    if words and not words.endswith("\n"):
        raise ValueError(f"the last line does not end: {words[-200:]!r}")
    return [parse(line) for line in words.split("\n")[:-1]]
