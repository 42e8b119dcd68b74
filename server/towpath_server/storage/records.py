"""Rows to dataclasses and back. What a tick reads by the thousand, hosts and reports, is in `bulk`."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, fields
from enum import StrEnum
from functools import cache
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Row

from towpath.budgets import Budget
from towpath.metrics import Metric
from towpath.reports import Prefetch
from towpath.waves import Wave
from towpath.windows import Window
from towpath_server.domain.approval import Approval
from towpath_server.domain.model import (
    Assignment,
    CalendarEntry,
    EntryKind,
    Newcomers,
    OnBreach,
    RolloutState,
    Timing,
)

T = TypeVar("T")


@cache
def _plan(kind: Hashable, columns: tuple[str, ...]) -> tuple[tuple[str, ...], Callable[[Row[Any]], tuple[Any, ...]]]:
    """Return the fields of `kind` that are columns, and what takes them out of a row: by name each would cost most."""
    names = tuple(one.name for one in fields(kind) if one.name in columns)  # type: ignore[arg-type]
    return names, itemgetter(*map(columns.index, names))


def loaded(kind: type[T], row: Row[Any], /, **converted: object) -> T:
    """Return a row as a `kind`; `converted` are the fields that no column holds as they are."""
    names, taken = _plan(kind, row._fields)  # type: ignore[arg-type]
    return kind(**{**dict(zip(names, taken(row), strict=True)), **converted})


def assignment(row: Row[Any]) -> Assignment:
    """Return a row of assignments."""
    return loaded(
        Assignment,
        row,
        state=RolloutState(row.state),
        on_breach=OnBreach(row.on_breach),
        waves=tuple(Wave(**{**wave, "metrics": tuple(wave.get("metrics", ()))}) for wave in row.waves),
        excused=tuple(row.excused),
        timing=_timing(row.timing),
        newcomers=Newcomers(row.newcomers),
        roster=tuple(row.roster) if row.roster is not None else None,
        approvers=tuple(row.approvers),
        approvals=tuple(Approval(**one) for one in row.approvals),
        metrics=tuple(Metric(**one) for one in row.metrics),
        budgets=tuple(Budget(**one) for one in row.budgets),
    )


def _timing(known: Mapping[str, Any]) -> Timing:
    return Timing(**{**known, "windows": tuple(_window(one) for one in known.get("windows", ()))})


def _window(known: Mapping[str, Any]) -> Window:
    return Window(**{**known, "days": tuple(known["days"])})


def entry(row: Row[Any]) -> CalendarEntry:
    """Return a row of the calendar."""
    weekly = _window(row.weekly) if row.weekly is not None else None
    return loaded(CalendarEntry, row, kind=EntryKind(row.kind), weekly=weekly)


def prefetch_column(it: Prefetch | None) -> dict[str, str] | None:
    """Return what a column of app_states holds of a release that is fetched ahead."""
    if it is None:
        return None
    return {"version": it.version, "sha256": it.sha256.hex(), "state": str(it.state), "reason": it.reason}


def columns(row: Any) -> dict[str, Any]:
    """Return a dataclass as column values: enums as text."""
    return {
        name: str(value) if isinstance(value, StrEnum) else dict(value) if _is_map(value) else value
        for name, value in asdict(row).items()
    }


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)
