"""Hosts as network namespaces on one Ethernet switch, made and removed by a test. Needs root, iproute2 and util-linux.

Each namespace is held by a process that reads from a pipe: no name below /var/run is needed, and when the test ends, however
that happens, the pipe, the process and the namespace end too. A host's device is called eth0; the switch is a bridge in a
namespace of its own. A bad link (bad_link.py) may stand between the switch and a host.
"""

import os
import subprocess
import time

from bad_link import BadLink


def impossible():
    """Why no network can be made here, or None."""
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    for words in (["unshare", "--net", "true"], ["unshare", "--net", "ip", "link", "add", "kt0", "type", "bridge"]):
        try:
            tried = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        except OSError as problem:
            return f"no network namespaces here: {problem}"
        if tried.returncode:
            return f"no network namespaces here: {' '.join(words)}: {tried.stdout.strip()}"
    return None if os.path.exists("/dev/net/tun") else "no /dev/net/tun here"


class Host:
    """One namespace. `prefix` stands before a command that shall run in it."""

    def __init__(self, name):
        self.name, self.address = name, None
        self.holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.pid = self.holder.pid
        self.prefix = ["nsenter", f"--net=/proc/{self.pid}/ns/net"]
        ours = os.readlink("/proc/self/ns/net")
        end = time.monotonic() + 60
        while os.readlink(f"/proc/{self.pid}/ns/net") == ours:
            if self.holder.poll() is not None or time.monotonic() > end:
                raise OSError(f"no namespace for {name}")
            time.sleep(0.005)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *arguments):
        return subprocess.run([*self.prefix, *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True).stdout

    def programs(self):
        """{process id: its first words} of all that runs in it, but for its holder."""
        here = os.readlink(f"/proc/{self.pid}/ns/net")
        found = {}
        for number in filter(str.isdigit, os.listdir("/proc")):
            try:
                if int(number) != self.pid and os.readlink(f"/proc/{number}/ns/net") == here:
                    with open(f"/proc/{number}/cmdline", "rb") as handle:
                        found[int(number)] = handle.read().replace(b"\0", b" ")[:200].decode()
            except OSError:  # it has ended
                pass
        return found

    def end(self):
        self.holder.stdin.close()
        self.holder.wait()


class Network:
    """A switch with hosts at NET.x/24."""

    def __init__(self, net, seed):
        self.net, self.seed = net, seed
        self.hosts, self.links = {}, {}
        self.switch = Host("switch")
        self.switch.run("ip", "link", "add", "br0", "type", "bridge")
        self.switch.run("ip", "link", "set", "br0", "up")

    def add(self, name, last, weather=None):
        """A host; with `weather` behind a bad link (links[name]), whose weather may be changed."""
        host = self.hosts[name] = Host(name)
        host.address = f"{self.net}.{last}"
        port = f"port{last}"
        if weather is None:
            self.switch.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
            host.run("ip", "addr", "add", f"{host.address}/24", "dev", "eth0")
            host.run("ip", "link", "set", "eth0", "up")
        else:
            self.links[name] = BadLink((self.switch.pid, host.pid), (port, "eth0"), (None, f"{host.address}/24"), weather,
                                       self.seed + last)
        self.switch.run("ip", "link", "set", port, "master", "br0", "up")
        return host

    def close(self):
        for link in self.links.values():
            link.close()
        for host in (*self.hosts.values(), self.switch):
            host.end()
