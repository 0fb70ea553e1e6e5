#!/usr/bin/env python3
"""The agent's text output on bundled captures is what is pinned in tests/golden.

    test_golden.py --write NAME     pins what the agent prints now; read it against tshark first, line by
                                    line, and say so in tests/golden/README.md
"""

import json
import os
import sys
import unittest

import harness

GOLDEN = os.path.join(harness.REPOSITORY, "tests", "golden")


def cases():
    with open(os.path.join(GOLDEN, "cases.json"), encoding="utf-8") as handle:
        return json.load(handle)


def output_of(case):
    """stdout of the agent, with TZ=UTC."""
    path = os.path.join(harness.BUNDLED, case["capture"])
    result = harness.run([harness.program("keytrail-agent"), "-r", path, *case["arguments"]])
    if result.returncode not in (harness.DONE, harness.INCOMPLETE):
        raise AssertionError(f"{case}: exit status {result.returncode}: {result.stderr}")
    return result.stdout


class Golden(unittest.TestCase):
    maxDiff = None

    def test_text_output(self):
        for name, case in cases().items():
            with self.subTest(case=name):
                with open(os.path.join(GOLDEN, name + ".txt"), encoding="utf-8") as handle:
                    self.assertEqual(output_of(case).splitlines(), handle.read().splitlines())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        for wanted in sys.argv[2:]:
            with open(os.path.join(GOLDEN, wanted + ".txt"), "w", encoding="utf-8") as handle:
                handle.write(output_of(cases()[wanted]))
    else:
        unittest.main()
