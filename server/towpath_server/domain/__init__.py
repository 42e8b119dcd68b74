"""What the server decides: rows and a time in, a decision out.

Rules: nothing here opens a file, a socket or a database, and nothing reads a clock. Times are Unix milliseconds
handed in. The time zones are the one exception: `windows` lets zoneinfo read them. Not handled here: where rows are
kept (`storage`), who asks (`api`), when it is asked again (`reconciler`).
"""
