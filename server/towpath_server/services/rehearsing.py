"""`python -m towpath_server.services.rehearsing`: one rehearsal, JSON in on stdin, JSON out on stdout.

A program of its own, started by `towpath rehearse` on the operator's machine: minutes of arithmetic keep no server's
storage thread, and nothing but the domain is imported. An error is one line on stderr and exit code 1.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from random import Random
from typing import Any

from towpath.budgets import parse_budgets, parse_order
from towpath.errors import InputError
from towpath.waves import parse_waves
from towpath_server.domain.model import OnBreach
from towpath_server.domain.rehearsal import Policy, rehearse
from towpath_server.domain.simulated import Assumptions


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of the rehearsal that `request` asks for, as JSON knows them."""
    policy = request["policy"]
    numbers = rehearse(
        Policy(
            waves=parse_waves(policy["waves"]),
            max_unavailable=policy["max_unavailable"],
            max_failures=policy["max_failures"],
            max_failure_share=policy["max_failure_share"],
            on_breach=OnBreach(policy["on_breach"]),
            progress_deadline_ms=policy["progress_deadline_ms"],
            budgets=parse_budgets(policy["budgets"]),
            order_label=parse_order(policy["order"]),
        ),
        request["labels"],
        request["hosts"],
        Assumptions(**request["assumptions"]),
        Random(request["seed"]),
    )
    return asdict(numbers)


def main() -> int:
    """Answer one request; return the exit code."""
    try:
        print(json.dumps(answer(json.load(sys.stdin))))  # noqa: T201 - the answer is this program's output
    except InputError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
