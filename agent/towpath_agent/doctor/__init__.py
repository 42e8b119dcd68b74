"""`towpath-agent doctor`: what is in order on this host and what is not, each with the next command.

Rules: it only looks (one empty file is made and removed to see whether the folder can be written); it works with the
agent stopped, without a server and on a damaged folder; a check that cannot be made is a finding, never a traceback.
Every finding is one line: ok, warn (it works, look at it), or fail (something does not work).
Not handled here: mending. `host` looks at the machine, `state` at what the agent keeps, `network` at the way out.
"""

from towpath_agent.doctor.examination import examine
from towpath_agent.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "examine"]
