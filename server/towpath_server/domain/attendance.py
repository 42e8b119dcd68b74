"""Who a rollout waits for and who it leaves out: hosts that are away, that come late, and that its time is over for.

Rules, each a named test:
- offline hosts are `ignore`d, or waited for: a wave that has finished then stays for its hosts that are away, until
  `offline_wait_ms` after it had first finished. Then it goes on without them.
- who was online when a server was last up is expected when the next one has started: it is offline only after
  `hosts.ONLINE_MS` without a word. Until then no wave that it is in passes, and no way back has ended.
- newcomers `join`, or `wait`: with the first `done` the list is closed. Who was on it and not let in yet (away, held,
  blocked, barred), and who was let in and withdrawn, may still come in; the others stay on what they have.
- before its time a rollout is not done, even where its release runs already.
- when its time is over and not everybody was let in, it ends as a cancelled one does. Hosts in flight that have not
  switched are told to stay. Hosts that are away or held do not keep it from having finished.

Pure. Not handled here: what bars a host now (`domain.timing`).
"""

from dataclasses import replace

from towpath.errors import InputError
from towpath_server.domain.hosts import ONLINE_MS
from towpath_server.domain.model import Newcomers, RolloutState
from towpath_server.domain.rollout_table import Act, next_state
from towpath_server.domain.standing import Decision, Phase, RolloutView, Standings, stay
from towpath_server.domain.tally import Group, Tally
from towpath_server.domain.windows import moment

MIN_OFFLINE_WAIT_MS = 1_000
MAX_OFFLINE_WAIT_MS = 7 * 86_400_000


def missing(view: RolloutView, away: tuple[Standings, int], since_unix_ms: int, now_unix_ms: int) -> tuple[str, int]:
    """Return for which hosts that are away a wave waits that finished at `since_unix_ms`, and until when.

    `away`: the first of them, and how many there are.
    """
    until = since_unix_ms + view.offline_wait_ms
    named, count = away
    if not view.offline_wait_ms or not named or now_unix_ms >= until:
        return "", 0
    more = f" and {count - 1} more" if count > 1 else ""
    return f"waits for {named[0][0].name}{more}, offline, until {moment(until)}", until


def unheard(view: RolloutView, expected: tuple[Standings, int], now_unix_ms: int) -> str:
    """Return for which hosts a server waits that it has not heard since its start, empty for none or no longer.

    `expected`: the first of them, and how many there are.
    """
    until = view.observed_since_unix_ms + ONLINE_MS
    named, count = expected
    if not named or now_unix_ms >= until:
        return ""
    more = f" and {count - 1} more" if count > 1 else ""
    return f"waits for {named[0][0].name}{more}, not heard since the server started, until {moment(until)}"


def unbegun(view: RolloutView, now_unix_ms: int) -> bool:
    """Return whether the rollout is before its time."""
    return now_unix_ms < view.timing.at_unix_ms


def expired(tally: Tally, *, last_open: bool) -> bool:
    """Return whether its time is over while hosts, or whole waves of them, still wait to be let in."""
    view = tally.view
    if view.state is RolloutState.DONE or not 0 < view.timing.expires_unix_ms <= tally.now_unix_ms:
        return False
    return not last_open or tally.count(Phase.WAITING) > 0 or not tally.total


def expire(tally: Tally) -> Decision:
    """Return the end of a rollout whose time is over."""
    view = tally.whole()
    let_in = sum(1 for host in view.hosts if host.admitted_unix_ms is not None)
    who = f"{let_in} of {len(view.hosts)} {'host was' if len(view.hosts) == 1 else 'hosts were'} let in"
    reason = f"expired at {moment(view.timing.expires_unix_ms)}: {who}"
    state = next_state(view.state, Act.EXPIRE)
    return Decision(state, reason, withdraw=stay(view), wave=view.wave, wave_done_unix_ms=view.wave_done_unix_ms)


def minding(tally: Tally, decision: Decision) -> Decision:
    """Return the decision after what bars hosts now, and who is no longer expected."""
    stays = tally.first(Group.STOPPED)
    withdraw = (*decision.withdraw, *stays)
    first = tally.named(tally.first(Group.BARRED, limit=1))
    reason = decision.reason
    if first or stays:
        bars = tally.view.bars or (first[0][0].bars if first else ())
        reason = "; ".join(part for part in (*(bar.fact for bar in bars), reason) if part)
    return replace(
        decision,
        reason=reason,
        withdraw=withdraw,
        waits_for_time=bool(first or stays),
        roster=_roster(tally, replace(decision, withdraw=withdraw)),
    )


def _roster(tally: Tally, decision: Decision) -> tuple[str, ...] | None:
    """Return who may still come in; None while the list is open, or is to stay as it is."""
    view = tally.view
    if view.newcomers is Newcomers.JOIN:
        return None
    if view.roster is not None:
        expected = set(view.roster)
    elif decision.state is RolloutState.DONE:
        expected = {host.host_id for host in tally.hosts.values() if host.admitted_unix_ms is None}
    else:
        return None
    return tuple(sorted((expected | set(decision.withdraw)) - set(decision.admit)))


def check_attendance(offline_wait_ms: int, newcomers: str) -> Newcomers:
    """Return the newcomers' policy where both can be; InputError otherwise. Zero and empty: the defaults."""
    if offline_wait_ms and not MIN_OFFLINE_WAIT_MS <= offline_wait_ms <= MAX_OFFLINE_WAIT_MS:
        raise InputError("cannot wait that long for offline hosts: 1s to 7d are allowed")
    try:
        return Newcomers(newcomers or Newcomers.JOIN)
    except ValueError as error:
        raise InputError(f"cannot do {newcomers[:40]!r} with newcomers: join or wait") from error
