"""Measure retrigger against what a user could pick instead, and against itself: the rows S1 … S10.

usage: compare.py [S1 S2 …] [--json FILE] [--binary RETRIGGER] [--pairs N] [--shrink N]

A contest is two jobs, A and B. Each runs once untimed; unless the two are meant to do different work, the comparison
ends there when same_messages.py does not say that they wrote the same messages. Then pairs run interleaved, A B B A A B …,
so that a machine that gets slower is no advantage to either. --shrink 100 makes all data 100 times smaller: to try the
script, not to quote. Environment: RETRIGGER_DATA is where data and outputs go.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import machine
from results_table import sentence

HERE = Path(__file__).resolve().parent
# Some days after the last trigger: the run's instant is part of the job, not the day somebody measures.
AS_OF = "2026-10-01T00:00:00Z"
MILLION = 1_000_000
HUNDRED, NIGHTLY, LARGE, HUGE = (100, 100), (5 * MILLION, MILLION), (20 * MILLION, 4 * MILLION), (50 * MILLION, 10 * MILLION)
# 72 million triggers of these recipients are about 50 million keys; the night's five million come from the same ones.
HISTORY, NEXT_NIGHT = (72 * MILLION, 20 * MILLION), (5 * MILLION, 20 * MILLION)
PEERS = {"duckdb": "DuckDB", "chdb": "chDB", "polars": "Polars", "python": "Python + Jinja2"}
FORMS = {"parquet": "Parquet", "ndjson": "NDJSON"}


class Refused(Exception):
    """A contest that has no result, and why."""


@dataclass
class Job:
    """A command, and what it writes."""
    name: str
    command: list[str]
    out: Path
    messages: str
    triggers: int
    before: Callable[[], None] = field(default=lambda: None, repr=False)


@dataclass
class Contest:
    what: str
    a: Job
    b: Job
    measure: str = "wall"
    pairs: int = 5
    same_work: bool = True


class Lab:
    """Where data and outputs are, and how jobs are put together."""

    def __init__(self, binary, shrink):
        self.binary, self.shrink = binary, shrink
        self.data = Path(os.environ.get("RETRIGGER_DATA", Path.home() / ".cache/retrigger-data"))
        self.data.mkdir(parents=True, exist_ok=True)
        self.work = Path(tempfile.mkdtemp(prefix="compare-", dir=self.data))

    def count(self, size):
        return max(size[0] // self.shrink, 100)

    def source(self, size, form="parquet", campaigns=8):
        """The file of `size` = (triggers, recipients), made when it is missing."""
        triggers, recipients = self.count(size), max(size[1] // self.shrink, 100)
        name = self.data / f"triggers-{triggers}-of-{recipients}-in-{campaigns}"
        path = Path(f"{name}.{form}")
        if not path.exists():
            print(f"making {path.name}", file=sys.stderr)
            flags = ["--campaigns", str(campaigns)] + ["--no-ndjson"] * (form == "parquet")
            subprocess.run([sys.executable, HERE / "make_data.py", str(triggers), str(recipients), name, *flags], check=True)
        return str(path)

    def ours(self, rule, size, form="parquet", flags=(), name="retrigger", state=None, campaigns=None,
             campaign_count=8, clock=None, before=lambda: None):
        """retrigger on that data, in and out in one form. Without `state` it knows no earlier run."""
        out = self.work / name.replace(" ", "-")
        campaigns = campaigns or HERE / f"campaigns-{rule}"
        clock = clock or ("event" if rule == "1d" else "run")
        memory = ["--state", str(state), "--create-state"] if state else ["--stateless"]
        command = [self.binary, "run", *memory, "--campaigns", str(campaigns),
                   "--input", self.source(size, form, campaign_count), "--format", form, "--clock", clock, "--as-of", AS_OF,
                   "--out", str(out), *flags]
        return Job(name, command, out, f"{out}/*/deliveries/email/*.{form}", self.count(size), before)

    def peer(self, peer, rule, size, form="parquet"):
        out = self.work / f"{peer}.{form}"
        command = [sys.executable, str(HERE / "peers.py"), peer, rule, self.source(size, form), str(out)]
        return Job(PEERS[peer], command, out, str(out), self.count(size))

    def shown(self, command):
        """A command as a reader can repeat it: without the places of this machine."""
        text = " ".join(command)
        for place, name in ((self.work, "$OUT"), (self.data, "$RETRIGGER_DATA"), (f"{HERE}/", ""), (self.binary, "retrigger"),
                            (sys.executable, "python")):
            text = text.replace(str(place), name)
        return text

    def many_campaigns(self):
        """200 campaigns with an e-mail, a push and a webhook each."""
        folder = self.work / "campaigns-200"
        template = json.loads((HERE / "campaigns-once/campaign-0/campaign.json").read_text())
        item = "{{api_trigger_properties.${item_name}}}"
        template["messages"] |= {"push": {"title": "Still there", "body": item},
                                 "webhook": {"url": "https://hooks.example/viewed", "body": '{"item":"%s"}' % item}}
        for number in range(200):
            campaign = folder / f"campaign-{number}"
            campaign.mkdir(parents=True, exist_ok=True)
            (campaign / "campaign.json").write_text(json.dumps(template | {"id": campaign.name, "name": campaign.name}))
            shutil.copy(HERE / "campaigns-once/campaign-0/body.html.hbs", campaign)
        return folder

    def history(self):
        """A state in which HISTORY's triggers have been received."""
        state = self.work / "history"
        recording = self.ours("once", HISTORY, name="recording", state=state, clock="event", flags=["--record-only"])
        print("recording the history", file=sys.stderr)
        run(recording)
        clear(recording.out)
        return state


# The table ---------------------------------------------------------------------------------------------------------

def s1(lab):
    for peer in "duckdb", "polars":
        yield Contest("once, Parquet", lab.ours("once", NIGHTLY), lab.peer(peer, "once", NIGHTLY))


def s2(lab):
    for peer in "duckdb", "polars":
        yield Contest("windows of a day, Parquet", lab.ours("1d", NIGHTLY), lab.peer(peer, "1d", NIGHTLY))


def s3(lab):
    for peer in "duckdb", "chdb":
        yield Contest("once, NDJSON", lab.ours("once", NIGHTLY, "ndjson"), lab.peer(peer, "once", NIGHTLY, "ndjson"))


def s4(lab):
    yield Contest("windows of a day, Parquet", lab.ours("1d", NIGHTLY), lab.peer("python", "1d", NIGHTLY), pairs=3)


def s5(lab):
    for contest in [*s1(lab), *s2(lab)]:
        contest.measure = "peak"
        yield contest


def s6(lab):
    ceiling = {"flags": ["--memory", "256MiB"], "name": "256 MiB"}
    for form in "parquet", "ndjson":
        for measure in "wall", "peak":
            yield Contest(f"20 M triggers, {FORMS[form]}", lab.ours("once", LARGE, form, name="no ceiling"),
                          lab.ours("once", LARGE, form, **ceiling), measure, pairs=3)
    many = {"campaigns": lab.many_campaigns(), "campaign_count": 200}
    for measure in "wall", "peak":
        yield Contest("200 campaigns of three channels", lab.ours("once", NIGHTLY, name="no ceiling", **many),
                      lab.ours("once", NIGHTLY, **many, **ceiling), measure, pairs=3)


def s7(lab):
    yield Contest("once, Parquet", lab.ours("once", NIGHTLY, name="5 M"), lab.ours("once", HUGE, name="50 M"),
                  "wall per million", pairs=3, same_work=False)


def s8(lab):
    history, state = lab.history(), lab.work / "state"
    first = lab.ours("once", NEXT_NIGHT, name="first run", state=state, before=lambda: clear(state))
    night = lab.ours("once", NEXT_NIGHT, name="after 50 M receipts", state=state, before=lambda: restore(history, state))
    yield Contest("5 M triggers with a state", first, night, pairs=3, same_work=False)


def s9(lab):
    yield Contest("100 triggers, Parquet", lab.ours("once", HUNDRED), lab.peer("duckdb", "once", HUNDRED), pairs=15)


def s10(lab):
    yield Contest("once, Parquet", lab.ours("once", NIGHTLY, flags=["--threads", "2"], name="2 threads"),
                  lab.ours("once", NIGHTLY, flags=["--threads", "1"], name="1 thread"))


ROWS = {"S1": s1, "S2": s2, "S3": s3, "S4": s4, "S5": s5, "S6": s6, "S7": s7, "S8": s8, "S9": s9, "S10": s10}


# Measuring ---------------------------------------------------------------------------------------------------------

def clear(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def restore(saved, path):
    clear(path)
    shutil.copytree(saved, path)


def complaint(text):
    """The line that says what is wrong: a tool's first error, or the last line of a traceback."""
    lines = text.strip().splitlines() or ["no word of why"]
    return next((line for line in lines if line.startswith("error")), lines[-1])


def run(job):
    """One run: wall and CPU seconds, peak MiB, and the load before it. What prepares it is not timed."""
    clear(job.out)
    job.before()
    os.sync()  # what earlier runs wrote goes to disk now, not during this run
    load = os.getloadavg()[0]
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        child = subprocess.Popen(job.command, stdout=subprocess.DEVNULL, stderr=said)
        # A child's peak starts with what this process has at the fork, some 20 MiB: nothing heavy is imported here.
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            raise Refused(f"{job.name} failed: {complaint(said.read().decode(errors='replace'))}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024, "load": load}


def same_messages(a, b):
    check = subprocess.run([sys.executable, HERE / "same_messages.py", a.messages, b.messages], capture_output=True, text=True)
    if check.returncode:
        said = check.stdout.strip()[:600] or complaint(check.stderr)
        raise Refused(f"{a.name} and {b.name} did not write the same messages: {said}")
    return check.stdout.strip()


def sent(job):
    """How many messages a run of ours says that it sent."""
    return sum(json.loads(path.read_text())["sent"] for path in job.out.glob("*/summary.json"))


def measure(contest, pairs):
    """The runs of A and of B, pair by pair, and what was said of their messages."""
    a, b = contest.a, contest.b
    run(a), run(b)
    said = same_messages(a, b) if contest.same_work else f"different work on purpose: {sent(a):,} and {sent(b):,} sent"
    runs = {"a": [], "b": []}
    for pair in range(pairs):
        for side in "ab" if pair % 2 == 0 else "ba":
            runs[side].append(run(getattr(contest, side)))
    clear(a.out), clear(b.out)
    return {"messages": said, "runs": runs}


def contest_result(contest, lab, pairs, known):
    """What `measure` gives or why not; measured once for rows that look at the same two jobs differently."""
    key = (*contest.a.command, *contest.b.command)
    if key not in known:
        try:
            known[key] = measure(contest, pairs or contest.pairs)
        except Refused as why:
            known[key] = {"refused": str(why)}
    sides = {side: {"name": job.name, "command": lab.shown(job.command), "triggers": job.triggers}
             for side, job in (("a", contest.a), ("b", contest.b))}
    return {"what": contest.what, "measure": contest.measure, **sides, **known[key]}


def row_results(row, lab, pairs, known):
    try:
        for contest in ROWS[row](lab):
            yield {"row": row, **contest_result(contest, lab, pairs, known)}
    except Refused as why:  # what the row needs could not be made
        yield {"row": row, "what": ROWS[row].__name__, "refused": str(why)}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=" ".join(ROWS))
    parser.add_argument("--json", default="results.json")
    parser.add_argument("--binary", help="by default the release build of this repository")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--shrink", type=int, default=1)
    args = parser.parse_args()
    if unknown := set(args.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    return args


def main():
    args = arguments()
    lab = Lab(args.binary or machine.built_binary(), args.shrink)
    record = {"machine": machine.facts(lab.binary, built=not args.binary), "shrink": args.shrink, "contests": []}
    known = {}
    try:
        for row in args.rows or ROWS:
            for result in row_results(row, lab, args.pairs, known):
                record["contests"].append(result)
                print(sentence(result), flush=True)
                Path(args.json).write_text(json.dumps(record, indent=1))
    finally:
        shutil.rmtree(lab.work)
    return any("refused" in result for result in record["contests"])


if __name__ == "__main__":
    sys.exit(main())
