"""The language under torture: `python -m tests.torture.language [MUTANTS] [PROCESSES]` (20,000 and 100 by default).

The test suite runs the same functions with small numbers.
"""

from __future__ import annotations

import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.core.spoken import DESIGN, problems

ROOT = Path(__file__).parents[2]
GOOD = DESIGN.replace("${{ matrix.clients }}", "50").replace("matrix: {clients: [1, 50]}\n", "")

TOKENS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    "- ",
    "\n",
    "  ",
    "&a ",
    "*a",
    "!!str ",
    "'",
    '"',
    "|",
    ">",
    "#",
    "? ",
    "null",
    "~",
    "\t",
]
TOKENS += [
    "${{ env.HOME }}",
    "<<: ",
    "1e999",
    "0123",
    "5",
    "true",
    "[]",
    "{}",
    "\0",
    "\x1b",
    "é",
    "👋",
    "---\n",
    "%",
    "@",
]


def mutant(seed: int, text: str) -> bytes:
    """A scenario with a few lines or characters dropped, doubled, moved or put in."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 4)):
        lines = text.split("\n")
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        change = rng.randrange(6)
        if change == 0:
            del lines[at]
        elif change == 1:
            lines.insert(other, lines[at])
        elif change == 2:
            lines[at], lines[other] = lines[other], lines[at]
        elif change == 3:
            lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)] + rng.choice(TOKENS) + lines[at][-3:]
        elif change == 4:
            words = re.split(r"(\W)", lines[at])
            words[rng.randrange(len(words))] = rng.choice(TOKENS)
            lines[at] = "".join(words)
        else:
            lines[at] = " " * rng.randrange(6) + lines[at]
        text = "\n".join(lines)
    data = text.encode()
    return data if rng.random() < 0.9 else data[: rng.randrange(len(data) + 1)]


PLAN = """\
import sys, hashlib
from pathlib import Path
from midsession.language import plans
made = plans(Path(sys.argv[1]), 42)
print(len(made), *(p.hash for p in made), hashlib.sha256(b"".join(p.to_json() for p in made)).hexdigest())
"""
LOCALES = ("C", "C.UTF-8", "POSIX", "tr_TR.UTF-8", "de_DE.ISO-8859-1")
PATHS = ("x.scenario.yaml", "../ä b/x.scenario.yaml", "{folder}/x.scenario.yaml")
"""The path as it is typed: where one stands, by a detour, from the root."""


def digests(folder: Path, times: int) -> tuple[set[str], set[str]]:
    """What so many processes, each with its own hash seed, directory, locale, time zone and path, make of one seed.

    First the number and the hashes of the plans; then the bytes of those whose path was typed in the first way.
    """
    for number in range(10):
        inner = folder / f"{number}" / "ä b"
        inner.mkdir(parents=True)
        (inner / "x.scenario.yaml").write_text(DESIGN, encoding="utf-8")
    with ThreadPoolExecutor(2) as pool:
        seen = list(pool.map(lambda number: _digest(folder / f"{number % 10}" / "ä b", number), range(times)))
    assert len(seen) == times > len(PATHS)
    return {hashes for hashes, _ in seen}, {whole for _, whole in seen[:: len(PATHS)]}


def _digest(folder: Path, number: int) -> tuple[str, str]:
    settings = {"PYTHONHASHSEED": str(number * 7919 + 1), "LC_ALL": LOCALES[number % 5], "TZ": f"UTC{number % 12}"}
    done = subprocess.run(
        [sys.executable, "-c", PLAN, PATHS[number % len(PATHS)].format(folder=folder)],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    hashes, _, whole = done.stdout.strip().rpartition(" ")
    return hashes, whole


def sweep(mutants: int) -> None:
    """Promise I1 over so many mutants: a place for every problem, less than 1 s of CPU time and 200 MB for each."""
    slowest_s, refused = 0.0, 0
    problems(GOOD)
    before_kb = _peak_kb()
    for seed in range(mutants):
        began = time.process_time()
        found = problems(mutant(seed, GOOD))
        slowest_s = max(slowest_s, time.process_time() - began)
        assert all(p.place for p in found), seed
        refused += bool(found)
    grown_mb = (_peak_kb() - before_kb) / 1024
    told = f"{refused} refused with a place, slowest {slowest_s * 1000:.0f} ms, grown by {grown_mb:.0f} MB"
    sys.stdout.write(f"{mutants} mutants: {told}\n")
    assert slowest_s < 1
    assert grown_mb < 200


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Run both, and say what was seen."""
    mutants, times = [int(word) for word in sys.argv[1:]] or (20_000, 100)
    sweep(mutants)
    if not times:
        return
    with tempfile.TemporaryDirectory() as folder:
        hashes, whole = digests(Path(folder), times)
    sys.stdout.write(f"{times} processes: {len(hashes)} different hashes, {len(whole)} different plans\n")
    assert len(hashes) == len(whole) == 1


if __name__ == "__main__":
    main()
