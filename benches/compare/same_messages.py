"""Tell whether two outputs hold the same messages: exit code 0 and "equal", or 1 and the first differences.

usage: same_messages.py OURS-GLOB THEIRS-GLOB      (Parquet or NDJSON each)

Same: as many of each (campaign_id, recipient, triggered_at, subject, body) on both sides, in any order. A message counts
as its 128-bit MD5, so 50 million of them compare in bounded memory; what does not fit goes to disk.
"""
import os
import sys
import tempfile

import duckdb

FIELDS = ["campaign_id", "recipient", "triggered_at", "subject", "body"]
SHOWN = 6


def session(spill):
    db = duckdb.connect()
    db.execute(f"SET memory_limit = '2GB'; SET temp_directory = '{spill}'; SET preserve_insertion_order = false")
    db.execute("SET TimeZone = 'UTC'")  # a time that is written without a zone is UTC
    return db


def messages(path):
    """SQL: the messages of a side, and each one's digest. Lengths stand before values, so that no two messages are
    written alike; a null is no length."""
    if "ndjson" in os.path.basename(path):
        source = f"read_json('{path}', format = 'newline_delimited', columns = {dict.fromkeys(FIELDS, 'VARCHAR')})"
    else:
        source = f"read_parquet('{path}')"
    at = "epoch_us(triggered_at::TIMESTAMPTZ) AS triggered_at"
    written = ", ".join(f"coalesce(length({f}::VARCHAR) || ':' || {f}, '-')" for f in FIELDS)
    return f"SELECT *, md5_number(concat({written})) AS digest FROM (SELECT * REPLACE ({at}) FROM (SELECT {', '.join(FIELDS)} FROM {source}))"


def compare(db, ours, theirs):
    """Digests that are not as often on one side as on the other, into a table; and the messages of each side."""
    db.execute(f"""CREATE TEMP TABLE different AS
        SELECT digest, sum(ours) AS ours, sum(theirs) AS theirs FROM (
            SELECT digest, 1 AS ours, 0 AS theirs FROM ({messages(ours)}) UNION ALL
            SELECT digest, 0, 1 FROM ({messages(theirs)}))
        GROUP BY digest HAVING sum(ours) <> sum(theirs)""")
    counts = [db.execute(f"SELECT count(*) FROM ({messages(side)})").fetchone()[0] for side in (ours, theirs)]
    return counts, db.execute("SELECT count(*) FROM different").fetchone()[0]


def show(db, ours, theirs):
    sides = " UNION ALL ".join(f"SELECT '{name}' AS side, * FROM ({messages(path)})" for name, path in
                               (("ours", ours), ("theirs", theirs)))
    rows = db.execute(f"""SELECT side, d.ours, d.theirs, campaign_id, recipient, make_timestamp(triggered_at), subject, body
        FROM ({sides}) JOIN different d USING (digest) ORDER BY campaign_id, recipient, triggered_at, side LIMIT {SHOWN}""")
    for side, in_ours, in_theirs, campaign, recipient, at, subject, body in rows.fetchall():
        print(f"\n{side} ({in_ours} in ours, {in_theirs} in theirs): {campaign}, {recipient}, {at}\n  {subject}\n  {body}")


def main(ours, theirs):
    with tempfile.TemporaryDirectory(prefix="same-messages-", dir=os.environ.get("RETRIGGER_DATA")) as spill:
        db = session(spill)
        counts, different = compare(db, ours, theirs)
        # Two empty outputs show nothing about the work.
        equal = different == 0 and counts[0] == counts[1] > 0
        print(f"{'equal' if equal else 'NOT EQUAL'}: ours {counts[0]:,} messages, theirs {counts[1]:,}, {different:,} different")
        if different:
            show(db, ours, theirs)
    return 0 if equal else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
