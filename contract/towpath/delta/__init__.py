"""Deltas: what a host that has the objects of one release needs to make those of another (docs/deltas.md).

`layout` is the format and its bounds, `frame` makes one frame's bytes, `decoder` applies a delta as it comes.
Encoding is the server's (`towpath_server.deltas`): it needs compiled code that no host has.
"""
