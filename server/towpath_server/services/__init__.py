"""Use cases: what an agent or an operator may ask, from checked request to committed rows.

Rules: functions take the `Context` and plain values, run on the storage thread, and return plain values; wire
messages stay in `api`. Deciding is `domain`'s. Every act of an operator is audited in the transaction that does it,
refusals in one of their own.
"""
