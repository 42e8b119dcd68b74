"""Prometheus' text format: whatever is written by its rules is read as it was meant, and nothing else is read."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath_agent.probes.exposition import ExpositionError, Sample, parse, parse_line, samples_of

# The example of the format's own description.
EXAMPLE = r"""
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045

# A histogram, which has a pretty complex representation in the text format:
# HELP http_request_duration_seconds A histogram of the request duration.
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.05"} 24054
http_request_duration_seconds_bucket{le="+Inf"} 144320
http_request_duration_seconds_sum 53423
http_request_duration_seconds_count 144320
"""


def test_the_example_of_the_formats_description_is_read() -> None:
    """Comments, escapes, timestamps, infinity, histograms: each sample as it is meant."""
    samples = [(one.name, dict(one.labels), one.value, one.timestamp_ms) for one in parse(EXAMPLE)]
    assert samples == [
        ("http_requests_total", {"method": "post", "code": "200"}, 1027.0, 1395066363000),
        ("http_requests_total", {"method": "post", "code": "400"}, 3.0, 1395066363000),
        (
            "msdos_file_access_time_seconds",
            {"path": "C:\\DIR\\FILE.TXT", "error": 'Cannot find file:\n"FILE.TXT"'},
            1.458255915e9,
            None,
        ),
        ("metric_without_timestamp_and_labels", {}, 12.47, None),
        ("something_weird", {"problem": "division by zero"}, math.inf, -3982045),
        ("http_request_duration_seconds_bucket", {"le": "0.05"}, 24054.0, None),
        ("http_request_duration_seconds_bucket", {"le": "+Inf"}, 144320.0, None),
        ("http_request_duration_seconds_sum", {}, 53423.0, None),
        ("http_request_duration_seconds_count", {}, 144320.0, None),
    ]


@pytest.mark.parametrize(
    ("line", "labels", "value"),
    [
        ("a 1", {}, 1.0),
        ("\t a \t 1 \t", {}, 1.0),
        ("a{} 1", {}, 1.0),
        ("a{ }1", {}, 1.0),
        ('a {b="c"} .5', {"b": "c"}, 0.5),
        ('a{ b = "c" , d="" , } 5.', {"b": "c", "d": ""}, 5.0),
        (r'a{b="\\n\d\""} -1E-3', {"b": '\\n\\d"'}, -0.001),
        ('a{b="{},= #"} nan', {"b": "{},= #"}, math.nan),
        ("a -INF", {}, -math.inf),
        ("a infinity 5", {}, math.inf),
        (":a:b_9 +0", {}, 0.0),
    ],
)
def test_a_line_may_be_written_in_many_ways(line: str, labels: dict[str, str], value: float) -> None:
    """Blanks, an end comma, no labels, backslashes that escape nothing, numbers in each of their forms."""
    sample = parse_line(line)
    assert sample is not None
    assert sample.labels == labels
    assert sample.value == value or (math.isnan(value) and math.isnan(sample.value))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("a", "no blank follows"),
        ("a ", "no blank follows"),
        ("a-b 1", "no blank follows"),
        ("9 1", "no metric's name"),
        ('{a="b"} 1', "no metric's name"),
        ("ä 1", "no metric's name"),
        ("a b", "no value"),
        ("a 1 2 3", "no value"),
        ("a 1_0", "no value"),
        ("a 0x1p-2", "no value"),
        ("a \u0661", "no value"),
        ("a 1\r", "no value"),
        ("a{} ", "no value"),
        ("a 1 2.5", "timestamp"),
        ("a 1 now", "timestamp"),
        ("a{b} 1", "no '=' follows label b"),
        ("a{b=c} 1", "label b has no quoted value"),
        ('a{b="c} 1', "label b has no quoted value"),
        ('a{b="c\\"} 1', "label b has no quoted value"),
        ('a{b="c" d="e"} 1', "no comma or brace"),
        ('a{b="c"', "no comma or brace"),
        ("a{,} 1", "a label's name or a brace"),
        ("a{", "a label's name or a brace"),
        ('a{b:c="d"} 1', "no '=' follows label b"),
        ('a{b="c",b="d"} 1', "label b is there twice"),
    ],
)
def test_what_is_no_line_of_the_format_is_refused(line: str, why: str) -> None:
    """Each with what is wrong in it."""
    with pytest.raises(ExpositionError, match="no line of the format") as caught:
        parse_line(line)
    assert why in str(caught.value)


NAMES = st.builds(str.__add__, st.sampled_from("abzAZ_:"), st.text("azAZ09_:", max_size=6))
LABEL_NAMES = st.builds(str.__add__, st.sampled_from("abzAZ_"), st.text("azAZ09_", max_size=4))
LABELS = st.dictionaries(LABEL_NAMES, st.text(max_size=8) | st.text('\\"\n ,={}#', max_size=8), max_size=3)
VALUES = st.floats() | st.integers(-(10**18), 10**18).map(float)
BLANKS = st.sampled_from(["", " ", "\t", " \t  "])


@st.composite
def lines(draw: st.DrawFn) -> tuple[str, Sample]:
    """A sample, and a line that means it, written by the rules and with any blanks between."""
    name, labels, value = draw(NAMES), draw(LABELS), draw(VALUES)
    timestamp = draw(st.none() | st.integers(-(2**63), 2**63 - 1))
    inside = []
    for label, text in labels.items():
        written = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
        inside.append(f'{draw(BLANKS)}{label}{draw(BLANKS)}={draw(BLANKS)}"{written}"{draw(BLANKS)}')
    braces = "{" + ",".join(inside) + ("," if inside and draw(st.booleans()) else "") + draw(BLANKS) + "}"
    head = name + (draw(BLANKS) + braces + draw(BLANKS) if labels or draw(st.booleans()) else "\t")
    tail = "" if timestamp is None else f" {draw(BLANKS)}{timestamp}"
    line = f"{draw(BLANKS)}{head}{value!r}{tail}{draw(BLANKS)}"
    return line, Sample(name, labels, value, timestamp, line.strip(" \t"))


def same(one: Sample, other: Sample) -> bool:
    values = one.value == other.value or (math.isnan(one.value) and math.isnan(other.value))
    return values and (one.name, one.labels, one.timestamp_ms, one.line) == (
        other.name,
        other.labels,
        other.timestamp_ms,
        other.line,
    )


@given(st.lists(lines(), max_size=4), st.lists(st.sampled_from(["", "  ", "#", "# HELP a \\", " # x{"]), max_size=3))
def test_what_is_written_by_the_rules_is_read_as_it_was_meant(
    written: list[tuple[str, Sample]], comments: list[str]
) -> None:
    """Any names, labels, values and timestamps, also with comments between; finding by name agrees with reading all."""
    page = "\n".join([*comments, *(line for line, _ in written), *comments])
    read = list(parse(page))
    assert len(read) == len(written)
    assert all(same(one, meant) for one, (_, meant) in zip(read, written, strict=True))
    for _, meant in written:
        expected = [one.line for one in read if one.name == meant.name]
        assert [one.line for one in samples_of(page, meant.name)] == expected


@given(st.text() | st.text('a{}="\\, 1\t\n#Nni+-.e'))
def test_any_page_is_read_or_refused(page: str) -> None:
    """Nothing else is raised, and a search by any name does not fall over either."""
    try:
        for sample in parse(page):
            assert sample.name
    except ExpositionError as error:
        assert "no line of the format" in str(error)
    try:
        assert list(samples_of(page, "")) == []
        list(samples_of(page, "a"))
    except ExpositionError as error:
        assert "no line of the format" in str(error)


def test_lines_of_other_metrics_do_not_matter_to_a_search() -> None:
    """One broken metric of an exporter does not hide the others; longer names are other metrics."""
    page = 'broken{ 1\na_total 1\na 2\n a{b="c"} 3\na:b 4'
    assert [one.value for one in samples_of(page, "a")] == [2.0, 3.0]
