"""What the tests of the built programs share: where the programs and the captures are, and how to run them.

KEYTRAIL_BIN           folder of keytrail-agent, keytrail-collector and keytrail (default build/release/bin)
KEYTRAIL_SHARED_DATA   folder with cluster/ and generated/ (default ../shared/data beside the repository);
                       without it the tests run on tests/data alone and say so
KEYTRAIL_BUNDLED_ONLY  set: as if the large captures were absent
"""

import collections
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest

REPOSITORY = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(REPOSITORY, "tests", "support"))

# The folders of these tests are root's where root runs them; test_privileges.py has other ones.
if os.geteuid() == 0:
    os.environ.setdefault("KEYTRAIL_USER", "root")

BIN = os.path.realpath(os.environ.get("KEYTRAIL_BIN", os.path.join(REPOSITORY, "build", "release", "bin")))
BUNDLED = os.path.join(REPOSITORY, "tests", "data")
PROTO = os.path.join(REPOSITORY, "proto", "kvproto")
HOSTS = ("tidb1", "tidb2", "pd1", "tikv1")

DONE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 3

# The numbers of the BatchCommands oneof (tikvpb.BatchCommandsRequest.Request), by which truth.json of the
# large captures counts.
SUB_COMMANDS = {
    "1": "Get", "2": "Scan", "3": "Prewrite", "4": "Commit", "5": "Import", "6": "Cleanup", "7": "BatchGet",
    "8": "BatchRollback", "9": "ScanLock", "10": "ResolveLock", "11": "GC", "12": "DeleteRange", "13": "RawGet",
    "14": "RawBatchGet", "15": "RawPut", "16": "RawBatchPut", "17": "RawDelete", "18": "RawBatchDelete",
    "19": "RawScan", "20": "RawDeleteRange", "21": "RawBatchScan", "22": "Coprocessor", "23": "PessimisticLock",
    "24": "PessimisticRollback", "25": "CheckTxnStatus", "26": "TxnHeartBeat", "33": "CheckSecondaryLocks",
    "34": "RawCoprocessor", "35": "FlashbackToVersion", "36": "PrepareFlashbackToVersion", "37": "Flush",
    "38": "BufferBatchGet", "39": "GetHealthFeedback", "40": "BroadcastTxnStatus", "255": "Empty",
}


def shared_data():
    """The folder of the large captures, or None."""
    if os.environ.get("KEYTRAIL_BUNDLED_ONLY"):
        return None
    folder = (os.environ.get("KEYTRAIL_SHARED_DATA") or os.environ.get("KEYTRAIL_DEFAULT_SHARED_DATA") or
              os.path.join(REPOSITORY, "..", "shared", "data"))
    return os.path.realpath(folder) if os.path.isdir(os.path.join(folder, "cluster")) else None


Scenario = collections.namedtuple("Scenario", "name folder truth large")


def scenarios():
    """The bundled scenarios and, if they are there, the large ones."""
    tops = [(BUNDLED, False)]
    large = shared_data()
    if large:
        tops.append((os.path.join(large, "cluster"), True))
    else:
        print("without the large captures (KEYTRAIL_SHARED_DATA): tests/data alone is tested", flush=True)
    found = []
    for top, is_large in tops:
        for name in sorted(os.listdir(top)):
            truth = os.path.join(top, name, "truth.json")
            if os.path.exists(truth):
                with open(truth, encoding="utf-8") as handle:
                    found.append(Scenario(name, os.path.join(top, name), json.load(handle), is_large))
    return found


def capture(scenario, host):
    return os.path.join(scenario.folder, host + ".pcap.zst")


def program(name):
    return os.path.join(BIN, name)


def run(arguments, timeout=600, **options):
    """A finished process with text in stdout and stderr."""
    environment = dict(os.environ, TZ="UTC", NO_COLOR="1")
    return subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                          env=environment, encoding="utf-8", errors="replace", **options)


def agent_json(path, *more):
    """(records, summary, exit status) of keytrail-agent -r PATH --json."""
    result = run([program("keytrail-agent"), "-r", path, "--json", *more])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    if not lines or lines[-1]["kind"] != "summary":
        raise AssertionError(f"{path}: no summary; exit status {result.returncode}; {result.stderr}")
    return lines[:-1], lines[-1], result.returncode


def investigate(files, *more):
    """(report object, exit status) of keytrail investigate --json."""
    result = run([program("keytrail"), "investigate", "--json", *more, *files])
    if result.returncode not in (DONE, INCOMPLETE):
        raise AssertionError(f"investigate {files}: exit status {result.returncode}: {result.stderr}")
    return json.loads(result.stdout), result.returncode


def wait_listening(process, address, seconds=60):
    """Returns when `process` takes connections at tcp://HOST:PORT. Before that a signal can come so early that no
    program could have asked for it yet, and it ends the process as the system's default says."""
    host, port = address[len("tcp://"):].rsplit(":", 1)
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens at {address}; exit status {process.poll()}")


def unpacked(path, folder):
    """A plain copy of a .zst capture in `folder`."""
    import pcap_file
    target = os.path.join(folder, os.path.basename(path)[:-len(".zst")])
    with open(target, "wb") as handle:
        handle.write(pcap_file.load(path))
    return target


class ProgramTest(unittest.TestCase):
    """A test with a scratch folder, `self.scratch`."""

    maxDiff = 4000

    def setUp(self):
        self._scratch = tempfile.TemporaryDirectory()
        self.scratch = self._scratch.name

    def tearDown(self):
        self._scratch.cleanup()

    def write(self, name, data):
        path = os.path.join(self.scratch, name)
        with open(path, "wb") as handle:
            handle.write(data)
        return path



