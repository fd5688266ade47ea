"""The job of the comparison as each peer's users would write it.

usage: peers.py duckdb|chdb|polars|python  once|1d  INPUT  OUTPUT      (.parquet or .ndjson each)

Of a campaign's triggers for one recipient, in time order, keep the first (`once`), or the first and then each that
comes at least a day after the last one kept (`1d`). Render subject and body of the kept ones, values in the body
escaped for HTML. Write campaign_id, recipient, triggered_at, trigger_id, subject, body. Compression is zstd at level 1,
as retrigger has it. README.md says which forms of each query were tried; these are the fastest.
"""
import sys

KEY = ["campaign_id", "external_user_id"]
DAY_MS = 86_400_000
SUBJECT = "Still thinking about {item_name}?"
BODY = ('<html><body><p>Hi {external_user_id},</p><p>You looked at <a href="{url}">{item_name}</a> {quantity} time(s). It is '
        "still available for {price} {currency}.</p><p>This message was sent because you recently viewed an item in our shop. If "
        "you do not want to receive such messages any more, change your preferences in your account.</p></body></html>")
NUMBERS = {"quantity", "price"}
BATCH_ROWS = 100_000
MESSAGE = ["campaign_id", "recipient", "triggered_at", "trigger_id", "subject", "body"]


def spliced(template, literal, field):
    """A template as a list of expressions: `literal(text)` and `field(name)` in turn."""
    parts = template.replace("{", "}").split("}")
    return [field(part) if i % 2 else literal(part) for i, part in enumerate(parts) if part]


def is_parquet(path):
    return path.endswith(".parquet")


# DuckDB ------------------------------------------------------------------------------------------------------------

DUCKDB_COLUMNS = """{campaign_id: 'VARCHAR', external_user_id: 'VARCHAR', triggered_at: 'TIMESTAMP', trigger_id: 'VARCHAR',
    trigger_properties: 'STRUCT(item_name VARCHAR, price DOUBLE, quantity BIGINT, url VARCHAR, currency VARCHAR)'}"""

# "A day after the last one kept" depends on what was kept before: a fold over the key's times up to this row, whose result
# is the last one kept. A key has few rows, so the short lists cost no more than recursion or repeated joins.
DUCKDB_1D = """
    FROM (SELECT {columns}, epoch_ms(triggered_at) AS ms, list(ms) OVER (
              PARTITION BY campaign_id, external_user_id ORDER BY triggered_at) AS times FROM {rows})
    WHERE ms = list_reduce(times, lambda last, t: CASE WHEN t - last >= {day} THEN t ELSE last END)"""

# With Parquet it pays to decide on the narrow columns, and to read the wide ones of the kept rows only. JSON has to be
# parsed whole, so it is read once.
DUCKDB_KEPT = {
    ("once", "parquet"): """
    FROM {rows} WHERE file_row_number IN (
        SELECT arg_min(file_row_number, triggered_at) FROM {rows} GROUP BY campaign_id, external_user_id)""",
    ("1d", "parquet"): f"""
    FROM {{rows}} WHERE file_row_number IN (
        SELECT file_row_number {DUCKDB_1D.replace("{columns}", "file_row_number")})""",
    ("once", "ndjson"): """
    FROM {rows} QUALIFY row_number() OVER (PARTITION BY campaign_id, external_user_id ORDER BY triggered_at) = 1""",
    ("1d", "ndjson"): DUCKDB_1D.replace("{columns}", "*"),
}


# Most values have nothing to escape, and looking costs less than four replacements.
DUCKDB_ESCAPED = """
    CREATE MACRO escaped(x) AS CASE
        WHEN contains(x, '&') OR contains(x, '<') OR contains(x, '>') OR contains(x, '"')
        THEN replace(replace(replace(replace(x, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;')
        ELSE x END"""

# Dictionaries of bodies are tried in vain.
DUCKDB_PARQUET = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, DICTIONARY_SIZE_LIMIT 1"


def duckdb_text(name):
    value = name if name in KEY else f"trigger_properties.{name}"
    return value if name in NUMBERS else f"escaped({value})"


def duckdb_job(rule, source, target):
    import duckdb

    rows = f"read_parquet('{source}')" if is_parquet(source) else (
        f"read_json('{source}', format = 'newline_delimited', columns = {DUCKDB_COLUMNS})")
    form = "parquet" if is_parquet(source) else "ndjson"
    kept = DUCKDB_KEPT[rule, form].format(rows=rows, day=DAY_MS)
    subject = " || ".join(spliced(SUBJECT, "'{}'".format, "trigger_properties.{}".format))
    body = " || ".join(spliced(BODY, "'{}'".format, duckdb_text))
    written = DUCKDB_PARQUET if is_parquet(target) else "FORMAT json"
    session = duckdb.connect()
    session.execute("SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
    session.execute(DUCKDB_ESCAPED)
    session.execute(f"""COPY (
        SELECT campaign_id, external_user_id AS recipient, triggered_at, trigger_id, {subject} AS subject, {body} AS body
        FROM ({kept})) TO '{target}' ({written})""")


# chDB --------------------------------------------------------------------------------------------------------------

CHDB_COLUMNS = """campaign_id String, external_user_id String, triggered_at DateTime64(3, 'UTC'), trigger_id String,
    trigger_properties Tuple(item_name String, price Float64, quantity Int64, url String, currency String)"""

CHDB_ONCE = """
    SELECT * FROM {rows} ORDER BY triggered_at LIMIT 1 BY campaign_id, external_user_id"""

# The same fold as DuckDB's.
CHDB_1D = """
    SELECT * FROM (
        SELECT *, toUnixTimestamp64Milli(triggered_at) AS ms,
               groupArray(ms) OVER (PARTITION BY campaign_id, external_user_id ORDER BY triggered_at) AS times
        FROM {rows})
    WHERE ms = arrayFold((last, t) -> if(t - last >= {day}, t, last), times, times[1])"""


def chdb_text(name):
    value = name if name in KEY else f"trigger_properties.{name}"
    return f"toString({value})" if name in NUMBERS else f"encodeXMLComponent({value})"


def chdb_job(rule, source, target):
    import chdb

    form = {True: "Parquet", False: "JSONEachRow"}
    rows = f"file('{source}', '{form[is_parquet(source)]}', $${CHDB_COLUMNS}$$)"
    kept = (CHDB_ONCE if rule == "once" else CHDB_1D).format(rows=rows, day=DAY_MS)
    subject = ", ".join(spliced(SUBJECT, "'{}'".format, "trigger_properties.{}".format))
    body = ", ".join(spliced(BODY, "'{}'".format, chdb_text))
    chdb.query(f"""
        INSERT INTO FUNCTION file('{target}', '{form[is_parquet(target)]}')
        SELECT campaign_id, external_user_id AS recipient, triggered_at, trigger_id,
               concat({subject}) AS subject, concat({body}) AS body
        FROM ({kept})
        SETTINGS engine_file_truncate_on_insert = 1, date_time_input_format = 'best_effort',
                 output_format_parquet_compression_method = 'zstd', output_format_compression_level = 1""")


# Polars ------------------------------------------------------------------------------------------------------------

def polars_rows(source):
    import polars as pl

    if is_parquet(source):
        return pl.scan_parquet(source)
    return pl.scan_ndjson(source).with_columns(pl.col("triggered_at").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ", time_zone="UTC"))


def polars_kept(rule, rows):
    """Keep each key's first row; for windows drop what is within a day of it, and again with the rest: six times at most
    in a week, and each time with fewer rows."""
    import polars as pl

    first = pl.col("triggered_at").min().over(KEY)
    if rule == "once":
        return rows.filter(pl.col("triggered_at") == first)
    kept, rest = [], rows.collect()
    while rest.height:
        rest = rest.with_columns(first=first)
        kept.append(rest.filter(pl.col("triggered_at") == pl.col("first")))
        rest = rest.filter(pl.col("triggered_at") >= pl.col("first") + pl.duration(days=1)).drop("first")
    return pl.concat(kept).lazy()


def polars_text(name):
    import polars as pl

    value = pl.col(name) if name in KEY else pl.col("trigger_properties").struct.field(name)
    if name in NUMBERS:
        return value.cast(pl.String)
    return value.str.replace_many({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})


def polars_job(rule, source, target):
    import polars as pl

    subject = spliced(SUBJECT, pl.lit, pl.col("trigger_properties").struct.field)
    messages = polars_kept(rule, polars_rows(source)).select(
        "campaign_id", pl.col("external_user_id").alias("recipient"), "triggered_at", "trigger_id",
        pl.concat_str(subject).alias("subject"), pl.concat_str(spliced(BODY, pl.lit, polars_text)).alias("body"))
    if is_parquet(target):
        messages.sink_parquet(target, compression="zstd", compression_level=1)
    else:
        messages.sink_ndjson(target)


# Python + Jinja2 ---------------------------------------------------------------------------------------------------

def python_triggers(source):
    """Triggers in time order, as (campaign, recipient, milliseconds, id, properties)."""
    import polars as pl

    rows = polars_rows(source).sort("triggered_at").with_columns(pl.col("triggered_at").dt.epoch("ms"))
    for part in rows.collect().iter_slices(BATCH_ROWS):
        yield from zip(*(part[name].to_list() for name in [*KEY, "triggered_at", "trigger_id", "trigger_properties"]))


def python_messages(rule, source):
    import jinja2

    jinja = lambda text: "".join(spliced(text, str, "{{{{ {} }}}}".format))
    subject = jinja2.Environment().from_string(jinja(SUBJECT))
    body = jinja2.Environment(autoescape=True).from_string(jinja(BODY))
    window = float("inf") if rule == "once" else DAY_MS
    last = {}
    for campaign, user, at, trigger_id, properties in python_triggers(source):
        before = last.get((campaign, user))
        if before is None or at - before >= window:
            last[campaign, user] = at
            yield campaign, user, at, trigger_id, subject.render(properties), body.render(properties, external_user_id=user)


def python_batches(rule, source):
    from itertools import islice

    messages = python_messages(rule, source)
    while batch := list(islice(messages, BATCH_ROWS)):
        yield batch


def python_time(ms):
    from datetime import datetime, timezone

    return datetime.fromtimestamp(ms / 1000, timezone.utc).isoformat(timespec="milliseconds")


def python_job(rule, source, target):
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    if not is_parquet(target):
        with open(target, "w", encoding="utf-8") as lines:
            for batch in python_batches(rule, source):
                rows = (dict(zip(MESSAGE, row), triggered_at=python_time(row[2])) for row in batch)
                lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return
    types = [pa.string(), pa.string(), pa.timestamp("ms", "UTC"), pa.string(), pa.string(), pa.string()]
    schema = pa.schema(list(zip(MESSAGE, types)))
    with pq.ParquetWriter(target, schema, compression="zstd", compression_level=1) as table:
        for batch in python_batches(rule, source):
            table.write_table(pa.Table.from_arrays([pa.array(c, t) for c, t in zip(zip(*batch), types)], schema=schema))


JOBS = {"duckdb": duckdb_job, "chdb": chdb_job, "polars": polars_job, "python": python_job}

if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[1] not in JOBS or sys.argv[2] not in ("once", "1d"):
        sys.exit(__doc__)
    peer, rule, source, target = sys.argv[1:]
    JOBS[peer](rule, source, target)
