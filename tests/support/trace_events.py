"""What a trace viewer makes of trace-event JSON: the rules of Perfetto's JSON importer, written down as checks.

Events are taken by time, those of one time in the order of the file. A slice ("X") goes on the stack of its thread; slices
that have ended are taken off first; one that begins within another and ends after it cannot be drawn. A flow event belongs
to the slice on top of its thread's stack at that moment. Flows are told apart by id, category and name.
"""

import collections
import json


class Trace:
    def __init__(self, text):
        document = json.loads(text)
        self.document = document
        self.events = document["traceEvents"]
        self.problems = []
        self.slices = []          # X events, each with "parent": position or None
        self.flows = collections.defaultdict(list)  # (cat, name, id) -> [(phase, position in slices)]
        self.process_names, self.thread_names, self.thread_process = {}, {}, {}
        self._read()

    def _read(self):
        stacks = collections.defaultdict(list)
        last = None
        for event in self.events:
            phase = event["ph"]
            if phase == "M":
                if event["name"] == "process_name":
                    self.process_names[event["pid"]] = event["args"]["name"]
                if event["name"] == "thread_name":
                    self.thread_names[event["tid"]] = event["args"]["name"]
                    self.thread_process[event["tid"]] = event["pid"]
                continue
            ns = self.ns(event["ts"])
            if ns < 0:
                self.problems.append(f"before the origin: {event}")
            if last is not None and ns < last:
                self.problems.append(f"not in order of time: {event}")
            last = ns
            stack = stacks[event["tid"]]
            if phase == "X":
                self._slice(event, ns, stack)
            elif phase in "stf":
                self._flow(event, stack)
            elif phase == "i":
                if event["s"] not in "tpg":
                    self.problems.append(f"no scope: {event}")
            else:
                self.problems.append(f"unknown phase: {event}")
        self._check_flows()

    @staticmethod
    def ns(micros):
        return int(micros * 1000)  # cut off, as the importer does

    def _slice(self, event, ns, stack):
        end = ns + self.ns(event["dur"])
        while stack and stack[-1][1] <= ns:
            stack.pop()
        if stack and stack[-1][1] < end:
            self.problems.append(f"overlaps its neighbour without lying within it: {event}")
            return
        if self.thread_process.get(event["tid"]) != event["pid"]:
            self.problems.append(f"a thread of no process, or of another: {event}")
        self.slices.append(dict(event, begin=ns, end=end, parent=stack[-1][0] if stack else None))
        stack.append((len(self.slices) - 1, end))

    def _flow(self, event, stack):
        if not stack:
            self.problems.append(f"belongs to no slice: {event}")
            return
        if event["ph"] == "f" and event.get("bp") != "e":
            self.problems.append(f"would belong to the next slice: {event}")
        self.flows[event["cat"], event["name"], event["id"]].append((event["ph"], stack[-1][0]))

    def _check_flows(self):
        ids = [key[2] for key in self.flows]
        if len(ids) != len(set(ids)):
            self.problems.append("one id for two flows")
        for key, steps in self.flows.items():
            phases = "".join(phase for phase, _ in steps)
            if not (len(phases) >= 2 and phases[0] == "s" and phases[-1] == "f" and set(phases[1:-1]) <= {"t"}):
                self.problems.append(f"flow {key} has {phases}")
            times = [self.slices[position]["begin"] for _, position in steps]
            if times != sorted(times):
                self.problems.append(f"flow {key} goes back in time")

    def calls(self):
        return [s for s in self.slices if s["cat"] == "call"]
