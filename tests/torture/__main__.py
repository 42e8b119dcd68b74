"""`make torture`: every layer, or a seeded sample; a table, build/torture.json, and non-zero where anything was lost.

    python -m torture [--sample N] [--real N] [--seed S] [--layers steps,disk,syscalls,power,walk] [--only TEXT]
                      [--walks K] [--releases R]

Layers: steps and disk (one process, simulated time), syscalls (strace), power and walk (loop images, root). With
--sample each situation, story and filesystem plays N cases drawn by the seed, with --real each story and filesystem. A lost case is repeated by the same
command with the same seed; its name says what was done to whom.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from torture import powercuts, syscalls
from torture.crashes import Crashes
from torture.images import KINDS, Image, ImageError, Kind, check_cut
from torture.matrix import Stage
from torture.real import RealHost
from torture.results import Results
from torture.situations import situations, unplayed
from torture.thinning import drawn as _draw
from torture.thinning import one_of_each, sort_of_case, sort_of_crash
from torture.walk import walk

LAYERS = ("steps", "disk", "syscalls", "power", "walk")
# A situation with real tools costs minutes in each layer: so many processes share its cases.
SHARES = 4
Share = tuple[int, int]
# Cases of one story (and filesystem) that real processes play where nothing else is said (--real): each costs seconds.
REAL_CASES = 100
_ALONE = "TORTURE_ALONE"
OUT = Path("build/torture.json")
Drawn = Callable[[list, str], list]


@contextmanager
def _folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    base = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="towpath-torture-", dir=base, ignore_cleanup_errors=True) as path:
        yield Path(path)


def _steps(name: str, share: Share, drawn: Drawn, seed: int) -> Results:
    results = Results()
    with _folder() as folder:
        stage = Stage(situations()[name], folder)
        cases = list(stage.cases())
        if stage.situation.slow:
            chosen = one_of_each(cases, sort_of_case, name, seed=seed, share=share)
            cases = results.thinned("steps", name, share, cases, chosen)
        for case in drawn(cases, f"steps {name} {share[0]}"):
            results.take("steps", case.point.step, case.name, _safely(lambda case=case: stage.play(case)))
    return results


def _disk(name: str, share: Share, drawn: Drawn, seed: int) -> Results:
    results = Results()
    with _folder() as folder:
        crashes = Crashes(Stage(situations()[name], folder))
        dice = random.Random(f"{seed} draws {name}")
        cases = list(crashes.cases(dice, 1))
        results.equal["disk"] += crashes.equal if share[0] == 0 else 0
        if crashes.stage.situation.slow:
            chosen = one_of_each(cases, sort_of_crash, name, seed=seed, share=share)
            cases = results.thinned("disk", name, share, cases, chosen)
        for crash in drawn(cases, f"disk {name} {share[0]}"):
            step = crash.step.state or "between actions"
            results.take("disk", step, crashes.name(crash), _safely(lambda crash=crash: crashes.play(crash)))
    return results


def _syscalls(name: str, drawn: Drawn) -> Results:
    results = Results()
    with _folder() as folder:
        host = RealHost(folder / "host")
        it = syscalls.story(name, host)
        it.again()
        found = syscalls.calls(host, folder / "log")
        for call, fault in drawn(list(syscalls.cases(found)), f"syscalls {name}"):
            case = f"{name}: {fault} at {call.name} {call.number}: {call.text}"
            results.take("syscalls", call.name, case, _safely(partial(syscalls.play, it, call, fault)))
        host.end_apps()
        host.listener.stop()
    return results


def _power(kind: Kind, name: str, drawn: Drawn) -> Results:
    results = Results()
    with _folder() as folder:
        image = None
        try:
            image = Image(kind, folder / kind.name)
            check_cut(image)
        except ImageError as error:
            results.skip(f"power {kind.name}", str(error))
            if image is not None:
                image.close()
            return results
        host = RealHost(powercuts.place(image))
        try:
            cut = powercuts.begin(name, image, host)
            found = syscalls.calls(host, folder / "log")
            for call in drawn(found, f"power {kind.name} {name}"):
                case = f"{kind.name}, {name}: cut at {call.name} {call.number}: {call.text}"
                results.take(f"power {kind.name}", call.name, case, _safely(partial(cut.play, call)))
        finally:
            host.end_apps()
            host.listener.stop()
            image.close()
    return results


def _walk(seed: int, releases: int) -> Results:
    results = Results()
    with _folder() as folder:
        image = None
        try:
            image = Image(KINDS[0], folder / "disk")
        except ImageError as error:
            results.skip("walk", f"power cuts: {error}; the walk has kills only")
        place = powercuts.place(image) if image is not None else folder / "host"
        repeat = f"repeat: make torture LAYERS=walk SEED={seed} WALKS=1 RELEASES={releases}"
        print(f"walk of {releases} releases with seed {seed} ({repeat})", flush=True)
        try:
            wrong = _safely(partial(walk, place, image, seed, releases, partial(print, flush=True)))
            results.take("walk", "last good serves", f"walk with seed {seed} ({repeat})", wrong)
        finally:
            if image is not None:
                image.close()
    return results


def _measured(layer: str, play: Callable[..., Results], what: object, *arguments: object) -> tuple[str, Results]:
    """Return what was played and what became of it, with the processor time that it took."""
    before = os.times()
    results = play(what, *arguments)
    results.spent(layer, sum(os.times()[:4]) - sum(before[:4]))
    names = [it.name if isinstance(it, Kind) else it for it in (what, *arguments) if isinstance(it, Kind | str)]
    return ", ".join([layer, *names]) if names else f"{layer} {what}", results


def _safely(play: Callable[[], list[str]]) -> list[str]:
    """Return what is wrong; that the case itself fell over is wrong as well, and no reason to stop."""
    try:
        return play()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a lost case
        return [f"{type(error).__name__}: {error}"]


def _alone(arguments: list[str]) -> None:
    """Go on in a mount namespace of our own, where that can be had.

    A namespace that somebody makes meanwhile (a container, a service with a private /tmp) copies every mount that it sees
    and keeps it: what we cut and unmounted would live on there, and mounting again would give the dead filesystem back.
    """
    unshare = shutil.which("unshare")
    if os.geteuid() == 0 and unshare is not None and _ALONE not in os.environ:
        again = [unshare, "--mount", "--propagation", "private", sys.executable, "-m", "torture", *arguments]
        os.execve(unshare, again, {**os.environ, _ALONE: "1"})


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0 where nothing was lost."""
    parser = argparse.ArgumentParser(prog="torture", description="Break the agent at every step and look what is left.")
    parser.add_argument("--sample", type=int, default=0, help="cases per situation, story and filesystem; 0: all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--all", action="store_true", help="every system call of each story: many hours")
    parser.add_argument("--real", type=int, default=REAL_CASES, help="system calls of each story and filesystem, drawn")
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="of steps and disk, situations with TEXT in their name"
    )
    parser.add_argument("--walks", type=int, default=3)
    parser.add_argument("--releases", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    layers = options.layers.split(",")
    if not any(options.only in name for name in situations()):
        parser.error(f"no situation has {options.only!r} in its name; there are: {', '.join(situations())}")
    if unknown := set(layers) - set(LAYERS):
        parser.error(f"unknown layers {', '.join(sorted(unknown))}; known are {', '.join(LAYERS)}")
    again = f"SAMPLE={options.sample}" if options.sample else f"REAL={options.real}"
    print(f"seed {options.seed} (repeat: make torture SEED={options.seed} {again})", flush=True)
    results = Results()
    for kind, why in unplayed().items() if {"steps", "disk"} & set(layers) else ():
        results.skip("steps, disk", f"installer {kind}: {why}")
    drawn = partial(_draw, seed=options.seed, sample=options.sample)
    with ProcessPoolExecutor(options.jobs) as pool:
        waiting = [pool.submit(_measured, *job) for job in _jobs(layers, drawn, options, results)]
        for number, future in enumerate(as_completed(waiting), 1):
            name, part = future.result()
            results.merge(part)
            print(f"{number} of {len(waiting)}: {name}: {part.cases} cases", flush=True)
    results.show()
    results.write(OUT, seed=options.seed, sample=options.sample, layers=layers)
    print(f"written: {OUT}; {json.dumps({key: results.as_json()[key] for key in ('cases', 'survived', 'failed')})}")
    return 1 if results.failures else 0


def _jobs(layers: list[str], drawn: Drawn, options: argparse.Namespace, results: Results) -> Iterator[tuple]:
    if "walk" in layers:
        yield from (("walk", _walk, options.seed + number, options.releases) for number in range(options.walks))
    # The longest begin, so that no processor waits for one of them in the end: real tools, then sets of apps.
    known = {name: it for name, it in situations().items() if options.only in name}
    for name in sorted(known, key=lambda it: (not known[it].slow, -len(known[it].goals))):
        shares = SHARES if known[name].slow and not options.sample else 1
        for number in range(shares):
            if "steps" in layers:
                yield ("steps", _steps, name, (number, shares), drawn, options.seed)
            if "disk" in layers:
                yield ("disk", _disk, name, (number, shares), drawn, options.seed)
    most = options.sample or (0 if options.all else options.real)
    real = partial(_draw, seed=options.seed, sample=most)
    if most and {"syscalls", "power"} & set(layers):
        print(f"syscalls and power: at most {most} cases of each story and filesystem, drawn by the seed", flush=True)
    strace = syscalls.missing()
    for layer in ("syscalls", "power"):
        if layer in layers and strace:
            results.skip(layer, strace)
    if "syscalls" in layers and not strace:
        yield from (("syscalls", _syscalls, name, real) for name in syscalls.STORIES)
    if "power" in layers and not strace:
        yield from (("power", _power, kind, name, real) for kind in KINDS for name in syscalls.STORIES)


if __name__ == "__main__":
    _alone(sys.argv[1:])
    sys.exit(main())
