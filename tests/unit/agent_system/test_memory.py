"""Giving memory back: which pages may go, and that a process works on without them."""

import subprocess
import sys

from towpath_agent.system.memory import clean_file_pages

SMAPS = """\
00400000-00402000 r-xp 00001000 08:01 12 /usr/bin/program with blanks
Rss:                   8 kB
Shared_Dirty:          0 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
00500000-00501000 r--p 00003000 08:01 12 /usr/lib/relocated.so
Rss:                   4 kB
Private_Dirty:         4 kB
Anonymous:             4 kB
00600000-00601000 rw-p 00003000 08:01 12 /usr/lib/data.so
Rss:                   4 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
00700000-00701000 r--p 00000000 00:00 0
Rss:                   4 kB
00800000-00801000 r--p 00000000 00:00 0 [vvar]
Rss:                   4 kB
00900000-00901000 r--s 00000000 08:01 13 /usr/lib/locale-archive
Rss:                   4 kB
00a00000-00a01000 r--p 00000000 08:01 14 /usr/lib/untouched.so
Rss:                   0 kB
Anonymous:             0 kB
00b00000-00b03000 r--p 00000000 08:01 15 /usr/lib/constants.so
Rss:                   8 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
"""

WORK = """
import decimal, hashlib, sqlite3, sys
from pathlib import Path
from towpath_agent.system.memory import clean_file_pages, give_back

def work():
    db = sqlite3.connect(":memory:")
    return hashlib.sha256(b"x").hexdigest(), str(decimal.Decimal(2).sqrt()), db.execute("select 6 * 7").fetchone()[0]

def clean_kib():
    text = Path("/proc/self/smaps").read_text()
    starts = {start for start, _ in clean_file_pages(text)}
    kib, here = 0, False
    for line in text.splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            here = int(words[0].partition("-")[0], 16) in starts
        elif words[0] == "Rss:" and here:
            kib += int(words[1])
    return kib

before, first = work(), clean_kib()
give_back()
second = clean_kib()
assert work() == before
print(first, second)
"""


def test_only_clean_resident_private_pages_of_files_may_go() -> None:
    """What was written to (relocations, data), is anonymous, shared or not there is left alone."""
    assert list(clean_file_pages(SMAPS)) == [(0x400000, 0x2000), (0xB00000, 0x3000)]
    assert list(clean_file_pages("")) == []


def test_a_process_gives_back_most_pages_of_its_files_and_works_on() -> None:
    """Libraries that were used before are used again afterwards, with the same results."""
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (int(word) for word in done.stdout.split())
    assert first > 1000
    assert second < first * 0.7
