"""Answers to a Fetch that travel together, in one message: `FetchResponse.whole` of agent.proto.

A release is mostly small objects, and a message of its own for each costs both sides more than its bytes do.
Not handled here: how long a message may be, and how long an answer may wait for others: who sends knows its line.
"""

from towpath.v1 import agent_pb2 as pb


class Packer:
    """Joins answers of one stream; `takes`: the asker said that it takes them so."""

    def __init__(self, *, takes: bool) -> None:
        self._takes = takes
        self._waiting: list[pb.FetchResponse] = []
        self._bytes = 0

    def add(self, answer: pb.FetchResponse, most_bytes: int) -> list[pb.FetchResponse]:
        """Return the messages that are to be sent now; `answer` waits for others where it can, in `most_bytes`."""
        joins = self._takes and answer.last and not answer.missing and answer.carried_size > 0
        ready = [] if joins and self._bytes + len(answer.data) <= most_bytes else self.rest()
        if not joins:
            return [*ready, answer]
        self._waiting.append(answer)
        self._bytes += len(answer.data)
        return ready

    def rest(self) -> list[pb.FetchResponse]:
        """Return the message that holds what waits, if anything does."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        if len(waiting) < 2:
            return waiting
        whole = [answer.data for answer in waiting]
        return [pb.FetchResponse(want=waiting[0].want, data=b"".join(whole), whole=map(len, whole))]
