"""What a table of results must say about where its numbers come from."""
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PEERS = ["duckdb", "chdb", "polars", "Jinja2", "pyarrow"]


def said_by(*command):
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()


def built_binary():
    """Where cargo puts it, whatever CARGO_TARGET_DIR or a configuration says."""
    metadata = json.loads(said_by("cargo", "metadata", "--format-version", "1", "--no-deps"))
    return str(Path(metadata["target_directory"]) / "release" / "retrigger")


def found_in(path, name):
    """The value of the first line `name : value`."""
    lines = Path(path).read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "unknown")


def facts(binary, built):
    return {
        "cpu": found_in("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(found_in("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
        "date": datetime.date.today().isoformat(),
        "load_before": os.getloadavg()[0],
        "retrigger": said_by(binary, "--version"),
        # Another binary was not made from what this repository holds now.
        "commit": said_by("git", "describe", "--always", "--dirty") if built else "unknown, a given binary",
        "python": platform.python_version(),
        "peers": {peer: importlib.metadata.version(peer) for peer in PEERS},
    }
