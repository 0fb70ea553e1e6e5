#!/usr/bin/env python3
"""keytrail timeline: what it shows is what the database holds, in an order that can be, and fit for a terminal and a viewer."""

import collections
import html.parser
import json
import os
import re
import shutil
import sqlite3
import subprocess
import unittest

import harness
import pcap_file
import trace_events
from test_ship import free_port

WIDTHS = (60, 80, 160)
# time, sign, number, label, lanes and words
ROW = re.compile(r"^(?P<time>[\d:.]+)(?P<mark>[*?]?) +(?P<guilty>!!)? +(?P<number>\d+) (?P<label>\w+)(?P<rest>.*)$")


def by_name(name):
    return next(s for s in harness.scenarios() if s.name == name and not s.large)


def time_text(ns):
    seconds = ns // 10**9 % 86400
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ns // 1000 % 10**6:06}"


class Row:
    """A row with the lines that belong to it; number 0: it is part of no chain."""

    def __init__(self, match=None):
        self.number = int(match["number"]) if match else 0
        self.time, self.label = (match["time"], match["label"]) if match else ("", "")
        self.guilty = match is not None and match["guilty"] is not None
        self.text = match["rest"] if match else ""

    def because(self):
        found = re.search(r"← (\d+(?:, \d+)*)", self.text)
        return [int(n) for n in found.group(1).split(", ")] if found else []


def rows_of(text):
    rows = []
    for line in text.splitlines():
        match = ROW.match(line)
        if match:
            rows.append(Row(match))
        elif rows and re.match(r"^ {24,}", line):
            rows[-1].text += " " + re.sub(r"[│┃]", " ", line)
        elif re.match(r"^\d", line):
            rows.append(Row())  # takes the lines that follow
    rows = [row for row in rows if row.number]
    for row in rows:
        row.text = re.sub(r"\s+", " ", row.text)
    return rows


def shifted(data, seconds):
    """The capture with its clock set forward."""
    packets = [(ts + int(seconds * 10**6), frame) for ts, frame in pcap_file.packets(data)]
    return pcap_file.encode(packets)


class Page(html.parser.HTMLParser):
    """A page, read strictly: elements are closed in their order, and what is drawn is counted."""

    VOID = {"meta", "br", "hr", "input", "img", "link"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.problems, self.shapes, self.tags, self.words = [], [], [], collections.Counter(), []
        self.attributes = []
        self.feed(text)
        self.close()
        if self.open:
            self.problems.append(f"not closed: {self.open}")

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += attrs
        self.shapes.append((tag, dict(attrs), tuple(self.open)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += attrs
        self.shapes.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def drawn(self, kind):
        """Shapes of that class in the drawing; the legend's are in a list."""
        return [attrs for tag, attrs, parents in self.shapes
                if kind in attrs.get("class", "").split() and "ul" not in parents and tag in ("rect", "path")]


class Timeline(harness.ProgramTest):
    def database(self, scenario, *names):
        """A database of the scenario with its report; names give HOST=FILE arguments."""
        path = os.path.join(self.scratch, f"{scenario.name}-{len(os.listdir(self.scratch))}.db")
        files = list(names) or [f"{host}={harness.capture(scenario, host)}" for host in harness.HOSTS]
        report, _ = harness.investigate(files, "--db", path)
        return path, report

    def timeline(self, database, *arguments, status=harness.DONE):
        result = harness.run([harness.program("keytrail"), "timeline", "--db", database, *arguments])
        self.assertEqual(result.returncode, status, result.stderr)
        return result.stdout

    def trace(self, database, *arguments):
        trace = trace_events.Trace(self.timeline(database, *arguments, "--format", "perfetto"))
        self.assertEqual(trace.problems, [])
        return trace

    def page(self, database, *arguments):
        page = Page(self.timeline(database, *arguments, "--format", "html"))
        self.assertEqual(page.problems, [])
        return page

    def query(self, database, sql):
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return connection.execute(sql).fetchall()

    def guilty_line(self, verdict):
        label = {"pd": ["said"], "tidb": ["used"], "tikv": ["refused", "said", "served"]}[verdict["component"]]
        lines = [e for e in verdict["evidence"] if e["label"] in label and e["speaker"] == verdict["culprit"]]
        noted = [e for e in lines if e.get("note")]
        return (noted or lines)[0]

    def test_the_guilty_statement_is_marked_and_causes_come_first(self):
        for name in ("pd_wide", "modern_pd_wide", "tidb_neighbour", "tikv_narrow"):
            database, report = self.database(by_name(name))
            self.assertTrue(report["verdicts"])
            for verdict in report["verdicts"]:
                for width in WIDTHS:
                    with self.subTest(scenario=name, verdict=verdict["id"], width=width):
                        text = self.timeline(database, "--verdict", str(verdict["id"]), "--width", str(width))
                        self.assertLessEqual(max(map(len, text.splitlines())), width)
                        self.check_verdict(verdict, rows_of(text), width)

    def check_verdict(self, verdict, rows, width):
        line = self.guilty_line(verdict)
        time = time_text(line["t_reference_ns"])
        guilty = [row for row in rows if row.guilty]
        self.assertTrue(guilty)
        self.assertIn("WRONG", guilty[0].text)
        marked = [row for row in guilty if time.endswith(row.time) and row.label == line["label"]]
        self.assertEqual(len(marked), 1, [(row.time, row.label) for row in guilty])
        for row in rows:
            self.assertEqual(row.guilty, "WRONG" in row.text, row.text)
        # Whoever is told first came first, by number and by time.
        self.assertEqual([row.number for row in rows], list(range(1, len(rows) + 1)))
        if width >= 110:
            self.assertEqual([row.time for row in rows], sorted(row.time for row in rows))
        by_number = {row.number: row for row in rows}
        for row in rows:
            for cause in row.because():
                self.assertLess(cause, row.number)
                if row.label == "used":
                    self.assertIn(by_number[cause].label, ("said", "told"))
                if row.label == "lookup":
                    self.assertTrue(by_number[cause].label in ("refused", "again") or
                                    "epoch not match" in by_number[cause].text, row.text)
        labels = [row.label for row in rows]
        order = [label for label in ("said", "used", "refused") if label in labels]
        self.assertEqual(sorted(labels.index(label) for label in order), [labels.index(label) for label in order])
        if {"said", "used"} <= set(labels):
            used = rows[labels.index("used")]
            self.assertTrue(used.because(), used.text)

    def test_slices_are_what_the_database_holds(self):
        for name in ("pd_wide", "tikv_narrow"):
            database, _ = self.database(by_name(name))
            everything = {i for i, in self.query(database, "select id from call_rows where kind <> 4")}
            trace = self.trace(database, "--from", "2026-01-01", "--to", "2027-01-01", "--calls", "100000")
            shown = [s["args"]["call_id"] for s in trace.calls()]
            self.assertEqual(len(shown), len(set(shown)))
            self.assertEqual(set(shown), everything)
            errors = self.query(database, "select count(distinct call_id) from errors where side = 1 and kind in"
                                " ('key_out_of_region', 'key_not_in_region', 'range_exceeds_bound', 'epoch_not_match')")
            self.assertEqual(sum(s["cat"] == "error" for s in trace.slices), errors[0][0])
            # Each call is one call: both of its views have one arrow between them.
            calls = self.query(database, "select count(*) from (select 1 from calls where kind <> 'stream' and"
                               " request_id is not null group by client, server, stream, request_id)")[0][0]
            batch = collections.Counter((s["args"]["client"], s["args"]["server"], s["args"]["stream"],
                                         s["args"]["request_id"]) for s in trace.calls() if "request_id" in s["args"])
            self.assertEqual(len(batch), calls)
            pairs = [steps for (category, _, _), steps in trace.flows.items() if category == "call"]
            self.assertGreater(len(pairs), 0.9 * len(shown) / 2)
            for (_, client), (_, server) in pairs:
                self.check_pair(trace.slices[client], trace.slices[server])

    def check_pair(self, client, server):
        """Two views of one call: nothing arrives before it was sent."""
        a, b = client["args"], server["args"]
        self.assertEqual((a["view"], b["view"]), ("client", "server"))
        for name in ("client", "server", "stream", "method", "request_id", "region_id"):
            self.assertEqual(a.get(name), b.get(name), name)
        self.assertLessEqual(client["begin"], server["begin"])
        if "response" not in a and "response" not in b and "request" not in a and "request" not in b:
            # A bar is some ns long at least, and µs lose a ns at each end when they become ns.
            self.assertLessEqual(server["end"], max(client["end"] + 2, server["begin"] + 4))

    def test_questions_by_region_key_and_time(self):
        database, report = self.database(by_name("pd_wide"))
        verdict = report["verdicts"][0]
        region = verdict["region_id"]
        expected = {i for i, in self.query(database, f"""
            select call_id from routes where region_id = {region} union
            select call_id from statements where region_id = {region} union
            select call_id from errors where region_id = {region} union
            select call_id from asked_regions where region_id = {region}""")}
        trace = self.trace(database, "--region", str(region), "--calls", "100000")
        shown = {s["args"]["call_id"] for s in trace.calls()}
        self.assertLessEqual(expected, shown)
        for slice_ in trace.calls():
            if slice_["args"]["call_id"] not in expected:
                self.assertTrue(self.belongs(trace, slice_, expected), slice_)

        key = verdict["key"]
        exact = {i for i, in self.query(database, f"select call_id from call_keys where side = 0 and start_key = x'{key}'")}
        human = self.query_functions(database, f"select tidb_key(x'{key}')")
        for text in (key, human):
            trace = self.trace(database, "--key", text, "--calls", "100000", "--around", "0")
            self.assertLessEqual(exact, {s["args"]["call_id"] for s in trace.calls()})
            self.assertTrue(exact)

        first, last = verdict["first_ns"], verdict["first_ns"] + 20_000_000
        expected = {i for i, in self.query(database, f"""select id from call_rows where kind <> 4
            and coalesce(resp_last_ns, resp_first_ns, req_last_ns, req_first_ns) >= {first}
            and coalesce(req_first_ns, req_last_ns, resp_first_ns, resp_last_ns) <= {last}""")}
        trace = self.trace(database, "--from", str(first), "--to", str(last), "--calls", "100000")
        # The clocks of the four hosts are one; the estimate is off by microseconds, which matters at the edges.
        shown = {s["args"]["call_id"] for s in trace.calls()
                 if int(trace.document["otherData"]["origin_ns"]) + s["begin"] <= last}
        self.assertLessEqual(len(expected ^ shown), max(4, len(expected) // 20))
        by_text = self.trace(database, "--from", time_text(first), "--to", time_text(last), "--calls", "100000")
        self.assertLessEqual(abs(len(by_text.calls()) - len(trace.calls())), 4)

    def belongs(self, trace, slice_, expected):
        """In a chain with, or the other view of, one that was asked for."""
        position = trace.slices.index(slice_)
        for steps in trace.flows.values():
            members = {p for _, p in steps}
            if position in members:
                for p in members:
                    if trace.slices[p]["args"]["call_id"] in expected:
                        return True
                    partners = {q for s in trace.flows.values() for _, q in s if p in {r for _, r in s}}
                    if any(trace.slices[q]["args"]["call_id"] in expected for q in partners):
                        return True
        return False

    def query_functions(self, database, sql):
        result = harness.run([harness.program("keytrail"), "sql", "--db", database, "--format", "json", "-e", sql])
        return list(json.loads(result.stdout)[0].values())[0]

    def test_chains_of_transactions_and_regions(self):
        """Every chain arrow of a refused call ends in the same client's own next steps."""
        for name in ("pd_wide", "modern_pd_wide", "tikv_narrow"):
            database, _ = self.database(by_name(name))
            trace = self.trace(database, "--from", "2026-01-01", "--to", "2027-01-01", "--calls", "100000")
            chains = [steps for (category, _, _), steps in trace.flows.items() if category == "chain"]
            self.assertTrue(chains)
            whole = 0
            for steps in chains:
                slices = [trace.slices[p] for _, p in steps]
                error = next(i for i, s in enumerate(slices) if s["cat"] == "error")
                request = slices[error - 1]
                self.assertEqual(request["cat"], "call")
                self.assertEqual(slices[error]["parent"], trace.slices.index(request))
                client = request["args"]["client"].rsplit(":", 1)[0]
                for s in slices[:error - 1]:
                    self.assertEqual(s["args"]["client"].rsplit(":", 1)[0], client)
                for s in slices[error + 1:]:
                    self.assertEqual(s["args"]["client"].rsplit(":", 1)[0], client)
                    self.assertGreaterEqual(s["begin"], slices[error]["begin"])
                for s in slices[error + 1:]:
                    if "region_id" in s["args"]:  # the retry
                        self.assertEqual(s["args"].get("command"), request["args"].get("command"))
                        self.assertEqual(s["args"].get("start_ts"), request["args"].get("start_ts"))
                whole += len(slices) == 5
            self.assertTrue(whole, name)

    def test_a_page_shows_what_the_trace_shows(self):
        for name in ("pd_wide", "tikv_narrow", "tidb_neighbour"):
            database, report = self.database(by_name(name))
            for question in (["--verdict", "1"], ["--region", str(report["verdicts"][0]["region_id"]), "--calls", "300"]):
                with self.subTest(scenario=name, question=question):
                    page = self.page(database, *question)
                    trace = self.trace(database, *question)
                    bars = page.drawn("bar")
                    self.assertEqual(collections.Counter(int(bar["data-call"]) for bar in bars),
                                     collections.Counter(s["args"]["call_id"] for s in trace.calls()))
                    for side in ("client", "server", "between"):
                        self.assertEqual(sum(side in bar["class"].split() for bar in bars),
                                         sum(s["args"]["view"] == side for s in trace.calls()))
                    pairs = [steps for (category, _, _), steps in trace.flows.items() if category == "call"]
                    self.assertEqual(len(page.drawn("sent")), len(pairs))
                    # An arrow from call to call; from a call to its own error none is needed.
                    arrows = set()
                    for (category, _, _), steps in trace.flows.items():
                        if category != "chain":
                            continue
                        calls = [trace.slices[p]["args"]["call_id"] for _, p in steps]
                        arrows |= {(a, b) for a, b in zip(calls, calls[1:]) if a != b}
                    led = [(int(a["data-from"]), int(a["data-to"])) for a in page.drawn("led")]
                    self.assertEqual(sorted(led), sorted(arrows))
                    self.assertTrue(led)
                    wrong = [e for e in trace.events if e["ph"] == "i" and e["cat"] == "verdict"]
                    self.assertEqual(len(page.drawn("guilty")), len(wrong))
                    # Time goes down: what is later does not begin above.
                    begins = sorted((s["begin"], s["args"]["call_id"]) for s in trace.calls() if "clock" not in s["args"])
                    tops = {}
                    for bar in bars:
                        tops.setdefault(int(bar["data-call"]), float(bar["y"]))
                    order = [tops[call] for _, call in begins]
                    self.assertEqual(order, sorted(order))
                    for lane in trace.process_names.values():
                        self.assertIn(lane.split()[-1], " ".join(page.words))
                    if "--verdict" in question:
                        self.assertIn(report["verdicts"][0]["text"], page.words)
                        self.assertIn("WRONG", " ".join(page.words))

    def test_a_page_is_by_itself_and_takes_nothing_for_markup(self):
        scenario = by_name("tikv_narrow")
        evil = ["<script>alert(1)</script>", "\"'onload", "a&amp;b</svg>", "\x1b[31m\u202ex"]
        names = [f"{evil[i]}={harness.capture(scenario, host)}" for i, host in enumerate(harness.HOSTS)]
        database, _ = self.database(scenario, *names)
        text = self.timeline(database, "--verdict", "1", "--format", "html")
        page = Page(text)
        self.assertEqual(page.problems, [])
        self.assertEqual(page.tags["script"], 1)
        self.assertEqual(page.tags["svg"], 1 + 6)  # the drawing and the legend's
        self.assertIn("<script>alert(1)</script>", " ".join(page.words))
        self.assertFalse([a for a in page.attributes if a[0].startswith("on") or a[0] in ("src", "href", "xlink:href")])
        self.assertNotRegex(re.sub(r'xmlns="[^"]*"', "", text), r"https?:|url\((?!#)|@import")
        self.assertEqual([c for c in text if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066"], [])
        self.assertIn("prefers-color-scheme:dark", text)

    def test_skewed_clocks(self):
        """With TiKV's and PD's clocks far off, the story is the same and nothing happens before its cause."""
        scenario = by_name("pd_wide")
        skewed = []
        for host, seconds in (("tidb1", 0), ("tidb2", -0.2), ("pd1", 3.5), ("tikv1", -61.25)):
            data = pcap_file.load(harness.capture(scenario, host))
            skewed.append(f"{host}={self.write(host + '.pcap', shifted(data, seconds))}")
        plain, report = self.database(scenario)
        database, other = self.database(scenario, *skewed)
        self.assertEqual([v["component"] for v in other["verdicts"]], [v["component"] for v in report["verdicts"]])
        index = next(i for i, v in enumerate(other["verdicts"]) if v["region_id"] == report["verdicts"][0]["region_id"]
                     and v["client"] == report["verdicts"][0]["client"])
        first = rows_of(self.timeline(plain, "--verdict", "1", "--width", "160"))
        second = rows_of(self.timeline(database, "--verdict", str(other["verdicts"][index]["id"]), "--width", "160"))
        self.assertEqual([(r.label, r.guilty) for r in first if r.label in ("said", "used", "refused", "lookup", "retry")],
                         [(r.label, r.guilty) for r in second if r.label in ("said", "used", "refused", "lookup", "retry")])
        trace = self.trace(database, "--from", "2026-01-01", "--to", "2027-01-01", "--calls", "100000")
        pairs = [steps for (category, _, _), steps in trace.flows.items() if category == "call"]
        self.assertGreater(len(pairs), 100)
        for (_, client), (_, server) in pairs:
            self.check_pair(trace.slices[client], trace.slices[server])
        for slice_ in trace.slices:
            if slice_["cat"] == "error":
                self.assertLessEqual(trace.slices[slice_["parent"]]["begin"], slice_["begin"])

    def test_clocks_that_are_not_related_are_said_to_be(self):
        """Two hosts that share no call: their times stand apart, and are not put into one order."""
        database, report = self.database(by_name("pd_wide"))
        with sqlite3.connect(database) as connection:
            connection.execute("update hosts set clock_offset_ns = null, offset_error_ns = null where host = 'tikv1'")
            connection.execute("delete from clock_offsets where host = 'tikv1'")
        text = self.timeline(database, "--verdict", "1", "--width", "120")
        self.assertIn("tikv1", text)
        # Of calls between tidb1 and tikv1 the client's view is still on the reference's clock.
        self.assertNotRegex(text, r"\d\?")
        with sqlite3.connect(database) as connection:
            connection.execute("update hosts set clock_offset_ns = null, offset_error_ns = null where host <> 'pd1'")
            connection.execute("delete from clock_offsets")
        text = self.timeline(database, "--verdict", "1", "--width", "120")
        self.assertIn("seen only by clocks that are not related to the others", text)
        self.assertRegex(text, r"\d\? ")
        trace = self.trace(database, "--verdict", "1")
        self.assertTrue(any("clock" in s["args"] for s in trace.calls()))

    def test_nothing_from_outside_reaches_the_terminal(self):
        scenario = by_name("tikv_narrow")
        evil = ["\x1b[31mred\x1b[0m", "a\u009b2Jb\u202ec", "\x07\x00bell".replace("\x00", ""), "\"quo'te\\<b>"]
        names = [f"{evil[i]}={harness.capture(scenario, host)}" for i, host in enumerate(harness.HOSTS)]
        database, report = self.database(scenario, *names)
        for question in (["--verdict", "1"], ["--region", str(report["verdicts"][0]["region_id"])]):
            for width in WIDTHS:
                text = self.timeline(database, *question, "--width", str(width))
                bad = [c for c in text if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066"]
                self.assertEqual(bad, [])
                self.assertLessEqual(max(map(len, text.splitlines())), width)
            trace = self.trace(database, *question)
            for name in trace.process_names.values():
                self.assertEqual([c for c in name if ord(c) < 32 or 0x7F <= ord(c) < 0xA0], [])
        self.assertEqual(len(trace.process_names), len(set(trace.process_names.values())))

    def test_colour_only_where_it_is_wanted(self):
        database, _ = self.database(by_name("tidb_neighbour"))
        plain = self.timeline(database, "--verdict", "1", "--width", "100")
        self.assertNotIn("\x1b", plain)
        coloured = self.timeline(database, "--verdict", "1", "--width", "100", "--color", "always")
        self.assertIn("\x1b[1;31m", coloured)
        self.assertEqual(re.sub(r"\x1b\[[\d;]*m", "", coloured), plain)

    def test_what_is_left_out_is_told(self):
        database, report = self.database(by_name("tikv_narrow"))
        text = self.timeline(database, "--verdict", "1", "--calls", "5", "--width", "80")
        found = re.search(r"Left out: ([\d,]+) calls?", text)
        self.assertTrue(found, text)
        left = int(found.group(1).replace(",", ""))
        trace = self.trace(database, "--verdict", "1", "--calls", "5")
        self.assertEqual(trace.document["otherData"]["calls_left_out"], left)
        total = trace.document["otherData"]["calls_found"]
        self.assertEqual(total - left, 5)
        self.assertIn(f"Left out: {left:,} call", " ".join(self.page(database, "--verdict", "1", "--calls", "5").words))
        whole = self.trace(database, "--verdict", "1", "--calls", str(total))
        self.assertEqual(whole.document["otherData"]["calls_left_out"], 0)
        # What is kept of a story is the evidence.
        wanted = {e["call_id"] for e in report["verdicts"][0]["evidence"] if e["label"] in ("said", "used", "refused")}
        self.assertLessEqual(wanted, {s["args"]["call_id"] for s in trace.calls()})

    def test_a_collector_answers_the_same(self):
        database, report = self.database(by_name("pd_wide"))
        data = os.path.join(self.scratch, "data")
        os.mkdir(data)
        shutil.copy(database, os.path.join(data, "keytrail.db"))
        listen, query = (f"127.0.0.1:{free_port()}" for _ in range(2))
        collector = subprocess.Popen([harness.program("keytrail-collector"), "-q", "--listen", f"tcp://{listen}", "--query",
                                      query, "--data", data], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            harness.wait_listening(collector, f"tcp://{query}")
            for arguments in (["--verdict", "1"], ["--region", str(report["verdicts"][0]["region_id"])],
                              ["--from", "2026-01-01", "--to", "2027-01-01", "--format", "perfetto", "--calls", "100000"]):
                result = harness.run([harness.program("keytrail"), "timeline", "--collector", query, *arguments])
                self.assertEqual(result.returncode, harness.DONE, result.stderr)
                self.assertEqual(result.stdout, self.timeline(database, *arguments))
        finally:
            collector.terminate()
            collector.wait()

    def test_files_and_wrong_usage(self):
        database, _ = self.database(by_name("healthy"))
        path = os.path.join(self.scratch, "out.json")
        self.assertEqual(self.timeline(database, "--region", "12", "--format", "perfetto", "-o", path), "")
        with open(path, encoding="utf-8") as handle:
            self.assertEqual(trace_events.Trace(handle.read()).problems, [])
        self.assertIn("No call is found", self.timeline(database, "--region", "987654"))
        for arguments, status in ((["--verdict", "1"], harness.FAILED), ([], harness.USAGE),
                                  (["--from", "yesterday"], harness.USAGE), (["--region", "1", "--key", "t1"], harness.USAGE),
                                  (["--region", "1", "--around", "long"], harness.USAGE),
                                  (["--from", "17:00", "--to", "16:00"], harness.USAGE),
                                  (["--key", "no such key"], harness.FAILED),
                                  (["--region", "1", "-o", os.path.join(self.scratch, "no", "where")], harness.FAILED)):
            with self.subTest(arguments=arguments):
                self.timeline(database, *arguments, status=status)


if __name__ == "__main__":
    unittest.main()
