"""Whether this host may do what a server asks: TUF for releases, DSSE for manifests, and our own guard around both.

`client` is what the resident agent holds. It starts `child`, which alone loads the TUF library (`verifier`), asks the
agent for files over its stdin and stdout, and ends. `model` and `guard` are pure and small. Nothing here trusts a
place: bytes are fetched by the caller and judged here.
"""
