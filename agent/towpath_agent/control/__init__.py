"""Local control of a running agent over a Unix socket: what is said, the queue to the main thread, both ends.

Rules: one request and one answer per connection, JSON of one line, capped; the thread that listens owns nothing but
its connections. Not handled here: what a command does (`runner.local`), how answers look (`control_cli`).
"""

SOCKET = "control.sock"
