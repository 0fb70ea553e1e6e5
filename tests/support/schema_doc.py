#!/usr/bin/env python3
"""docs/schema.md, from what a database says of itself.

    schema_doc.py BIN           prints the page; BIN is the folder of the built programs
    schema_doc.py BIN PAGE      exit 1 if PAGE is another one

Tables and columns are explained in the table `columns`, which the store makes from the same description as the tables
themselves; this only lays it out.
"""

import json
import os
import subprocess
import sys
import tempfile

HEAD = """# The database, table by table

Made by `tests/support/schema_doc.py` from the table `columns` of a database; a test compares the two.

One file of `keytrail investigate --db FILE`, or a folder of a collector: `keytrail.db`, the catalogue, and a file for each window of time
([../collector/store/README.md](../collector/store/README.md)). All files have the same tables; `keytrail sql` shows a folder as one database. SQLite,
STRICT tables, `PRAGMA application_id` 0x{application_id:08x}, `PRAGMA user_version` {version}. An older version is brought up to date by the first program that
writes it; a newer one is refused. Columns may be added; none is renamed or changes its meaning.

Start with {views}; [sql.md](sql.md) has examples. Times are nanoseconds since 1970 by the observer's clock unless a line says otherwise; keys are BLOBs in
TiKV's order; NULL is "not seen".
"""

# The order of the page: what people ask first.
FIRST = ["calls", "requests", "lookups", "call_errors", "regions", "stores", "verdicts", "evidence", "occurrences",
         "inconclusive", "verdict_notes", "benign", "hosts", "clock_offsets", "translations", "lost", "agent_progress"]


def ask(keytrail, database, query):
    done = subprocess.run([keytrail, "sql", "--db", database, "--format", "json", "-e", query], check=True,
                          stdout=subprocess.PIPE, encoding="utf-8")
    return json.loads(done.stdout)


def page(programs):
    keytrail = os.path.join(programs, "keytrail")
    captures = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "healthy")
    with tempfile.TemporaryDirectory() as folder:
        database = os.path.join(folder, "x.db")
        done = subprocess.run([keytrail, "investigate", "--db", database, os.path.join(captures, "pd1.pcap.zst")],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
        if done.returncode not in (0, 3):
            raise SystemExit(done.stdout)
        with open(database, "rb") as handle:
            head = handle.read(100)
        rows = ask(keytrail, database, "select table_name, column_name, type, meaning from columns")
    tables = {}
    for row in rows:
        tables.setdefault(row["table_name"], []).append(row)
    missing = [name for name in FIRST if name not in tables]
    if missing:
        raise SystemExit(f"no table {missing}")
    order = FIRST + [name for name in tables if name not in FIRST]
    text = HEAD.format(application_id=int.from_bytes(head[68:72], "big"), version=int.from_bytes(head[60:64], "big"),
                       views=", ".join(f"`{name}`" for name in FIRST[:4]))
    for name in order:
        about, *columns = tables[name]
        text += f"\n## {name}\n\n{about['type'].capitalize()}: {about['meaning']}.\n\n| column | type | meaning |\n|---|---|---|\n"
        for column in columns:
            meaning = column["meaning"].replace("|", "\\|")
            text += f"| `{column['column_name']}` | {column['type']} | {meaning} |\n"
    return text


def main():
    made = page(sys.argv[1])
    if len(sys.argv) < 3:
        print(made, end="")
        return 0
    with open(sys.argv[2], encoding="utf-8") as handle:
        same = handle.read() == made
    if not same:
        print(f"{sys.argv[2]} says something else than the database: tests/support/schema_doc.py BIN >{sys.argv[2]}", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
