"""What every party of a Towpath fleet must agree on.

Parties: publisher, operator, server and agent all import this package; it imports none of them.
Rules: it decides and does no I/O; only `towpath.wire` may touch the generated messages in `towpath.v1`.
Not handled here: files, sockets, databases, clocks. They belong to the party that owns them.
"""

__version__ = "0.1.0"
