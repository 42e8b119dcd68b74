"""Making deltas (docs/deltas.md): pure computation on bytes that are here; ADR 27 says why in this way.

`encoder` cuts new content into frames, `anchors` and `windows` find the old content that each resembles, `frames` keeps
the smallest form of it. Applying is the contract's (`towpath.delta`).
Not handled here: which deltas are wanted, where they are kept, what they may cost.
"""
