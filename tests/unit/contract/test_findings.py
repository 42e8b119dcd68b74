"""What a doctor says: one line each, with a level."""

from towpath.findings import Finding, Level, fail, ok, warn


def test_a_finding_says_how_bad_it_is_and_what_to_do() -> None:
    """The three levels, and the command where there is one."""
    assert ok("disk", "room") == Finding("disk", Level.OK, "room", "")
    assert warn("disk", "little", "df") == Finding("disk", Level.WARN, "little", "df")
    assert fail("disk", "none") == Finding("disk", Level.FAIL, "none")
