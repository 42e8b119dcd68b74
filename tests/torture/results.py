"""What became of the cases: counted by layer and step, shown as a table, written as JSON for machines."""

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

SHOWN_FAILURES = 40
T = TypeVar("T")


@dataclass
class Results:
    """Counts of one run of the torture. `stuck_by_design`: cases that end waiting for a person, as declared."""

    survived: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[tuple[str, str, str, list[str]]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    stuck_by_design: Counter[tuple[str, str]] = field(default_factory=Counter)
    thin: list[tuple[str, str, int, int]] = field(default_factory=list)  # (layer, situation, generated, played)
    equal: Counter[str] = field(default_factory=Counter)  # by layer: generated, and the same as one that is counted
    cpu_s: Counter[str] = field(default_factory=Counter)  # by layer, child processes too
    began: float = field(default_factory=time.monotonic)

    def take(self, layer: str, step: str, name: str, wrong: list[str]) -> None:
        """Count one case; say at once what is wrong with it."""
        if not wrong:
            self.survived[layer, step] += 1
            return
        self.failures.append((layer, step, name, wrong))
        print(f"LOST  {layer}: {name}", *(f"        {line}" for line in wrong[:6]), sep="\n", flush=True)

    def skip(self, layer: str, reason: str) -> None:
        """Say what cannot be run here, and why."""
        self.skipped.append((layer, reason))
        print(f"skip  {layer}: {reason}", flush=True)

    def thinned(self, layer: str, name: str, share: tuple[int, int], cases: list[T], chosen: list[T]) -> list[T]:
        """Say that of the generated cases only some are played, or a share of some; return those."""
        self.thin.append((layer, name, len(cases) if share[0] == 0 else 0, len(chosen)))
        return chosen

    def spent(self, layer: str, cpu_s: float) -> None:
        """Count the processor time of one part of a layer."""
        self.cpu_s[layer] += cpu_s

    def merge(self, other: "Results") -> None:
        """Take over what another process counted."""
        self.equal += other.equal
        self.cpu_s += other.cpu_s
        self.survived += other.survived
        self.failures += other.failures
        self.skipped += other.skipped
        self.stuck_by_design += other.stuck_by_design
        self.thin += other.thin

    @property
    def cases(self) -> int:
        """Return how many cases were run."""
        return self.survived.total() + len(self.failures) + self.stuck_by_design.total()

    def rows(self) -> list[tuple[str, str, int, int]]:
        """Return (layer, step, cases, survived), sorted."""
        lost = Counter((layer, step) for layer, step, _, _ in self.failures)
        keys = sorted(self.survived.keys() | lost.keys() | self.stuck_by_design.keys())
        return [(*key, self.survived[key] + lost[key] + self.stuck_by_design[key], self.survived[key]) for key in keys]

    def as_json(self, **more: object) -> dict[str, object]:
        """Return the document that build/torture.json holds."""
        by_layer: dict[str, dict[str, int]] = {}
        for layer, _, cases, survived in self.rows():
            row = by_layer.setdefault(layer, {"cases": 0, "survived": 0, "failed": 0})
            row["cases"] += cases
            row["survived"] += survived
        for layer, *_ in self.failures:
            by_layer[layer]["failed"] += 1
        spent = {layer: round(seconds) for layer, seconds in sorted(self.cpu_s.items())}
        thin: dict[tuple[str, str], Counter[str]] = {}
        for layer, name, generated, chosen in self.thin:
            thin.setdefault((layer, name), Counter()).update(generated=generated, drawn=chosen)
        return {
            "cases": self.cases,
            "survived": self.survived.total(),
            "stuck_by_design": self.stuck_by_design.total(),
            "failed": len(self.failures),
            "skipped": [{"layer": layer, "reason": reason} for layer, reason in self.skipped],
            "thinned": [
                {"layer": layer, "situation": name, **counts} for (layer, name), counts in sorted(thin.items())
            ],
            "equal": dict(self.equal),
            "by_layer": by_layer,
            "processor_seconds": spent,
            "by_step": [
                {"layer": layer, "step": step, "cases": cases, "survived": survived}
                for layer, step, cases, survived in self.rows()
            ],
            "failures": [{"layer": layer, "case": name, "wrong": wrong} for layer, _, name, wrong in self.failures],
            **more,
        }

    def write(self, path: Path, **more: object) -> None:
        """Write the document."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_json(**more), indent=2) + "\n")

    def show(self) -> None:
        """Print the table."""
        print(f"\n{'layer':<12} {'step':<18} {'cases':>6} {'survived':>9}")
        for layer, step, cases, survived in self.rows():
            print(f"{layer:<12} {step:<18} {cases:>6} {survived:>9}{'' if cases == survived else '  <- lost'}")
        print(f"{'all':<12} {'':<18} {self.cases:>6} {self.survived.total():>9}")
        for layer, _, name, wrong in self.failures[:SHOWN_FAILURES]:
            print(f"lost: {layer}: {name}: {wrong[0]}")
        for layer in sorted({row[0] for row in self.thin}):
            rows = [row for row in self.thin if row[0] == layer]
            generated, drawn = (sum(row[at] for row in rows) for at in (2, 3))
            names = {row[1] for row in rows}
            print(f"drawn: {layer}: {drawn} of {generated} cases of the {len(names)} situations with real tools")
        for layer, equal in self.equal.items():
            print(f"equal: {layer}: {equal} more left, to the last byte, a host that one of these left")
        for layer, reason in self.skipped:
            print(f"skipped: {layer}: {reason}")
        spent = ", ".join(f"{layer} {seconds:.0f} s" for layer, seconds in sorted(self.cpu_s.items()))
        print(f"{time.monotonic() - self.began:.0f} s; of processors: {spent}", file=sys.stdout, flush=True)
