"""Write benchmark triggers: NAME.parquet and NAME.ndjson with the same rows. Same arguments, same bytes.

usage: make_data.py TRIGGERS RECIPIENTS NAME [--campaigns N] [--no-ndjson]

Seven days in time order; campaigns and items even, recipients skewed: the most active tenth gets 27 % of the triggers.
20,000 items, one in sixteen with `&` in its name, so that escaping is seen. Rows are made and written a million at a
time, each million from its own seed, which the arguments are part of: memory does not grow with TRIGGERS, and files of
different arguments share no triggers.
"""
import argparse
import os

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

SEED = 7
START_MS = 1_790_000_000_000
SPAN_MS = 7 * 86_400_000
ITEMS = 20_000
PIECE_ROWS = 1_000_000
GROUP_ROWS = 250_000
ADJECTIVES = ["Red", "Blue", "Classic", "Vintage", "Salt & Pepper", "Soft", "Wool", "Linen"]
NOUNS = ["Jacket", "Sneaker", "Lamp", "Desk", "Backpack", "Bottle", "Headphones", "Watch"]
PROPERTIES = pa.struct([("item_name", pa.string()), ("price", pa.float64()), ("quantity", pa.int64()), ("url", pa.string()),
                        ("currency", pa.string())])
SCHEMA = pa.schema([("campaign_id", pa.string()), ("external_user_id", pa.string()),
                    ("triggered_at", pa.timestamp("ms", "UTC")), ("trigger_id", pa.string()),
                    ("trigger_properties", PROPERTIES)])


def item_name(item):
    # "Salt & Pepper" is the fifth of eight adjectives: every second item with it becomes "Soft", one in sixteen stays.
    adjective = item % 8 + (item % 16 == 12)
    return f"{ADJECTIVES[adjective]} {NOUNS[item // 8 % 8]} {item}"


ITEM_NAMES = pl.Series([item_name(item) for item in range(ITEMS)])
ITEM_URLS = pl.Series([f"https://shop.example/items/{item}/viewed" for item in range(ITEMS)])


def times(first, rows, total, rng):
    """One trigger at a random instant of each of `total` equal slices: sorted without sorting, and no two at the same
    instant, so that "the first" means the same to every tool."""
    slices = np.arange(first, first + rows) * SPAN_MS // total
    return START_MS + slices + rng.integers(0, SPAN_MS // total, rows)


def recipients_of(rows, recipients, rng):
    """Numbers below `recipients`; low ones are up to three times as active as the average."""
    return recipients - 1 - (recipients * rng.power(3.0, rows)).astype(np.int64)


def piece(first, rows, args):
    """Rows first … first + rows, as a frame."""
    rng = np.random.default_rng([SEED, args.triggers, args.recipients, args.campaigns, first])
    item = rng.integers(0, ITEMS, rows)
    # Never a whole number of euros: tools differ in whether 12.0 prints as "12" or "12.0", and that is not the contest.
    cents = rng.integers(1, 500, rows) * 100 + rng.integers(1, 100, rows)
    numbers = pl.DataFrame({
        "campaign": rng.integers(0, args.campaigns, rows), "who": recipients_of(rows, args.recipients, rng),
        "at": times(first, rows, args.triggers, rng), "id": rng.integers(0, 2**62, rows), "quantity": rng.integers(1, 5, rows),
    })
    return numbers.select(
        campaign_id=pl.format("campaign-{}", "campaign"),
        external_user_id=pl.lit("user-") + pl.col("who").cast(pl.String).str.zfill(9),
        triggered_at=pl.col("at").cast(pl.Datetime("ms", "UTC")),
        trigger_id=pl.col("id").cast(pl.String).str.zfill(20),
        trigger_properties=pl.struct(
            item_name=ITEM_NAMES.gather(item), price=pl.Series(cents / 100), quantity="quantity", url=ITEM_URLS.gather(item),
            currency=pl.lit("EUR")),
    )


def pieces(args):
    for first in range(0, args.triggers, PIECE_ROWS):
        yield piece(first, min(PIECE_ROWS, args.triggers - first), args)


def write(args):
    """Both files under other names until they are whole, so that a stopped maker leaves nothing that looks like data."""
    parquet, ndjson = args.name + ".parquet", args.name + ".ndjson"
    with pq.ParquetWriter(parquet + ".part", SCHEMA, compression="zstd") as table, open(ndjson + ".part", "wb") as lines:
        for frame in pieces(args):
            rows = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(SCHEMA)
            table.write_table(rows, row_group_size=GROUP_ROWS)
            if args.ndjson:
                stamp = pl.col("triggered_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
                frame.with_columns(stamp).write_ndjson(lines)
    os.rename(parquet + ".part", parquet)
    if args.ndjson:
        os.rename(ndjson + ".part", ndjson)
    else:
        os.remove(ndjson + ".part")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("triggers", type=int)
    parser.add_argument("recipients", type=int)
    parser.add_argument("name")
    parser.add_argument("--campaigns", type=int, default=8)
    parser.add_argument("--no-ndjson", dest="ndjson", action="store_false")
    args = parser.parse_args()
    if not 0 < args.triggers <= SPAN_MS:
        parser.error(f"TRIGGERS must be 1 to {SPAN_MS:,}: one a millisecond")
    return args


if __name__ == "__main__":
    write(arguments())
