"""What the server decides: rows and a time in, a decision out.

Rules: nothing here opens a file, a socket or a database, and nothing reads a clock. Times are Unix milliseconds
handed in. Not handled here: where rows are kept (`storage`), who asks (`api`), when it is asked again (`reconciler`).
"""
