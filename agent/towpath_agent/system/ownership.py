"""Who else may change a file: asked before something of the host is run with the agent's rights.

A program is as trustworthy as every folder on the way to it: who may write one of them may put another program there.
A folder with the sticky bit is fine where what lies in it belongs to root or the agent, as nobody else may rename that.
Not handled here: access lists (ACLs) and capabilities that give more than the permission bits say.
"""

import os
import stat
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def changeable_by(path: Path) -> str:
    """Return why somebody besides root and the agent's user could change `path` (a real path); "" where nobody can."""
    ours = {0, os.geteuid()}
    for here in (path, *path.parents):
        facts = here.lstat()
        if facts.st_uid not in ours:
            return f"{here} belongs to user {facts.st_uid}, not to root or the agent's user"
        sticky = stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX and here != path
        if facts.st_mode & _OTHERS and not sticky:
            return f"{here} may be written by others (mode {stat.S_IMODE(facts.st_mode):04o})"
    return ""
