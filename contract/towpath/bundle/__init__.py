"""A bundle: one file that carries a release to hosts that no line reaches. docs/bundles.md has the format.

    layout      the file: a plain tar, its members in a fixed order
    statement   what it is, for whom, until when: the first member, signed by the director
    checking    the whole proof of a file, from a pinned root (loads `tuf`)
    reportfile  the way back: what a host reports, in a file that its key signed

A bundle is trusted in nothing. A host believes the director-signed manifest in it, TUF metadata and digests, as it
does of a server. Functions read by `read(offset, size)`, which is handed in: nothing here opens files.
"""
