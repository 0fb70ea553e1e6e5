#!/usr/bin/env python3
"""What README.md and docs/ tell people to type is typed here.

A fenced block of these pages is one of:

    ```sh     commands. Each line is run, in the order of the page, in a folder of that page's own that holds the
              bundled captures tidb1.pcap, tidb2.pcap, pd1.pcap, tikv1.pcap; it must end with 0, or with 3 where a
              program of ours says that something is incomplete. Collectors, and agents that ship, stay until the page
              ends, and must end well when they are told to; what else goes on for ever is interrupted after a while.
    ```text   below a block of commands, with <!-- output --> between: what they print, to the letter.
              Without that comment it is a sketch.
    ```sql    statements; each is asked of the investigation of these captures and must find a row, or have
              `-- may find nothing` in its comment.

    <!-- desk: NAME… -->       at the top of a page: what lies ready there (cluster.db, collector; see Desk)
    <!-- elsewhere: FILE -->   above a block whose commands change a whole machine or cluster: FILE runs what they do,
              or says why nothing does. The options of our programs in it are checked all the same.

All of it happens in a network namespace of its own, with a device eth0 on which nobody speaks.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import harness

REPOSITORY = harness.REPOSITORY
PAGES = ["README.md"] + sorted("docs/" + name for name in os.listdir(os.path.join(REPOSITORY, "docs"))
                               if name.endswith(".md"))
HOSTS = ("tidb1", "tidb2", "pd1", "tikv1")

# What stands for a reader's own: a folder of root's, another host.
READERS_OWN = [("/etc/keytrail", "etc"), ("/var/lib/keytrail", "state"), ("COLLECTOR", "127.0.0.1")]
PROGRAMS = ("keytrail-agent", "keytrail-collector", "keytrail")
LANGUAGES = ("sh", "text", "sql", "yaml")


class Block:
    def __init__(self, page, line, language, text, note):
        self.place = f"{page}:{line}"
        self.language = language
        self.text = text
        self.note = note  # of the comment above it


def blocks(page):
    found, note, inside = [], "", None
    with open(os.path.join(REPOSITORY, page), encoding="utf-8") as handle:
        for number, line in enumerate(handle.read().split("\n"), 1):
            if inside is not None:
                if line == "```":
                    found.append(Block(page, inside[0], inside[1], "\n".join(inside[2]), note))
                    inside, note = None, ""
                else:
                    inside[2].append(line)
            elif line.startswith("```"):
                inside = (number, line[3:].strip(), [])
            elif re.fullmatch(r"<!-- .* -->", line):
                note = line[len("<!-- "):-len(" -->")]
            elif line.strip():
                note = ""
    assert inside is None, f"{page}:{inside[0]}: a block that does not end"
    return found


def commands(text):
    """Lines without their comments, each with the lines that a final backslash adds."""
    for line in text.replace("\\\n", " ").split("\n"):
        words = shlex.split(line, comments=True)
        if words:
            yield line


def whole(page):
    with open(os.path.join(REPOSITORY, page), encoding="utf-8") as handle:
        return handle.read()


def make_eth0():
    # The other end lives here as well: an interface without a peer that is up would have no carrier.
    for command in ("ip link set lo up", "ip link add eth0 type veth peer name peer0",
                    "ip addr add 192.0.2.1/24 dev eth0", "ip link set eth0 up", "ip link set peer0 up"):
        subprocess.run(command.split(), check=True)


class Desk:
    """A folder, and what runs in it."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.path = self._folder.name
        # Programs give up root's rights and must reach the folder.
        os.chmod(self.path, 0o755)
        self.environment = dict(os.environ, TZ="UTC", NO_COLOR="1", COLUMNS="100", KEYTRAIL_USER="root",
                                PATH=harness.BIN + ":" + os.environ["PATH"])
        self.running = []
        for host in HOSTS:
            harness.unpacked(os.path.join(harness.BUNDLED, "pd_wide", host + ".pcap.zst"), self.path)
        for name in ("etc", "state"):
            os.makedirs(os.path.join(self.path, name), mode=0o700)

    def lay(self, what):
        named = [f"{host}={host}.pcap" for host in HOSTS]
        if what == "cluster.db":
            self.must(["keytrail", "investigate", "--db", "cluster.db", *named])
        elif what == "collector":
            self.start("keytrail-collector --data collector")
            for host in HOSTS:
                self.must(["keytrail-agent", "-r", host + ".pcap", "--collector", "127.0.0.1:7450", "--agent-name", host])
            self.wait(lambda: "PD is wrong" in self.ask(["keytrail", "verdicts"]), "the collector judges")
        else:
            raise AssertionError(f"there is no desk '{what}'")

    def ask(self, command):
        return subprocess.run([harness.program(command[0]), *command[1:]], cwd=self.path, env=self.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8").stdout

    def must(self, command):
        done = subprocess.run([harness.program(command[0]), *command[1:]], cwd=self.path, env=self.environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, encoding="utf-8", timeout=300)
        assert done.returncode in (0, 3), f"{command}: {done.returncode}: {done.stdout}"

    @staticmethod
    def wait(holds, what, seconds=60):
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"not within {seconds} s: {what}"
            time.sleep(0.1)

    def start(self, line):
        """A program that stays. A collector is the page's only one: it takes the place of an earlier one."""
        if line.startswith("keytrail-collector"):
            bad = self.end()
            assert not bad, bad
        log = open(os.path.join(self.path, f"log.{len(self.running)}"), "w+", encoding="utf-8")
        process = subprocess.Popen(["bash", "-c", "exec " + line], cwd=self.path, env=self.environment, stdout=log,
                                   stderr=log, stdin=subprocess.DEVNULL)
        self.running.append((line, process, log))
        if line.startswith("keytrail-collector"):
            words = shlex.split(line, comments=True)
            address = words[words.index("--listen") + 1] if "--listen" in words else "tcp://127.0.0.1:7450"
            harness.wait_listening(process, address.replace("0.0.0.0", "127.0.0.1"))
        else:
            time.sleep(1)
        assert process.poll() is None, f"{line}: ended with {process.returncode}: {self.told(log)}"

    @staticmethod
    def told(log):
        log.seek(0)
        return log.read()

    def run(self, line):
        """(exit status, standard output, standard error) of a line."""
        goes_on = goes_on_for_ever(line)
        process = subprocess.Popen(["bash", "-c", ("exec " if goes_on else "set -o pipefail; ") + line], cwd=self.path,
                                   env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, encoding="utf-8")
        if goes_on:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        return process.returncode, out, err

    def end(self):
        """Ends what runs, agents before their collectors; what did not end well, as lines."""
        bad = []
        for line, process, log in reversed(self.running):
            process.send_signal(signal.SIGINT)
            try:
                status = process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
            if status not in (0, 3):
                bad.append(f"{line}: ended with {status}: {self.told(log)}")
            log.close()
        self.running = []
        return bad

    def clear(self):
        bad = self.end()
        self._folder.cleanup()
        return bad


def goes_on_for_ever(line):
    words = shlex.split(line, comments=True)
    if words[0] == "keytrail-agent":
        return "-i" in words and "--duration" not in words and "-c" not in words
    return words[:2] == ["keytrail", "watch"] and "--duration" not in words


def stays(line):
    words = shlex.split(line, comments=True)
    return words[0] == "keytrail-collector" or goes_on_for_ever(line) and "--collector" in words and words[0] != "keytrail"


class Pages(unittest.TestCase):
    maxDiff = 6000

    def walk(self, page):
        desk = Desk()
        bad = ["the page was not walked to its end"]
        try:
            self.do(page, desk)
            bad = []
        finally:
            bad += desk.clear()
        self.assertEqual(bad, [])

    def do(self, page, desk):
        for what in re.findall(r"<!-- desk: (.*) -->", whole(page)):
            for name in what.split():
                desk.lay(name)
        printed = None
        for block in blocks(page):
            self.assertIn(block.language, LANGUAGES, f"{block.place}: a block says what it is")
            if block.language == "sql":
                self.ask(block, desk)
            elif block.language == "text" and block.note == "output":
                self.assertIsNotNone(printed, f"{block.place}: the output of what?")
                self.assertEqual(printed.rstrip("\n"), block.text, f"{block.place}: it prints something else")
            elif block.language == "sh":
                printed = None if block.note.startswith("elsewhere") else self.type(block, desk)

    def type(self, block, desk):
        printed = ""
        for line in commands(block.text):
            for theirs, ours in READERS_OWN:
                line = line.replace(theirs, ours)
            words = shlex.split(line, comments=True)
            if stays(line):
                desk.start(line)
                continue
            status, out, err = desk.run(line)
            allowed = (0, 3) if words[0] in PROGRAMS else (0,)
            self.assertIn(status, allowed, f"{block.place}: {line}\n{out}\n{err}")
            printed += out
        return printed

    def ask(self, block, desk):
        for statement in block.text.split(";"):
            if not statement.strip():
                continue
            status, out, err = desk.run("keytrail sql --db cluster.db --format csv -e " + shlex.quote(statement))
            self.assertEqual(status, 0, f"{block.place}: {statement}\n{err}")
            if "-- may find nothing" not in statement:
                self.assertGreater(len(out.splitlines()), 1, f"{block.place}: {statement}\nfound nothing")

    def test_commands_for_other_machines_name_who_runs_them(self):
        for page in PAGES:
            for block in blocks(page):
                if not block.note.startswith("elsewhere"):
                    continue
                who = block.note.partition(":")[2].split()
                self.assertTrue(who, f"{block.place}: elsewhere: who runs it, or why nobody")
                if "/" in who[0]:
                    self.assertTrue(os.path.exists(os.path.join(REPOSITORY, who[0])), f"{block.place}: no {who[0]}")

    def test_options_exist(self):
        """Of commands in blocks and in the text."""
        asked = {}
        wrong, checked = [], 0
        for page in PAGES:
            lines = [(block.place, line) for block in blocks(page) if block.language == "sh"
                     for line in block.text.replace("\\\n", " ").split("\n")]
            prose = re.sub(r"(?ms)^```.*?^```$", "", whole(page))
            lines += [(page, span) for span in re.findall(r"`([^`\n]+)`", prose)]
            for place, line in lines:
                for command in re.split(r"\s(?:--|&&|\|)\s|#", line):
                    match = re.search(r"^\s*(keytrail(?:-agent|-collector)?)((?: [a-z][a-z-]*)*)(?=\s|$)", command)
                    options = re.findall(r"(?<!\S)(--[a-z][a-z-]*)", command)
                    if not match or not options:
                        continue
                    known = self.help_of(asked, match.group(1), match.group(2).split())
                    checked += len(options)
                    wrong += [f"{place}: {command.strip()}: no {option}" for option in options if option not in known]
        self.assertEqual(wrong, [])
        self.assertGreater(checked, 50)

    @staticmethod
    def help_of(asked, program, words):
        words = tuple(words[:2]) if program == "keytrail" else ()
        if (program, words) not in asked:
            pages = [harness.run([harness.program(program), *words[:n], "--help"]).stdout for n in range(len(words) + 1)]
            # The doctor passes on what it does not know.
            if words[:1] == ("doctor",):
                pages.append(harness.run([harness.program("keytrail-agent"), "--help"]).stdout)
            asked[program, words] = set(re.findall(r"--[a-z][a-z-]*", "".join(pages)))
        return asked[program, words]

    def test_the_schema_page_is_what_the_database_says(self):
        done = harness.run([sys.executable, "-B", os.path.join(REPOSITORY, "tests", "support", "schema_doc.py"), harness.BIN,
                            os.path.join(REPOSITORY, "docs", "schema.md")])
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_links_lead_somewhere(self):
        for page in PAGES:
            folder = os.path.dirname(os.path.join(REPOSITORY, page))
            for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", whole(page)):
                if "://" not in target and "<" not in target:
                    self.assertTrue(os.path.exists(os.path.join(folder, target)), f"{page}: {target}")

    def test_every_page_is_in_the_index(self):
        index = whole("docs/README.md")
        for page in PAGES[1:]:
            if page != "docs/README.md":
                self.assertIn(f"]({os.path.basename(page)})", index)


def add_pages():
    for page in PAGES:
        if any(block.language in ("sh", "sql") for block in blocks(page)):
            name = "test_" + re.sub(r"\W", "_", page[:-len(".md")].lower())
            setattr(Pages, name, lambda self, page=page: self.walk(page))


if __name__ == "__main__":
    if os.environ.get("KEYTRAIL_DOCS_NAMESPACE") != "1":
        os.environ["KEYTRAIL_DOCS_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, "-B", *sys.argv])
    make_eth0()
    add_pages()
    unittest.main()
