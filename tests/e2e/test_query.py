#!/usr/bin/env python3
"""SQL of users, on a file and through a collector: what is refused, what is stopped, and that both give the same."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import time
import unittest

import harness
from test_ship import free_port

ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"

# (statement, what the refusal names)
DOORS = (
    ("insert into benign values ('x', 1)", "INSERT"),
    ("replace into benign values ('x', 1)", "REPLACE"),
    ("update agents set name = 'x'", "UPDATE"),
    ("delete from call_rows", "DELETE"),
    ("delete from calls", "DELETE"),
    ("with x as (select 1) delete from call_rows", "DELETE from call_rows"),
    ("drop table call_rows", "DROP TABLE"),
    ("create table t (a)", "CREATE TABLE"),
    ("create temp table t (a)", "CREATE TEMP"),
    ("alter table agents rename to x", "ALTER TABLE"),
    ("pragma user_version = 7", "PRAGMA user_version"),
    ("pragma journal_mode = delete", "PRAGMA journal_mode"),
    ("pragma writable_schema = 1", "PRAGMA writable_schema"),
    ("pragma query_only = 0", "PRAGMA query_only"),
    ("attach '{other}' as o", "ATTACH"),
    ("vacuum", "VACUUM"),
    ("vacuum into '{other}'", "VACUUM INTO"),
    ("select load_extension('{other}')", "function load_extension()"),
    ("select writefile('{other}', 'x')", "function writefile()"),
    ("select readfile('/etc/hostname')", "function readfile()"),
    ("select edit('x')", "function edit()"),
    ("begin", "BEGIN"),
    ("savepoint x", "SAVEPOINT"),
    ("reindex", "REINDEX"),
)


class RunningCollector:
    """A keytrail-collector that answers queries, with the captures of a scenario in it."""

    def __init__(self, folder):
        self.listen = f"tcp://127.0.0.1:{free_port()}"
        self.query = f"127.0.0.1:{free_port()}"
        self.data = os.path.join(folder, "data")
        self.database = os.path.join(self.data, "keytrail.db")
        self.errors = open(os.path.join(folder, "collector.stderr"), "w+b")
        self.process = subprocess.Popen(
            [harness.program("keytrail-collector"), "--listen", self.listen, "--query", self.query, "--data", self.data],
            stdout=subprocess.DEVNULL, stderr=self.errors)
        harness.wait_listening(self.process, self.listen)
        harness.wait_listening(self.process, "tcp://" + self.query)

    def ship(self, scenario):
        for host in harness.HOSTS:
            result = harness.run([harness.program("keytrail-agent"), "-r", harness.capture(scenario, host), "-q",
                                  "--collector", self.listen, "--agent-name", host, "--role", host[:-1]])
            if result.returncode not in (harness.DONE, harness.INCOMPLETE):
                raise AssertionError(result.stderr)

    def ask(self, command, *more):
        return harness.run([harness.program("keytrail"), command, "--collector", self.query, *more])

    def stats(self):
        return json.loads(self.ask("agents", "--json").stdout)["queries"]

    def wait_for(self, condition):
        """Until the service's own numbers fulfil `condition`; ctest ends what never comes."""
        while True:
            stats = self.stats()
            if condition(stats):
                return stats
            time.sleep(0.05)

    def wait_judged(self, calls):
        while True:
            result = self.ask("verdicts", "--json")
            if result.returncode == harness.DONE and json.loads(result.stdout)["calls"] >= calls:
                return
            time.sleep(0.1)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=60)
        self.errors.close()
        return status


class Query(harness.ProgramTest):
    @classmethod
    def setUpClass(cls):
        import tempfile
        cls.folder = tempfile.TemporaryDirectory()
        scenario = next(s for s in harness.scenarios() if s.name == "pd_wide")
        cls.file = os.path.join(cls.folder.name, "i.db")
        report, _ = harness.investigate(["--db", cls.file] +
                                        [f"{host}={harness.capture(scenario, host)}" for host in harness.HOSTS])
        cls.collector = RunningCollector(cls.folder.name)
        cls.collector.ship(scenario)
        cls.collector.wait_judged(report["calls"])

    @classmethod
    def tearDownClass(cls):
        status = cls.collector.stop()
        cls.folder.cleanup()
        if status != harness.DONE:
            raise AssertionError(f"the collector ended with {status}")

    def on_file(self, command, *more):
        return harness.run([harness.program("keytrail"), command, "--db", self.file, *more])

    def both(self):
        return (("file", self.on_file), ("collector", self.collector.ask))

    def test_every_door_is_shut_and_says_so(self):
        other = os.path.join(self.scratch, "other")
        for where, ask in self.both():
            calls = ask("sql", "-e", "select count(*) n from calls", "--format", "csv").stdout
            for statement, what in DOORS:
                result = ask("sql", "-e", statement.format(other=other))
                self.assertEqual(result.returncode, harness.FAILED, (where, statement))
                self.assertEqual(result.stderr, f"keytrail: sql: only reading is allowed: {what} is refused\n",
                                 (where, statement))
                self.assertEqual(result.stdout, "")
            self.assertFalse(os.path.exists(other))
            self.assertEqual(ask("sql", "-e", "select count(*) n from calls", "--format", "csv").stdout, calls)

    def test_a_runaway_is_stopped(self):
        for where, ask in self.both():
            result = ask("sql", "-e", ENDLESS, "--timeout", "200ms")
            self.assertEqual(result.returncode, harness.FAILED, where)
            self.assertIn("stopped after 0.2 s, its time limit", result.stderr)
            result = ask("sql", "-e", "select a.id from calls a, calls b, calls c", "--limit", "2500", "--format", "csv")
            self.assertEqual(result.returncode, harness.INCOMPLETE, where)
            self.assertIn("stopped after 2500 rows, the limit; there are more", result.stderr)
            self.assertEqual(len(result.stdout.splitlines()), 2501)
            result = ask("sql", "-e", "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000)"
                         " select zeroblob(1000000) || i as b from n order by b", "--format", "csv")
            self.assertEqual(result.returncode, harness.FAILED, where)
            self.assertIn("it needs more than 256 MiB of memory", result.stderr)

    def test_a_query_ends_with_its_client(self):
        before = self.collector.stats()
        client = subprocess.Popen([harness.program("keytrail"), "sql", "--collector", self.collector.query, "-e", ENDLESS,
                                   "--timeout", "5m"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.collector.wait_for(lambda s: s["running"] == 1)
        client.kill()
        client.wait()
        stats = self.collector.wait_for(lambda s: s["running"] == 0)
        self.assertEqual(stats["cancelled"], before["cancelled"] + 1)
        self.assertEqual(stats["timed_out"], before["timed_out"])

    def test_a_client_whose_output_is_closed_ends(self):
        with subprocess.Popen([harness.program("keytrail"), "sql", "--collector", self.collector.query, "--format", "csv",
                               "-e", "select a.id, b.id from calls a, calls b"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as client:
            self.assertEqual(client.stdout.readline(), b"id,id\n")
            client.stdout.close()
            self.assertEqual(client.wait(timeout=60), harness.FAILED)
        self.collector.wait_for(lambda s: s["running"] == 0)

    def test_file_and_collector_give_the_same(self):
        for arguments in (["sql", "-e", "select client, server, method, command, count(*) n, min(req_first_ns) t, "
                           "max(hex(trace_id)) h, avg(latency_ns) a from calls group by 1, 2, 3, 4 order by 1, 2, 3, 4",
                           "--format", "json"],
                          ["sql", "--named", "slowest-requests", "--param", "limit=50", "--format", "csv"],
                          ["sql", "--named", "routes-of-region", "--param", "region=12", "--format", "json"]):
            file, collector = self.on_file(*arguments), self.collector.ask(*arguments)
            self.assertEqual(file.returncode, harness.DONE, file.stderr)
            self.assertEqual(collector.returncode, harness.DONE, collector.stderr)
            if "csv" in arguments:  # rows have ids, which depend on who came first
                cut = lambda text: sorted(line.rsplit(",", 1)[0] for line in text.splitlines())
                self.assertEqual(cut(file.stdout), cut(collector.stdout))
            elif "routes-of-region" in arguments:
                cut = lambda text: sorted(str({k: v for k, v in row.items() if k != "call_id"}) for row in json.loads(text))
                self.assertEqual(cut(file.stdout), cut(collector.stdout))
            else:
                self.assertEqual(json.loads(file.stdout), json.loads(collector.stdout))
            self.assertGreater(len(file.stdout.splitlines()), 10)

    def test_verdicts_through_the_collector(self):
        here = self.collector.ask("verdicts", "--json")
        there = harness.run([harness.program("keytrail"), "verdicts", "--db", self.collector.database, "--json"])
        self.assertEqual(here.returncode, harness.DONE, here.stderr)
        self.assertEqual(here.stdout, there.stdout)
        self.assertEqual({v["component"] for v in json.loads(here.stdout)["verdicts"]}, {"pd"})
        self.assertEqual(self.collector.ask("verdicts").stdout,
                         harness.run([harness.program("keytrail"), "verdicts", "--db", self.collector.database]).stdout)

    def test_agents_and_losses(self):
        expected = {}
        scenario = next(s for s in harness.scenarios() if s.name == "pd_wide")
        late, unread = set(), {}
        for host in harness.HOSTS:
            records, _, _ = harness.agent_json(harness.capture(scenario, host))
            expected[host] = len(records)
            if any(record["joined"] == "late" for record in records):
                late.add(host)
            nameless = [r for r in records if r["kind"] != "stream" and r["method_from"] == "unknown"]
            if nameless:
                unread[host] = len(nameless)
        self.assertTrue(unread)
        for where, ask in self.both():
            result = ask("agents", "--json")
            self.assertEqual(result.returncode, harness.DONE, result.stderr)
            report = json.loads(result.stdout)
            self.assertEqual({a["host"]: a["records"] for a in report["agents"]}, expected, where)
            self.assertEqual(report["queries"] is None, where == "file")
            losses = json.loads(ask("losses", "--json").stdout)["losses"]
            self.assertEqual({l["host"] for l in losses if l["kind"] == "late_join"}, late, where)
            nameless = [l for l in losses if l["kind"] == "method_unread"]
            self.assertEqual({l["host"]: l["count"] for l in nameless}, unread, where)
            for loss in nameless:
                self.assertLess(loss["first_ns"], loss["last_ns"])
                self.assertIn("whose method nobody could name", loss["meaning"])
            judged = json.loads(ask("verdicts", "--json").stdout)["losses"]
            self.assertEqual({l["host"]: l["count"] for l in judged if l["kind"] == "method_unread"}, unread, where)
            self.assertIn("whose method nobody could name", ask("losses").stdout)
            self.assertIn("connections that were open before the capture", ask("losses").stdout)
            self.assertIn("tikv1", ask("agents").stdout)

    def test_watch(self):
        for where, ask in self.both():
            result = ask("watch", "--json", "--duration", "1500ms")
            self.assertEqual(result.returncode, harness.DONE, result.stderr)
            events = [json.loads(line) for line in result.stdout.splitlines()]
            self.assertEqual({e["agent"]["host"] for e in events if e["event"] == "agent"}, set(harness.HOSTS), where)
            self.assertTrue(all(e["change"] == "new" for e in events if e["event"] == "verdict"))
            self.assertTrue(any(e["event"] == "verdict" for e in events))
            self.assertTrue(any(e["event"] == "rates" for e in events))
            lines = ask("watch", "--duration", "300ms").stdout
            self.assertIn("PD is wrong", lines)
            self.assertNotIn("\x1b", lines)

    def test_a_script_on_standard_input(self):
        script = ("-- how many; not much\nselect count(*) as n\nfrom benign where name = ';';\n.mode csv\n"
                  "select 1 as a; select 2 as b;\nselect 'last' as c")
        for where, ask in self.both():
            arguments = ["--db", self.file] if where == "file" else ["--collector", self.collector.query]
            result = harness.run([harness.program("keytrail"), "sql", *arguments], input=script)
            self.assertEqual(result.returncode, harness.DONE, result.stderr)
            self.assertEqual(result.stdout, "n\n-\n0\na\n1\nb\n2\nc\nlast\n")
            result = harness.run([harness.program("keytrail"), "sql", *arguments], input="select 1;\nselec;\nselect 3;\n")
            self.assertEqual(result.returncode, harness.FAILED)
            self.assertNotIn("3", result.stdout)

    def test_wrong_usage(self):
        keytrail = harness.program("keytrail")
        def status(*arguments):
            result = harness.run([keytrail, *arguments])
            return result.returncode, result.stderr
        self.assertEqual(status("sql", "--db", self.file, "--collector", self.collector.query)[0], harness.USAGE)
        self.assertEqual(status("sql", "--db", self.file, "--timeout", "soon")[0], harness.USAGE)
        self.assertEqual(status("sql", "--db", self.file, "-e", "select 1", "--named", "stores")[0], harness.USAGE)
        self.assertEqual(status("sql", "--db", self.file, "-e", "select :a", "--param", "a")[0], harness.USAGE)
        code, words = status("sql", "--collector", f"127.0.0.1:{free_port()}", "-e", "select 1")
        self.assertEqual(code, harness.FAILED)
        self.assertIn("no collector answers at 127.0.0.1:", words)
        code, words = status("agents", "--collector", "192.0.2.1:7451")
        self.assertEqual(code, harness.FAILED)
        self.assertIn("without TLS", words)
        code, words = status("sql", "--db", self.file, "--named", "evidence")
        self.assertEqual(code, harness.FAILED)
        self.assertIn("verdict=N", words)

    def test_collector_refuses_other_addresses(self):
        def refused(address):
            result = harness.run([harness.program("keytrail-collector"), "--data", os.path.join(self.scratch, "d"),
                                  "--listen", f"tcp://127.0.0.1:{free_port()}", "--query", address], timeout=60)
            return result.returncode, result.stderr
        for address in ("0.0.0.0:7451", "192.0.2.1:7451", "[::]:7451"):
            status, words = refused(address)
            self.assertEqual(status, harness.USAGE, address)
            self.assertIn("without TLS", words)
        self.assertEqual(refused("nonsense")[0], harness.USAGE)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            status, words = refused(f"127.0.0.1:{taken.getsockname()[1]}")
        self.assertEqual(status, harness.FAILED)
        self.assertIn("Address already in use", words)


class Shell(harness.ProgramTest):
    """`keytrail sql` on a terminal."""

    def setUp(self):
        super().setUp()
        scenario = next(s for s in harness.scenarios() if s.name == "pd_wide")
        self.file = os.path.join(self.scratch, "i.db")
        harness.investigate(["--db", self.file, harness.capture(scenario, "pd1")])
        self.state = os.path.join(self.scratch, "state")
        self.pid = 0
        try:
            self.pid, self.terminal = pty.fork()
        except OSError as error:
            self.skipTest(f"this machine has no pseudo terminals (/dev/pts): {error}")
        if self.pid == 0:
            os.environ.update(TERM="xterm", XDG_STATE_HOME=self.state, PAGER="cat", NO_COLOR="1", LC_ALL="C.UTF-8")
            os.execv(harness.program("keytrail"), ["keytrail", "sql", "--db", self.file])
        self.seen = ""

    def tearDown(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.terminal)
        super().tearDown()

    def expect(self, text):
        """Reads until `text` came; what came before it is dropped."""
        end = time.monotonic() + 60
        while text not in self.seen:
            ready, _, _ = select.select([self.terminal], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"{text!r} did not come, but {self.seen!r}")
            try:
                self.seen += os.read(self.terminal, 65536).decode("utf-8", "replace")
            except OSError as error:  # the other end is closed
                raise AssertionError(f"{text!r} did not come, but {self.seen!r}") from error
        self.seen = self.seen[self.seen.index(text) + len(text):]

    def rest(self):
        """Reads until the other end is closed."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            ready, _, _ = select.select([self.terminal], [], [], max(0, end - time.monotonic()))
            try:
                data = os.read(self.terminal, 65536) if ready else b""
            except OSError:
                break
            if not data:
                break
            self.seen += data.decode("utf-8", "replace")
        return self.seen

    def type(self, text):
        os.write(self.terminal, text.encode())

    def test_a_session(self):
        self.expect("keytrail> ")
        self.type("select 'tw' ||\n")
        self.expect("...> ")
        self.type("'o' as words;\n")
        self.expect("two")
        self.expect("keytrail> ")
        self.type("select 'naïve →' as word;\n")
        self.expect("naïve →\r\n")
        self.expect("keytrail> ")
        # Completion: a table, and a column of it.
        self.type("select joine\tfrom conne\tlimit 1;\n")
        self.expect("joined\r\n------\r\n")
        self.expect("1 row")
        self.type(".schema lookups\n")
        self.expect("latency_ns")
        self.expect("keytrail> ")
        # Ctrl-C stops the query, not the shell.
        self.type(ENDLESS + ";\n")
        self.expect("from n;")
        time.sleep(0.2)
        self.type("\x03")
        self.expect("cancelled")
        self.expect("keytrail> ")
        self.type("delete from calls;\n")
        self.expect("only reading is allowed: DELETE is refused")
        # Ctrl-C in the middle of a statement forgets it.
        self.type("select nonsense\n")
        self.expect("...> ")
        self.type("\x03")
        self.expect("keytrail> ")
        self.type(".limit 1\n")
        self.type("select id from calls;\n")
        self.expect("stopped after 1 rows")
        self.type(".quit\n")
        last_words = self.rest()
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        self.assertEqual(os.waitstatus_to_exitcode(status), harness.DONE, last_words)
        history = os.path.join(self.state, "keytrail", "sql_history")
        self.assertEqual(os.stat(history).st_mode & 0o777, 0o600)
        self.assertEqual(os.stat(os.path.dirname(history)).st_mode & 0o777, 0o700)
        with open(history, encoding="utf-8") as handle:
            self.assertIn("delete", handle.read())


if __name__ == "__main__":
    unittest.main()
