"""`towpath server doctor`: what is in order with this server and what is not, each with what to do.

Rules: it only looks, whether the server runs or not, but for one thing: an object that it proves damaged is put aside,
so that its release can be published again. A check that cannot be made is a finding, never a traceback. Every
finding is one line: ok, warn (it works, look at it), or fail (something does not work, or soon will not).
"""

from towpath_server.upkeep.doctor.examination import examine

__all__ = ["examine"]
