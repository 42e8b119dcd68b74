"""Operators keep the calendar: freezes, and the windows of environments. Every change is audited.

Nothing here moves or stops a host: the entry is written, the rollouts in its scope are decided again at once.
"""

import secrets
from dataclasses import dataclass, replace

from towpath_server.domain import freezes
from towpath_server.domain.model import CalendarEntry
from towpath_server.services import rollouts
from towpath_server.services.context import Act, Context, acting
from towpath_server.services.deploying import check_known


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry, and where it stands now."""

    entry: CalendarEntry
    now: freezes.Now


def add(context: Context, actor: str, draft: freezes.Draft) -> Shown:
    """Write an entry; InputError where it cannot be, nothing changed then."""
    with acting(context, actor, f"{draft.kind[:20]}.add", "calendar") as act:
        entry = put_entry(context, actor, act, draft)
    return _shown(context, entry)


def put_entry(context: Context, actor: str, act: Act, draft: freezes.Draft) -> CalendarEntry:
    """Do what `add` does inside `act`."""
    tx = act.tx
    entry = freezes.check_draft(draft, tx.calendar(), context.clock.now_unix_ms())
    if entry.environment:
        check_known(tx, rollouts.load(context, tx, entry.environment), entry.environment)
    entry = replace(entry, id=secrets.token_hex(4), created_by=actor)
    tx.add_calendar_entry(entry)
    _touch(act, entry)
    return entry


def remove(context: Context, actor: str, kind: str, name: str) -> Shown:
    """Remove an entry by its id or the beginning of it, and return it; InputError `not-found`."""
    with acting(context, actor, f"{kind[:20]}.remove", f"calendar/{name[:40]}") as act:
        entry = take_entry(act, kind, name)
    return _shown(context, entry)


def take_entry(act: Act, kind: str, name: str) -> CalendarEntry:
    """Do what `remove` does inside `act`."""
    entry = freezes.find(act.tx.calendar(), kind, name)
    act.tx.remove_calendar_entry(entry.id)
    _touch(act, entry)
    return entry


def _shown(context: Context, entry: CalendarEntry) -> Shown:
    return Shown(entry, freezes.now_of(entry, context.clock.now_unix_ms()))


def _touch(act: Act, entry: CalendarEntry) -> None:
    act.subject = f"{entry.kind}/{entry.id}"
    act.detail = freezes.words(entry)
    everywhere = {one.environment for one in act.tx.assignments()}
    act.environments |= {entry.environment} if entry.environment else everywhere


def entries(context: Context, kind: str) -> list[Shown]:
    """Return the entries of one kind, oldest first."""
    with context.storage.transaction() as tx:
        return [_shown(context, one) for one in tx.calendar() if one.kind == kind]
