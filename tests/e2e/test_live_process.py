#!/usr/bin/env python3
"""Whose connections are whose: a live capture tells the process at each end that is on this host, by rights that only a
small process beside it keeps; and a capture by a user who has nothing but CAP_NET_RAW.

Needs root: the traffic goes over loopback in a network namespace of the test's own.
"""

import ctypes
import glob
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
import unittest

import harness
from test_live_capture import ADDRESS, PATIENCE, Agent, ip, until
from test_restraint import CLONE_NEWNET

AGENT = harness.program("keytrail-agent")
PORT = 20160
# A client (argument: connect) or server (accept) that sends what the other end of a recorded gRPC connection waits for: the
# payloads of its side, one after the other, each when as much has come as it answers to. Its name is its second argument.
ENDS = r"""
import json, socket, sys, time
role, name, script, hold = sys.argv[1:5]
with open("/proc/self/comm", "w") as comm:
    comm.write(name)
steps = json.load(open(script))
if role == "accept":
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(("127.0.0.1", %d))
    door.listen()
    print("listening", flush=True)
    line, _ = door.accept()
else:
    line = socket.create_connection(("127.0.0.1", %d))
got = 0
for round in range(int(hold)):
    for side, data, before in steps[0 if round == 0 else 1]:
        if side == role:
            line.sendall(bytes.fromhex(data))
        else:
            want = len(data) // 2
            while want:
                part = line.recv(want)
                if not part:
                    sys.exit("the other end has gone")
                want -= len(part)
    time.sleep(0.3)
if role == "connect":
    line.shutdown(socket.SHUT_WR)
while line.recv(65536):
    pass
""" % (PORT, PORT)


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name, value):
    """A header field without indexing (RFC 7541 section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def conversation():
    """[of the beginning, of each further round]: (who sends, bytes in hex, nothing). A health check in each round."""
    stream = [1]

    def call():
        number = stream[0]
        stream[0] += 2
        headers = b"\x83\x86" + literal(b":path", b"/grpc.health.v1.Health/Check") + literal(b":authority", b"kt") + \
            literal(b"content-type", b"application/grpc") + literal(b"te", b"trailers")
        request = frame(1, 4, number, headers) + frame(0, 1, number, b"\0\0\0\0\0")
        answer = frame(1, 4, number, b"\x88" + literal(b"content-type", b"application/grpc")) + \
            frame(0, 0, number, b"\0\0\0\0\2\x08\1") + frame(1, 5, number, literal(b"grpc-status", b"0"))
        return [["connect", request.hex(), 0], ["accept", answer.hex(), 0]]
    settings = frame(4, 0, 0)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings
    return [["connect", preface.hex(), 0], ["accept", settings.hex(), 0]], call


@unittest.skipIf(os.geteuid() != 0, "needs root, to capture in a network namespace of its own")
class Processes(harness.ProgramTest):
    ROUNDS = 6

    @classmethod
    def setUpClass(cls):
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise unittest.SkipTest(f"network namespaces cannot be made here: {os.strerror(ctypes.get_errno())}")
        ip("link set lo up")

    def setUp(self):
        super().setUp()
        os.chmod(self.scratch, 0o755)
        self.started = []
        # Programs that another user may run.
        self.agent_path = os.path.join(self.scratch, "keytrail-agent")
        shutil.copy(AGENT, self.agent_path)
        os.chmod(self.agent_path, 0o755)
        begin, call = conversation()
        steps = [begin + call()]
        # Streams have other numbers in each round, so the script has all of them.
        rounds = [step for _ in range(self.ROUNDS - 1) for step in [call()]]
        self.script = self.write("script.json", json.dumps(steps + rounds).encode())
        os.chmod(self.script, 0o644)

    def tearDown(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        super().tearDown()

    def end_process(self, role, name, user=None):
        code = ENDS.replace("steps[0 if round == 0 else 1]", "steps[round]")
        options = dict(user=user.pw_uid, group=user.pw_gid, extra_groups=[]) if user else {}
        # One that others may run, too.
        python = "/usr/bin/python3" if user else sys.executable
        process = subprocess.Popen([python, "-c", code, role, name, self.script, str(self.ROUNDS)],
                                   stdout=subprocess.PIPE, text=True, **options)
        self.started.append(process)
        if role == "accept":
            self.assertEqual(process.stdout.readline(), "listening\n")
        return process

    def agent(self, *arguments, **options):
        agent = Agent(self.scratch, *arguments, **options)
        self.started.append(agent.process)
        agent.wait_for("runs as")
        return agent

    def talk(self, user=None):
        """(the server's and the client's process id)."""
        server = self.end_process("accept", "kt-server", user)
        client = self.end_process("connect", "kt-client")
        for process in (client, server):
            self.assertEqual(process.wait(PATIENCE), 0)
            process.stdout.close()
        return server.pid, client.pid

    def calls(self, agent):
        return [r for r in agent.lines() if r["kind"] == "unary"]

    def children(self, agent):
        with open(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children", encoding="ascii") as handle:
            return handle.read().split()

    def status(self, pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as handle:
            return dict(line.rstrip("\n").split(":\t", 1) for line in handle if ":\t" in line)

    def test_both_ends_are_named(self):
        """The server belongs to somebody else than the agent becomes."""
        nobody = pwd.getpwnam("nobody")
        environment = dict(os.environ, KEYTRAIL_USER="nobody")
        agent = self.agent("-i", "lo", "--json", "-v", env=environment)
        lookup, = self.children(agent)
        status = self.status(lookup)
        self.assertEqual(set(status["Uid"].split()), {str(nobody.pw_uid)})
        # CAP_DAC_READ_SEARCH is 2, CAP_SYS_PTRACE is 19.
        self.assertEqual({status[kind] for kind in ("CapPrm", "CapEff")}, {f"{1 << 2 | 1 << 19:016x}"})
        self.assertEqual({status[kind] for kind in ("CapInh", "CapBnd", "CapAmb")}, {"0" * 16})
        self.assertEqual((status["NoNewPrivs"], status["Threads"]), ("1", "1"))
        self.assertEqual(status["Seccomp"], self.status(agent.process.pid)["Seccomp"])
        # The socket to the agent and the one that asks the kernel: nothing else of it.
        self.assertEqual({os.readlink(p).split(":")[0] for p in glob.glob(f"/proc/{lookup}/fd/*") if int(p.rsplit("/", 1)[1]) > 2},
                         {"socket"})
        server, client = self.talk()
        until(lambda: len(self.calls(agent)) == self.ROUNDS, agent.words())
        agent.end()
        calls = self.calls(agent)
        self.assertEqual({c["method"] for c in calls}, {"/grpc.health.v1.Health/Check"})
        named = [c for c in calls if "client_process" in c]
        self.assertGreaterEqual(len(named), 2)
        for call in named:
            self.assertEqual(call["client_process"], {"pid": client, "name": "kt-client"})
            self.assertEqual(call["server_process"], {"pid": server, "name": "kt-server"})
        self.assertIn(f"127.0.0.1:{PORT} is process {server} (kt-server)", agent.words())
        self.assertFalse(os.path.exists(f"/proc/{lookup}"))

    def test_without_rights_nobody_elses(self):
        """A user with CAP_NET_RAW alone: captures and ships, and finds its own processes, no others."""
        nobody = pwd.getpwnam("nobody")
        data = os.path.join(self.scratch, "data")
        collector = subprocess.Popen([harness.program("keytrail-collector"), "--listen", ADDRESS, "--query", "none", "--data",
                                      data], stderr=subprocess.DEVNULL)
        self.started.append(collector)
        harness.wait_listening(collector, ADDRESS)
        environment = {k: v for k, v in os.environ.items() if k != "KEYTRAIL_USER"}
        words = ["setpriv", "--reuid", "nobody", "--regid", str(nobody.pw_gid), "--clear-groups", "--inh-caps=-all,+net_raw",
                 "--ambient-caps=-all,+net_raw", "--bounding-set=-all,+net_raw", self.agent_path]
        told = os.path.join(self.scratch, "told")
        agents = []
        for n, more in enumerate((["--json"], ["--collector", ADDRESS, "--agent-name", "bare"])):
            out, err = f"{told}{n}.out", f"{told}{n}.err"
            with open(out, "wb") as o, open(err, "wb") as e:
                process = subprocess.Popen([*words, "-i", "lo", "-v", *more], stdout=o, stderr=e, env=environment)
            self.started.append(process)
            agents.append((process, out, err))

        def read(path):
            with open(path, encoding="utf-8") as handle:
                return handle.read()
        for _, _, err in agents:
            until(lambda path=err: "runs as 'nobody' without capabilities" in read(path), read(err))
            self.assertIn("of processes only those of user 'nobody' are found", read(err))
        server, _ = self.talk(user=nobody)

        def calls():
            return [r for r in map(json.loads, read(agents[0][1]).split("\n")[:-1]) if r["kind"] == "unary"]
        until(lambda: len(calls()) == self.ROUNDS, read(agents[0][2]))
        time.sleep(0.5)
        for process, _, err in agents:
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(PATIENCE), harness.DONE, read(err))
        named = [c for c in calls() if "server_process" in c]
        self.assertGreaterEqual(len(named), 2)
        for call in named:
            self.assertEqual(call["server_process"], {"pid": server, "name": "kt-server"})
        self.assertFalse([c for c in calls() if "client_process" in c])
        collector.send_signal(signal.SIGTERM)
        self.assertEqual(collector.wait(PATIENCE), harness.DONE)

        def ask(sql):
            got = harness.run([harness.program("keytrail"), "sql", "--db", data, "--format", "csv", "-e", sql])
            return got.stdout.split()[1:]
        self.assertEqual(ask("select count(*) from calls where method = '/grpc.health.v1.Health/Check'"), [str(self.ROUNDS)])
        self.assertEqual(ask("select distinct client_process, server_process, client_pid, server_pid from connections"
                             " where server_process is not null or client_process is not null"), [f",kt-server,,{server}"])
        self.assertGreaterEqual(int(ask("select count(server_process) from calls")[0]), 2)

    def test_a_socket_of_two_processes_has_no_name(self):
        agent = self.agent("-i", "lo", "--json", "-v")
        server = self.end_process("accept", "kt-server")
        code = ENDS.replace("steps[0 if round == 0 else 1]", "steps[round]").replace(
            "got = 0\n", "got = 0\nimport os, signal\nchild = os.fork()\nif child == 0:\n    signal.pause()\n") + \
            "\nos.kill(child, 9)\n"
        client = subprocess.Popen([sys.executable, "-c", code, "connect", "kt-client", self.script, str(self.ROUNDS)])
        self.started.append(client)
        self.assertEqual((client.wait(PATIENCE)), 0)
        until(lambda: len(self.calls(agent)) == self.ROUNDS, agent.words())
        agent.end()
        calls = self.calls(agent)
        self.assertTrue([c for c in calls if c.get("server_process", {}).get("pid") == server.pid])
        self.assertFalse([c for c in calls if "client_process" in c])
        server.kill()
        server.stdout.close()

    def test_not_asked_for(self):
        agent = self.agent("-i", "lo", "--json", "-v", "--no-processes")
        self.assertEqual(self.children(agent), [])
        self.talk()
        until(lambda: len(self.calls(agent)) == self.ROUNDS, agent.words())
        agent.end()
        self.assertFalse([c for c in self.calls(agent) if "client_process" in c or "server_process" in c])

    def test_it_ends_with_an_agent_that_is_killed(self):
        agent = self.agent("-i", "lo", "--json", "-v")
        lookup, = self.children(agent)
        agent.process.kill()
        agent.process.wait()

        def over():
            # Who adopts it may not have asked for its status yet.
            return not os.path.exists(f"/proc/{lookup}") or self.status(lookup)["State"].startswith("Z")
        until(over, "it goes on")


if __name__ == "__main__":
    unittest.main()
