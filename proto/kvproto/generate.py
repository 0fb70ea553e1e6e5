#!/usr/bin/env python3
"""Writes the .proto files of this folder from tables of wire facts.

    generate.py --fields FIELDS.tsv... --services SERVICES.tsv... [--out DIR]

A row of a field table is: file, message, number, field, label, type, oneof (tab-separated, one header line).
The label is empty, "repeated" or "enum-value" (then "message" names the enum); a message without fields has
"(empty)" for its field. A row of a service table is: service, method, path, request, response,
client_stream, server_stream. Names are full names. Output is proto3, one file for each name in the file column.

A request or response that has no row becomes a message without fields (an empty message has none to list)
and is listed on stderr.

A map is recognised as protoc writes it down: a repeated field of a nested message FieldNameEntry that has
exactly the fields key = 1 and value = 2. A type that the tables do not define becomes bytes (the same on the
wire) and is listed on stderr.
"""

import argparse
import csv
import os
import sys
from collections import OrderedDict

SCALARS = {
    "double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64",
    "sfixed32", "sfixed64", "bool", "string", "bytes",
}

HEADER = """\
// Written by generate.py from a table of wire facts (names, field numbers, types); do not edit.
// What is not in the table (comments, options, reserved numbers) is not here either.

syntax = "proto3";

package {package};
"""


class Message:
    """A message or an enum, with what is nested in it."""

    def __init__(self, full_name):
        self.full_name = full_name
        self.name = full_name.rsplit(".", 1)[-1]
        self.fields = []  # (number, name, label, type, oneof)
        self.values = []  # (number, name)
        self.nested = OrderedDict()

    def is_enum(self):
        return bool(self.values)


class File:
    def __init__(self, name):
        self.name = name
        self.package = None
        self.top = OrderedDict()
        self.services = OrderedDict()
        self.imports = set()


def read_rows(paths):
    for path in paths:
        with open(path, newline="") as table:
            for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE):
                yield row


def package_of(full_name):
    """Package parts are lower case and message names are not, in all these files."""
    parts = full_name.split(".")
    package = []
    for part in parts[:-1]:
        if part[0].isupper():
            break
        package.append(part)
    return ".".join(package)


class Facts:
    def __init__(self):
        self.files = OrderedDict()
        self.types = {}  # full name -> (File, Message)
        self.missing = set()
        self.fieldless = set()

    def message(self, file, full_name):
        if full_name in self.types:
            return self.types[full_name][1]
        message = Message(full_name)
        parent_name = full_name.rsplit(".", 1)[0]
        if parent_name == file.package:
            file.top[message.name] = message
        else:
            self.message(file, parent_name).nested[message.name] = message
        self.types[full_name] = (file, message)
        return message

    def add_fields(self, rows):
        for row in rows:
            file = self.files.setdefault(row["file"], File(row["file"]))
            package = package_of(row["message"])
            if file.package is None:
                file.package = package
            elif file.package != package:
                sys.exit(f"{row['file']}: two packages, {file.package} and {package}")
            message = self.message(file, row["message"])
            if row["label"] == "enum-value":
                message.values.append((int(row["number"]), row["field"]))
            elif row["field"] != "(empty)":
                message.fields.append(
                    (int(row["number"]), row["field"], row["label"], row["type"], row["oneof"] or ""))

    def add_services(self, rows):
        for row in rows:
            if row["path"] != f"/{row['service']}/{row['method']}":
                sys.exit(f"{row['path']}: not the path of {row['service']} {row['method']}")
            package, name = row["service"].rsplit(".", 1)
            homes = [f for f in self.files.values() if f.package == package]
            if not homes:
                homes = [self.files.setdefault(package + ".proto", File(package + ".proto"))]
                homes[0].package = package
            with_request = [f for f in homes if self.types.get(row["request"], (None,))[0] is f]
            home = (with_request or homes)[0]
            if any(name in f.services for f in homes):
                home = next(f for f in homes if name in f.services)
            home.services.setdefault(name, []).append(row)
            for side in ("request", "response"):
                if row[side] not in self.types:
                    if package_of(row[side]) != package:
                        sys.exit(f"{row['path']}: no message {row[side]} in the tables")
                    self.message(home, row[side])
                    self.fieldless.add(row[side])

    def type_name(self, file, type_name):
        """How a field of `file` writes the type; notes the import."""
        if type_name in SCALARS:
            return type_name
        if type_name not in self.types:
            self.missing.add(type_name)
            return "bytes"
        home = self.types[type_name][0]
        if home is not file:
            file.imports.add(home.name)
        # A leading dot: no package or field name can come between.
        return "." + type_name

    def map_entry(self, message, field):
        _, name, label, type_name, _ = field
        entry_name = "".join(p[:1].upper() + p[1:] for p in name.split("_")) + "Entry"
        if label != "repeated" or type_name != f"{message.full_name}.{entry_name}":
            return None
        entry = message.nested.get(entry_name)
        if entry is None or [(f[0], f[1]) for f in sorted(entry.fields)] != [(1, "key"), (2, "value")]:
            return None
        return entry


def write_enum(message, indent):
    pad = "  " * indent
    lines = [f"{pad}enum {message.name} {{"]
    numbers = [n for n, _ in message.values]
    if len(set(numbers)) != len(numbers):
        lines.append(f"{pad}  option allow_alias = true;")
    values = sorted(message.values, key=lambda v: v[0] != 0)  # proto3 wants a zero first
    if values[0][0] != 0:
        values.insert(0, (0, message.name + "_ZERO"))
    lines += [f"{pad}  {name} = {number};" for number, name in values]
    lines.append(f"{pad}}}")
    return lines


def write_field(facts, file, message, field, pad):
    number, name, label, type_name, _ = field
    entry = facts.map_entry(message, field)
    if entry is not None:
        key, value = sorted(entry.fields)
        return f"{pad}map<{facts.type_name(file, key[3])}, {facts.type_name(file, value[3])}> {name} = {number};"
    label = "repeated " if label == "repeated" else ""
    return f"{pad}{label}{facts.type_name(file, type_name)} {name} = {number};"


def write_message(facts, file, message, indent):
    if message.is_enum():
        return write_enum(message, indent)
    pad = "  " * indent
    lines = [f"{pad}message {message.name} {{"]
    entries = {facts.map_entry(message, field) for field in message.fields}
    for nested in message.nested.values():
        if nested not in entries:
            lines += write_message(facts, file, nested, indent + 1)
    done = set()
    for field in message.fields:
        oneof = field[4]
        if not oneof:
            lines.append(write_field(facts, file, message, field, pad + "  "))
        elif oneof not in done:
            done.add(oneof)
            lines.append(f"{pad}  oneof {oneof} {{")
            lines += [write_field(facts, file, message, f, pad + "    ") for f in message.fields if f[4] == oneof]
            lines.append(f"{pad}  }}")
    lines.append(f"{pad}}}")
    return lines


def write_service(facts, file, name, methods):
    lines = [f"service {name} {{"]
    for row in methods:
        sides = []
        for side in ("request", "response"):
            stream = "stream " if row["client_stream" if side == "request" else "server_stream"] == "1" else ""
            sides.append(stream + facts.type_name(file, row[side]))
        lines.append(f"  rpc {row['method']}({sides[0]}) returns ({sides[1]});")
    lines.append("}")
    return lines


def write_file(facts, file, folder):
    body = []
    for message in file.top.values():
        body += [""] + write_message(facts, file, message, 0)
    for name, methods in file.services.items():
        body += [""] + write_service(facts, file, name, methods)
    text = HEADER.format(package=file.package)
    if file.imports:
        text += "\n" + "".join(f'import "{name}";\n' for name in sorted(file.imports))
    with open(os.path.join(folder, file.name), "w") as out:
        out.write(text + "\n".join(body) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", nargs="+", required=True)
    parser.add_argument("--services", nargs="+", required=True)
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    args = parser.parse_args()
    facts = Facts()
    facts.add_fields(read_rows(args.fields))
    facts.add_services(read_rows(args.services))
    for file in facts.files.values():
        write_file(facts, file, args.out)
    for name in sorted(facts.missing):
        print(f"no table row defines {name}: written as bytes", file=sys.stderr)
    for name in sorted(facts.fieldless):
        print(f"no table row defines {name}: written without fields", file=sys.stderr)
    print(f"{len(facts.files)} files, {len(facts.types)} messages and enums", file=sys.stderr)


if __name__ == "__main__":
    main()
