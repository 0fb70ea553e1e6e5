#!/usr/bin/env python3
"""Manual pages and completions have every option and command that --help has. What --help has is found here with a
plain search for words, not by the code that made the pages."""

import os
import re
import shutil
import subprocess
import unittest

import harness

PAGES = os.path.join(os.path.dirname(os.path.abspath(harness.BIN)), "help")
PROGRAMS = {"keytrail": 1, "keytrail-agent": 8, "keytrail-collector": 8}


def shown(words):
    result = harness.run([harness.program(words[0]), *words[1:], "--help"], timeout=60)
    if result.returncode != harness.DONE:
        raise AssertionError(f"{words}: exit status {result.returncode}: {result.stderr}")
    return result.stdout


def options_of(text):
    """Names at the beginning of a line of `Options:`."""
    lines = text.split("Options:\n", 1)[1].split("\n\n", 1)[0].splitlines()
    names = set()
    for line in lines:
        if found := re.match(r"  (-\S+)", line):
            names.update(found[1].split(","))
    return names


def commands_of(text):
    below = text.split("Subcommands:\n")
    return re.findall(r"^  ([a-z]+) ", below[1].split("\n\n", 1)[0], re.MULTILINE) if len(below) > 1 else []


def walk(words):
    """(words, options, commands) of a program and of all its commands."""
    text = shown(words)
    commands = commands_of(text)
    yield words, options_of(text), commands
    for command in commands:
        yield from walk([*words, command])


def read(name):
    with open(os.path.join(PAGES, name), encoding="utf-8") as handle:
        return handle.read()


class HelpPages(harness.ProgramTest):
    def have(self, tool):
        if shutil.which(tool) is None:
            self.skipTest(f"{tool} is not installed")

    def ask(self, arguments):
        result = harness.run(arguments, timeout=60)
        self.assertEqual((result.returncode, result.stderr), (0, ""), arguments)
        return result.stdout

    def test_the_search_finds_what_is_known_to_be_there(self):
        found = {" ".join(words): options for program in PROGRAMS for words, options, _ in walk([program])}
        self.assertLessEqual({"-i", "--spool-bytes", "-q", "--quiet"}, found["keytrail-agent"])
        self.assertLessEqual({"--data", "--query", "--grpc"}, found["keytrail-collector"])
        self.assertLessEqual({"-o", "--output", "--verdict"}, found["keytrail timeline"])
        self.assertIn("--admitted", found["keytrail keys revoke"])

    def test_manual_pages(self):
        for program, section in PROGRAMS.items():
            page = read(f"{program}.{section}").replace("\\-", "-")
            self.assertNotRegex(page, r"@[A-Z]+@")
            self.assertIn(shown([program]).splitlines()[0].split()[0], page)
            for words, options, _ in walk([program]):
                part = page
                if len(words) > 1:
                    heading = f".SS {' '.join(words)}\n"
                    self.assertEqual(page.count(heading), 1, heading)
                    part = re.split(r"^\.S[SH] ", page.split(heading, 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
                    options = options - {"-h", "--help"}
                for option in options:
                    self.assertRegex(part, rf"(?m)^\\fB.*{re.escape(option)}\\fR", f"{words} {option}")

    def test_manual_pages_are_well_formed(self):
        self.have("mandoc")
        for program, section in PROGRAMS.items():
            result = harness.run(["mandoc", "-T", "lint", "-W", "warning", os.path.join(PAGES, f"{program}.{section}")],
                                 timeout=60)
            # No date: a page is that of its version, and a build is to be the same tomorrow.
            left = [line for line in result.stdout.splitlines() if "missing date" not in line]
            self.assertEqual(left, [])

    def test_bash(self):
        for program in PROGRAMS:
            script = os.path.join(PAGES, program)
            self.ask(["bash", "-n", script])
            for words, options, commands in walk([program]):
                self.assertEqual(self.bash(script, [*words, "-"]), options, words)
                if commands:
                    self.assertEqual(self.bash(script, [*words, ""]), set(commands), words)

    def test_bash_completes_values(self):
        self.assertEqual(self.bash(os.path.join(PAGES, "keytrail"), ["keytrail", "sql", "--format", ""]),
                         {"table", "line", "csv", "json"})
        self.write("here.key", b"")
        agent = os.path.join(PAGES, "keytrail-agent")
        self.assertEqual(self.bash(agent, ["keytrail-agent", "--key", os.path.join(self.scratch, "he")]),
                         {os.path.join(self.scratch, "here.key")})
        self.assertEqual(self.bash(agent, ["keytrail-agent", "--agent-name", ""]), set())

    def bash(self, script, words):
        """What bash would offer for the last of `words`. compopt wants a completion under way."""
        program = 'compopt() { :; }; source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); ' \
                  '"_${1//-/_}" "$1" "${@: -1}" "${@: -2:1}"; printf "%s\\n" "${COMPREPLY[@]}"'
        return set(self.ask(["bash", "-c", program, script, *words]).split())

    def test_zsh(self):
        for program in PROGRAMS:
            script = read("_" + program)
            self.assertTrue(script.startswith(f"#compdef {program}\n"))
            for words, options, commands in walk([program]):
                name = "_" + "_".join(words).replace("-", "_")
                function = re.search(rf"(?ms)^{name}\(\) \{{$(.*?)^\}}$", script)
                self.assertIsNotNone(function, name)
                for option in options:
                    self.assertRegex(function[1], rf"\){option}[\[:']", f"{words} {option}")
                for command in commands:
                    self.assertIn(f" {command}) {name}_{command} ;;", function[1])
                    self.assertRegex(function[1], rf"[( ]{command}\\:")

    def test_zsh_reads_it(self):
        self.have("zsh")
        for program in PROGRAMS:
            self.ask(["zsh", "-f", "-n", os.path.join(PAGES, "_" + program)])

    def test_fish(self):
        for program in PROGRAMS:
            script = read(program + ".fish")
            for words, options, commands in walk([program]):
                for option in options:
                    name = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
                    self.assertRegex(script, rf"(?m)^complete -c {program} .*{name}\b")
                for command in commands:
                    self.assertIn(f" -a {command} -d", script)

    def test_fish_offers_it(self):
        self.have("fish")
        empty = os.path.join(self.scratch, "empty")  # fish offers files where a command takes some
        os.mkdir(empty)
        environment = dict(os.environ, HOME=self.scratch, XDG_CONFIG_HOME=self.scratch, XDG_DATA_HOME=self.scratch)
        for program in PROGRAMS:
            script = os.path.join(PAGES, program + ".fish")
            self.ask(["fish", "--no-config", "-n", script])
            for words, options, commands in walk([program]):
                for end, wanted in ("--", {name for name in options if name.startswith("--")}), ("", set(commands)):
                    line = " ".join([*words, end])
                    result = subprocess.run(["fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", script,
                                             line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                                            encoding="utf-8", env=environment, cwd=empty, check=True)
                    offered = {entry.split("\t")[0] for entry in result.stdout.splitlines()}
                    self.assertEqual({name for name in offered if name.startswith("--") or not end}, wanted, line)


if __name__ == "__main__":
    unittest.main()
