"""The wire: gRPC servicers, who may call them, and the three listeners.

Rules: messages of `towpath.v1` are turned into plain values here and go no deeper; every call passes a gate (`gate`)
that knows the caller before the servicer runs; blocking work runs on the storage thread or the object threads.
"""
