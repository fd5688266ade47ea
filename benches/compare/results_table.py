"""The results of compare.py as Markdown.

usage: results_table.py RESULTS.json > benches/RESULTS.md
"""
import json
import statistics
import sys
from pathlib import Path

UNITS = {"wall": "s", "cpu": "s", "peak": "MiB", "wall per million": "s per M"}
PEERS = {"DuckDB", "chDB", "Polars", "Python + Jinja2"}
HEADING = """| Row | Job | A | B | Measure | A: median (min … max) | B: median (min … max) | B ÷ A (pair by pair) | CPU s, A, B | Peak MiB, A, B | |
|---|---|---|---|---|--:|--:|--:|--:|--:|---|"""


def values(contest, side, measure):
    runs = contest["runs"][side]
    if measure == "wall per million":
        return [run["wall"] / contest[side]["triggers"] * 1e6 for run in runs]
    return [run[measure] for run in runs]


def number(value):
    """Three digits that matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(numbers):
    return f"{number(statistics.median(numbers))} ({number(min(numbers))} … {number(max(numbers))})"


def ratio(contest):
    """B ÷ A: of the medians, and the least and the greatest of the pairs."""
    a, b = (values(contest, side, contest["measure"]) for side in "ab")
    pairs = [theirs / ours for ours, theirs in zip(a, b)]
    return statistics.median(b) / statistics.median(a), min(pairs), max(pairs)


def verdict(contest):
    """Who does better, where a peer is the other side. Nobody does when the pairs do not agree."""
    _, least, greatest = ratio(contest)
    if contest["b"]["name"] not in PEERS:
        return ""
    if least > 1:
        return "retrigger wins"
    return "**retrigger loses**" if greatest < 1 else "no clear winner"


def medians(contest, measure):
    return ", ".join(number(statistics.median(values(contest, side, measure))) for side in "ab")


def sentence(contest):
    if "refused" in contest:
        return f"{contest['row']} {contest['what']}: no result. {contest['refused']}"
    a, b = (f"{contest[side]['name']} {spread(values(contest, side, contest['measure']))}" for side in "ab")
    middle, least, greatest = ratio(contest)
    return (f"{contest['row']} {contest['what']}, {contest['measure']}, {UNITS[contest['measure']]}: {a}, {b}, "
            f"B ÷ A {middle:.2f} ({least:.2f} … {greatest:.2f}) {verdict(contest)}").rstrip()


def line(contest):
    if "refused" in contest:
        said = " ".join(contest["refused"].split()).replace("|", "\\|")
        return f"| {contest['row']} | {contest['what']} | | | | | | | | | no result: {said} |"
    measure = contest["measure"]
    a, b = (spread(values(contest, side, measure)) for side in "ab")
    middle, least, greatest = ratio(contest)
    return (f"| {contest['row']} | {contest['what']} | {contest['a']['name']} | {contest['b']['name']} | {measure}, {UNITS[measure]} "
            f"| {a} | {b} | {middle:.2f} ({least:.2f} … {greatest:.2f}) | {medians(contest, 'cpu')} | {medians(contest, 'peak')} "
            f"| {verdict(contest)} |")


def best_peers(contests):
    """Where there are several peers, the one that does best is the one that counts."""
    rows = {}
    for contest in contests:
        if "runs" in contest and contest["b"]["name"] in PEERS:
            rows.setdefault((contest["row"], contest["what"]), []).append(contest)
    for (row, what), rivals in rows.items():
        if len(rivals) > 1:
            best = min(rivals, key=ratio)
            yield f"- {row}, {what}: against {best['b']['name']}, the better of the peers there, B ÷ A is {ratio(best)[0]:.2f}."


def machine_lines(record):
    machine = record["machine"]
    peers = ", ".join(f"{name} {version}" for name, version in machine["peers"].items())
    loads = [run["load"] for c in record["contests"] if "runs" in c for side in "ab" for run in c["runs"][side]]
    yield f"- Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}."
    yield f"- Date: {machine['date']}. {machine['retrigger']}, commit {machine['commit']}. Python {machine['python']}, {peers}."
    if loads:
        yield (f"- Load average (1 min) {machine['load_before']:.1f} at the start, {min(loads):.1f} to {max(loads):.1f} before runs, "
               "which includes the run before.")
    if record["shrink"] != 1:
        yield f"- **Data {record['shrink']} times smaller than the rows say: a trial of the scripts, no result.**"


def commands(contests):
    seen = dict.fromkeys(f"{c['row']} {c[side]['name']}: {c[side]['command']}" for c in contests if "a" in c for side in "ab")
    return "\n".join(seen)


def document(record):
    contests = record["contests"]
    checks = dict.fromkeys(f"- {c['row']}, {c['a']['name']} and {c['b']['name']}: {c['messages']}" for c in contests if "runs" in c)
    parts = ["# Results", "Made by `benches/compare/compare.sh`; `benches/compare/README.md` says what the rows mean.",
             "\n".join(machine_lines(record)), "\n".join([HEADING, *map(line, contests)]), "\n".join(best_peers(contests)),
             "## Same messages", "\n".join(checks), "## Commands", f"```text\n{commands(contests)}\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(document(json.loads(Path(sys.argv[1]).read_text())), end="")
