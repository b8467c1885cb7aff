"""Measure how long dipfast takes to start, against a bare Python.

    python -m benches.startup [--repeats 9]

Whole processes, in turns; medians, and their ratio to that of a process that does nothing.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

PROGRAMS = {
    "bare Python": ["-c", "pass"],
    "import dipfast": ["-c", "import dipfast"],
    "dipfast --help": ["-m", "dipfast", "--help"],
    "dipfast denoise --help": ["-m", "dipfast", "denoise", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Return the seconds that a process of this Python takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(repeats):
        for name, arguments in PROGRAMS.items():
            times[name].append(seconds(arguments))
    bare = statistics.median(times["bare Python"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:24} {1e3 * median:6.0f} ms {median / bare:6.1f}x")


if __name__ == "__main__":
    main()
