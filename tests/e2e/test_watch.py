#!/usr/bin/env python3
"""keytrail watch on a terminal: a view that is redrawn in place, without flicker, at any size, and a terminal that is as it was
afterwards, whichever way it ends. The terminal is tmux; agents and the collector are real ones."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
import unittest

import harness
from test_restraint import Program
from test_ship import free_port

KEYTRAIL = harness.program("keytrail")
AGENT = harness.program("keytrail-agent")
COLLECTOR = harness.program("keytrail-collector")
PATIENCE = 60


class Terminal:
    """A window of a tmux server of its own, with a shell in it that begins in `folder`. All that is written to the terminal goes to a file, too."""

    def __init__(self, folder, width=100, height=24, term="screen-256color", **environment):
        self.socket = os.path.join(folder, "tmux")
        self.raw = os.path.join(folder, "raw")
        open(self.raw, "wb").close()
        clean = {k: v for k, v in os.environ.items() if k not in ("TMUX", "NO_COLOR", "LC_ALL", "LANG")}
        subprocess.run(["tmux", "-S", self.socket, "-f", "/dev/null", "-u", "new-session", "-d", "-c", folder, "-x", str(width), "-y", str(height),
                        "env", f"TERM={term}", "PS1=$ ", *[f"{k}={v}" for k, v in environment.items()], "sh"],
                       check=True, env=dict(clean, LC_ALL="C.UTF-8"))
        self.tmux("set-option", "-g", "remain-on-exit", "on")
        self.tmux("pipe-pane", f"exec cat >> {self.raw}")

    def tmux(self, *words):
        return subprocess.run(["tmux", "-S", self.socket, "-u", *words], check=True, stdout=subprocess.PIPE,
                              encoding="utf-8", env=dict(os.environ, LC_ALL="C.UTF-8")).stdout

    def type(self, text):
        self.tmux("send-keys", "-l", text)
        self.key("Enter")

    def key(self, name):
        self.tmux("send-keys", name)

    def size(self, width, height):
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def lines(self):
        return self.tmux("capture-pane", "-p").splitlines()

    def text(self):
        return "\n".join(self.lines())

    def state(self):
        """(alternate screen, cursor is seen)"""
        shown = self.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}").split()
        return tuple(word == "1" for word in shown)

    def written(self, since=0):
        with open(self.raw, "rb") as handle:
            handle.seek(since)
            return handle.read()

    def child(self, name="keytrail"):
        """The process of that name that the shell has started."""
        shell = int(self.tmux("display-message", "-p", "#{pane_pid}"))
        found = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(shell)], stdout=subprocess.PIPE, text=True).stdout
        return next((int(line.split()[0]) for line in found.splitlines() if line.split()[1] == name), None)

    def close(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.tmux("kill-server")


@unittest.skipIf(shutil.which("tmux") is None, "tmux is not installed: it is the terminal here")
class Watch(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.terminals, self.collectors = [], []
        self.address, self.query = f"tcp://127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.start_collector()

    def tearDown(self):
        for terminal in self.terminals:
            terminal.close()
        for collector in self.collectors:
            collector.end()
        super().tearDown()

    def start_collector(self):
        collector = Program(COLLECTOR, "--listen", self.address, "--query", self.query, "--data", os.path.join(self.scratch, "data"))
        self.collectors.append(collector)
        harness.wait_listening(collector.process, "tcp://" + self.query)

    def terminal(self, **named):
        folder = os.path.join(self.scratch, f"terminal{len(self.terminals)}")
        os.mkdir(folder)
        self.terminals.append(Terminal(folder, **named))
        return self.terminals[-1]

    def investigate(self):
        agents = [subprocess.Popen([AGENT, "-q", "-r", os.path.join(harness.BUNDLED, "pd_wide", host + ".pcap.zst"), "--collector",
                                    self.address, "--agent-name", host], stderr=subprocess.DEVNULL) for host in harness.HOSTS]
        for agent in agents:
            self.assertEqual(agent.wait(120), harness.DONE)

    def until(self, terminal, what, wanted=True):
        """The lines shown, once `what` is (not) among them."""
        end = time.monotonic() + PATIENCE
        while (re.search(what, terminal.text(), re.MULTILINE) is not None) != wanted:
            self.assertLess(time.monotonic(), end, f"{what}: {terminal.text()}")
            time.sleep(0.1)
        return terminal.lines()

    def watch(self, terminal, *more):
        """Starts it below a line that must be there afterwards."""
        terminal.type("echo before; stty -g > stty.before")
        self.until(terminal, r"^(\$ )*before$")
        terminal.type(f"{KEYTRAIL} watch --collector {self.query} {' '.join(more)}; echo status $?; stty -g > stty.after")
        self.until(terminal, "^q leaves$")
        self.assertEqual(terminal.state(), (True, False))

    def assert_as_before(self, terminal, status):
        self.until(terminal, rf"^status {status}$")
        self.until(terminal, r"^(\$ )*before$")
        self.assertEqual(terminal.state(), (False, True))
        self.assertNotIn("q leaves", terminal.text())

    def test_agents_and_verdicts_in_place(self):
        terminal = self.terminal(width=100, height=24)
        self.watch(terminal)
        self.until(terminal, "no agent has said hello yet")
        self.investigate()
        self.until(terminal, r"^pd  .* PD is wrong: .* it told tidb1 that region \d+ .*…$")
        lines = self.until(terminal, r"4,962 calls")
        for host in harness.HOSTS:
            self.assertTrue(any(re.match(host + r" .*(ships|quiet) ", line) for line in lines), lines)
        self.assertRegex(lines[0], rf"^keytrail  {re.escape(self.query)}  watched for \d+ s +4,962 calls  [\d,]+/s$")
        self.assertEqual(lines[-1], "q leaves")
        self.assertTrue(all(len(line) <= 100 for line in lines))

    def test_without_flicker(self):
        terminal = self.terminal()
        self.watch(terminal)
        self.investigate()
        self.until(terminal, r"4,962 calls")
        # On a slow host the collector judges while calls still come: what it says in the end stands still.
        told = harness.run([harness.program("keytrail"), "investigate", "--json",
                            *(os.path.join(harness.BUNDLED, "pd_wide", host + ".pcap.zst") for host in harness.HOSTS)])
        for verdict in json.loads(told.stdout)["verdicts"]:
            self.until(terminal, rf" {verdict['occurrences']} certain +PD is wrong: .* region {verdict['region_id']} ")
        before = len(terminal.written())
        first = terminal.lines()[0]
        end = time.monotonic() + PATIENCE
        while terminal.lines()[0] == first:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        time.sleep(3)
        written = terminal.written(before)
        # Once the screen was cleared, at the beginning; from then on only what has changed is written.
        self.assertEqual(len(re.findall(rb"\x1b\[2J|\x1b\[H\x1b\[J", terminal.written())), 1)
        self.assertNotIn(b"PD is wrong", written)
        self.assertNotIn(b"q leaves", written)
        rows = {int(row) for row in re.findall(rb"\x1b\[(\d+);1H", written)}
        agents = {n + 1 for n, line in enumerate(terminal.lines()) if line.split(" ")[0] in harness.HOSTS}
        self.assertIn(1, rows)
        self.assertLessEqual(rows, {1} | agents, written)

    def test_a_frame_is_one_write(self):
        if shutil.which("strace") is None:
            self.skipTest("strace is not installed")
        terminal = self.terminal()
        self.watch(terminal)
        trace = os.path.join(self.scratch, "trace")
        tracer = subprocess.Popen(["strace", "-f", "-e", "trace=write,ppoll", "-p", str(terminal.child()), "-o", trace],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self.investigate()
            self.until(terminal, r"4,962 calls")
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(60)
        with open(trace, encoding="utf-8", errors="replace") as handle:
            calls = re.findall(r"(ppoll|write)\((\d+)?", handle.read())
        frames = "".join("w" if name == "write" and number == "1" else "p" if name == "ppoll" else "" for name, number in calls)
        self.assertIn("w", frames)
        self.assertNotIn("ww", frames)

    def test_sizes(self):
        self.investigate()
        terminal = self.terminal()
        self.watch(terminal)
        self.until(terminal, "PD is wrong")
        for width, height in ((200, 60), (40, 10), (80, 24), (30, 5), (120, 2), (100, 24)):
            terminal.size(width, height)
            if height >= 10:
                self.until(terminal, r"^q leaves$")
                self.until(terminal, "PD is wrong: ")
            self.until(terminal, r"\A.*4,962 calls")
            lines = terminal.lines()
            self.assertLessEqual(len(lines), height)
            self.assertTrue(all(len(line) <= width for line in lines), lines)
        self.assertRegex(terminal.lines()[2], "^agent ")

    def test_keys_and_signals_give_the_terminal_back(self):
        def q(terminal):
            terminal.key("q")

        def interrupt(terminal):
            terminal.key("C-c")

        def terminate(terminal):
            os.kill(terminal.child(), signal.SIGTERM)

        def hang_up(terminal):
            os.kill(terminal.child(), signal.SIGHUP)

        for leave, status in ((q, 0), (interrupt, 0), (terminate, 143), (hang_up, 129)):
            with self.subTest(leave.__name__):
                terminal = self.terminal()
                terminal.type(f"cd {self.scratch}")
                self.watch(terminal)
                leave(terminal)
                self.assert_as_before(terminal, status)
                terminal.type("echo typed")
                self.until(terminal, r"^(\$ )*typed$")
                with open(os.path.join(self.scratch, "stty.before")) as a, open(os.path.join(self.scratch, "stty.after")) as b:
                    self.assertEqual(a.read(), b.read())

    def test_duration_ends_it(self):
        terminal = self.terminal()
        self.watch(terminal, "--duration", "2s")
        self.assert_as_before(terminal, 0)

    def test_suspended_and_resumed(self):
        terminal = self.terminal()
        terminal.type("set -m")
        self.watch(terminal)
        terminal.key("C-z")
        self.until(terminal, r"^(\$ )*before$")
        self.assertEqual(terminal.state(), (False, True))
        terminal.type("echo between; fg")
        self.until(terminal, "^q leaves$")
        self.assertEqual(terminal.state(), (True, False))
        self.until(terminal, r"^(\$ )*between$", wanted=False)
        terminal.key("q")
        self.until(terminal, r"^(\$ )*between$")

    def test_collector_goes_away_and_comes_back(self):
        self.investigate()
        terminal = self.terminal()
        self.watch(terminal)
        self.until(terminal, "PD is wrong")
        self.collectors.pop().end()
        lines = self.until(terminal, r"away for \d+ s")
        self.assertIn("trying again", lines[1])
        self.assertIn("PD is wrong", "\n".join(lines))  # what was known stays
        self.until(terminal, "no collector answers")
        self.start_collector()
        self.until(terminal, r"watched for \d+ s")
        self.until(terminal, "PD is wrong")
        self.until(terminal, "trying again", wanted=False)
        # It leaves at once while it looks for a collector, too.
        self.collectors.pop().end()
        self.until(terminal, "no collector answers")
        began = time.monotonic()
        terminal.key("q")
        self.assert_as_before(terminal, 0)
        self.assertLess(time.monotonic() - began, 30)

    def test_colour_is_asked_for(self):
        self.investigate()
        for environment, arguments, wanted in (({}, (), True), ({"NO_COLOR": "1"}, (), False), ({}, ("--color", "never"), False),
                                               ({"NO_COLOR": "1"}, ("--color", "always"), True)):
            with self.subTest(f"{environment} {arguments}"):
                terminal = self.terminal(**environment)
                self.watch(terminal, *arguments)
                self.until(terminal, "PD is wrong")
                self.assertEqual(re.search(rb"\x1b\[(\d+;)*3[1-7]m", terminal.written()) is not None, wanted)

    def test_names_from_the_network_are_harmless(self):
        evil = "a\x1b]0;title\x07b\x1b[2Jc"
        agent = subprocess.run([AGENT, "-q", "-r", os.path.join(harness.BUNDLED, "pd_wide", "pd1.pcap.zst"), "--collector",
                                self.address, "--agent-name", evil], stderr=subprocess.DEVNULL, timeout=120)
        self.assertEqual(agent.returncode, harness.DONE)
        terminal = self.terminal()
        self.watch(terminal)
        self.until(terminal, r"^a.?\]0;title")
        self.assertNotIn(b"\x1b]0;title", terminal.written())

    def test_lines_where_a_view_cannot_be(self):
        self.investigate()
        ask = [KEYTRAIL, "watch", "--collector", self.query, "--duration", "2s"]
        piped = harness.run(ask)
        self.assertEqual(piped.returncode, harness.DONE)
        self.assertRegex(piped.stdout, r"(?m)^\d\d:\d\d:\d\d  verdict  PD is wrong")
        self.assertNotIn("\x1b", piped.stdout)
        for more, environment in (("--lines", {}), ("", {"term": "dumb"}), ("< /dev/null", {})):
            with self.subTest(f"{more} {environment}"):
                terminal = self.terminal(width=150, **environment)
                terminal.type(f"{' '.join(ask)} {more}; echo status $?")
                lines = self.until(terminal, r"^status 0$")
                self.assertTrue(any(re.match(r"\d\d:\d\d:\d\d  verdict  PD is wrong", line) for line in lines), lines)
                self.assertNotIn(b"\x1b[?1049h", terminal.written())

    def test_nobody_to_watch(self):
        terminal = self.terminal()
        terminal.type(f"{KEYTRAIL} watch --collector 127.0.0.1:{free_port()}; echo status $?")
        self.until(terminal, r"^status 1$")
        self.assertIn("no collector answers", terminal.text())
        self.assertNotIn(b"\x1b[?1049h", terminal.written())


if __name__ == "__main__":
    unittest.main()
