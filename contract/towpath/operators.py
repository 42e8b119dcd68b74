"""Who may approve a wave, as operators write it: names of operators, separated by commas. None: anybody but the author.

Not handled here: who has approved (the server's `domain.approval`).
"""

from collections.abc import Sequence

from towpath.errors import InputError
from towpath.names import check_host
from towpath.waves import Wave

MAX_APPROVERS = 50


def parse_approvers(text: str) -> tuple[str, ...]:
    """Return the names in `text`, sorted; InputError otherwise."""
    return check_approvers([part.strip() for part in text.split(",")]) if text.strip() else ()


def check_approvers(names: Sequence[str]) -> tuple[str, ...]:
    """Return `names` sorted where each could be an operator's, else raise InputError."""
    if len(names) > MAX_APPROVERS:
        raise InputError(f"cannot name {len(names)} approvers: at most {MAX_APPROVERS}")
    for name in names:
        try:
            check_host(name)
        except InputError as error:
            raise InputError(f"cannot name {name[:60]!r} as an approver: write NAMES, such as ann,bob") from error
        if list(names).count(name) > 1:
            raise InputError(f"cannot name {name} as an approver twice: a person counts once")
    return tuple(sorted(names))


def check_approvals(waves: Sequence[Wave], approvers: Sequence[str], author: str) -> None:
    """Raise InputError where the approvals that `waves` ask for could never be given, or nobody is asked for any."""
    most = max(waves, key=lambda wave: wave.approve, default=None)
    if most is None or not most.approve:
        if approvers:
            raise InputError(
                f"cannot name approvers: no wave asks for them, such as --waves canary:approve={len(approvers)}"
            )
        return
    others = [name for name in approvers if name != author]
    if approvers and most.approve > len(others):
        less = ", its author not among them" if len(others) < len(approvers) else ""
        raise InputError(
            f"cannot ask {most.approve} operators to approve wave {most.what}: {len(others)} may "
            f"({', '.join(approvers)}{less})"
        )
