"""Decisions of the agent: facts and a time in, a decision out. No files, sockets, databases, processes or clocks."""
