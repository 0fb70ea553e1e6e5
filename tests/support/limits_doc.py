#!/usr/bin/env python3
"""Checks docs/limits.md against common/limits.h, common/counters.h and the tests.

    limits_doc.py [ROOT]     exit 0: complete; 1: one line for each thing that is missing or misspelt

Each constant of the sections below has one row, in its section's table; a row names counters of the summary that exist, and
at least one test that exists.
"""

import os
import re
import sys

SECTIONS = ("capture", "process", "focus", "tcp", "packet", "http2", "grpc", "schema", "restraint", "query", "fleet")


def constants(text):
    """{section: [names]} of common/limits.h."""
    found, section = {}, None
    for line in text.splitlines():
        heading = re.match(r"// (\w+) -{20,}$", line)
        if heading:
            section = heading.group(1)
        name = re.match(r"inline constexpr \w+ (k\w+) =", line)
        if name:
            found.setdefault(section, []).append(name.group(1))
    return found


def rows(text):
    """(section, constant, counted, tests) of each row of docs/limits.md."""
    section = None
    for line in text.splitlines():
        if line.startswith("## "):
            section = line[3:].strip()
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[0].startswith("`k"):
            yield section, cells[0].strip("`"), cells[1], re.findall(r"`(\w+\.\w+)`", cells[3])


def tests(root):
    """Names of all tests, `Suite.Name` or `Class.test_name`."""
    found = set()
    for folder, _, names in os.walk(os.path.join(root, "tests")):
        for name in names:
            if not name.endswith(("_test.cc", ".py")):
                continue
            with open(os.path.join(folder, name), encoding="utf-8") as handle:
                text = handle.read()
            if name.endswith(".cc"):
                found.update(".".join(hit) for hit in re.findall(r"^TEST(?:_[FP])?\((\w+),\s*(\w+)\)", text, re.M))
                continue
            owner = None
            for hit in re.finditer(r"^class (\w+)|^    def (test_\w+)", text, re.M):
                owner = hit.group(1) or owner
                if hit.group(2):
                    found.add(f"{owner}.{hit.group(2)}")
    return found


def problems(root):
    def read(path):
        with open(os.path.join(root, path), encoding="utf-8") as handle:
            return handle.read()

    known = constants(read("common/limits.h"))
    counters = set(re.findall(r'X\(k\w+, "(\w+)"\)', read("common/counters.h")))
    all_tests = tests(root)
    listed = set()
    for section, name, counted, named_tests in rows(read("docs/limits.md")):
        listed.add((section, name))
        if name not in known.get(section, []):
            yield f"docs/limits.md: {name} is no constant of section {section}"
        for counter in re.findall(r"`(\w+)`", counted):
            if counter not in counters:
                yield f"docs/limits.md: {name}: no counter is called {counter}"
        if not named_tests:
            yield f"docs/limits.md: {name} names no test"
        for test in named_tests:
            if test not in all_tests:
                yield f"docs/limits.md: {name}: there is no test {test}"
    for section in SECTIONS:
        if not known.get(section):
            yield f"common/limits.h: section {section} is not found"
        for name in known.get(section, []):
            if (section, name) not in listed:
                yield f"common/limits.h: {name} (section {section}) has no row in docs/limits.md"


def main():
    if "-h" in sys.argv or "--help" in sys.argv:
        print(__doc__.strip())
        return 0
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    found = list(problems(root))
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
