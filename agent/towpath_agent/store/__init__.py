"""Content-addressed objects on this host, obtained by digest, kept across restarts, shared between releases.

Not handled here: deadlines and least rates (the transport's), which objects are wanted and space for them (the
runner's).
"""

from towpath_agent.store.objects import FetchResult, ObjectMissing, Store

__all__ = ["FetchResult", "ObjectMissing", "Store"]
