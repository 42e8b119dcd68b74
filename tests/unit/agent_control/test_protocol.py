"""Requests and answers of local control: what travels, and what anybody may throw at it."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import Broken, InputError, Unavailable
from towpath_agent.control.protocol import (
    CHANGES,
    LOOKS,
    MAX_ANSWER_BYTES,
    MAX_REQUEST_BYTES,
    Answer,
    Contact,
    Request,
    contact_in,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)

REQUESTS = st.builds(
    Request,
    command=st.sampled_from(sorted(CHANGES | LOOKS)),
    app=st.text(max_size=40),
    for_ms=st.integers(-(2**70), 2**70),
    reason=st.text(max_size=200),
    login=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=32),
    path=st.text(max_size=200),
)


@given(REQUESTS)
def test_a_request_survives_the_way(request: Request) -> None:
    """One line, whatever is in it."""
    line = encode_request(request)
    assert line.count(b"\n") == 1
    assert decode_request(line) == request


@pytest.mark.parametrize(
    ("line", "message", "code"),
    [
        (b"", "no JSON object of one line", "garbled"),
        (b"\xff\x00\x01", "no JSON object of one line", "garbled"),
        (b"[" * 10_000, "no JSON object of one line", "garbled"),
        (b"[1]", "it is no JSON object", "garbled"),
        (b"{}", "it is of version None, this agent speaks 1", "version"),
        (b'{"v": 2, "command": "hold"}', "it is of version 2", "version"),
        (b'{"v": 1}', "cannot do 'None'", "unknown-command"),
        (b'{"v": 1, "command": "rm"}', "cannot do 'rm'", "unknown-command"),
        (b'{"v": 1, "command": ["hold"]}', "this agent does not know it", "unknown-command"),
        (b'{"v": 1, "command": "hold", "app": 1}', "of the wrong type", "garbled"),
        (b'{"v": 1, "command": "hold", "for_ms": true}', "of the wrong type", "garbled"),
        (b'{"v": 1, "command": "hold", "for_ms": 1.5}', "of the wrong type", "garbled"),
    ],
)
def test_what_is_no_request_is_one_line_with_a_code(line: bytes, message: str, code: str) -> None:
    """Other versions, unknown commands, wrong types and noise are refused, each under its code."""
    with pytest.raises(InputError, match=message) as caught:
        decode_request(line)
    assert caught.value.code == code


@given(st.binary(max_size=300))
def test_noise_never_ends_in_anything_but_a_refusal(line: bytes) -> None:
    """No bytes crash the one who listens."""
    with pytest.raises(InputError):
        decode_request(line)


def test_a_newer_client_may_say_more() -> None:
    """Unknown keys are ignored; who root says it is is kept only where a terminal can show it."""
    line = b'{"v": 1, "command": "release", "colour": "red", "login": "ana\\u001b[31m"}'
    assert decode_request(line) == Request("release")
    assert decode_request(encode_request(Request("release", login="a" * 99))).login == "a" * 32


def test_a_request_that_is_too_long_is_not_sent() -> None:
    """The client says so before the agent has to."""
    with pytest.raises(InputError, match="at most"):
        encode_request(Request("hold", reason="x" * MAX_REQUEST_BYTES))


def test_answers_and_errors_survive_the_way() -> None:
    """Lines and data come back; an error comes back with its message in one line and its code."""
    answer = Answer(("a", "b"), {"hold": {"app": "hello"}})
    assert decode_answer(encode_answer(answer)) == answer
    for error in (InputError("cannot do it:\nno", code="no-previous"), Unavailable("cannot do it: no", code="busy")):
        with pytest.raises(InputError, match="cannot do it: no") as caught:
            decode_answer(encode_answer(error))
        assert caught.value.code == error.code


def test_an_answer_that_is_too_long_becomes_a_short_one() -> None:
    """The person is told so instead of nothing."""
    with pytest.raises(InputError, match="cannot answer"):
        decode_answer(encode_answer(Answer(("x" * MAX_ANSWER_BYTES,))))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"HTTP/1.1 200 OK",
        b"[]",
        b"{}",
        b'{"ok": "yes"}',
        b'{"ok": false}',
        b'{"ok": true}',
        json.dumps({"ok": True, "lines": 1, "data": {}}).encode(),
        json.dumps({"ok": True, "lines": [], "data": []}).encode(),
    ],
)
def test_what_is_no_answer_is_said(line: bytes) -> None:
    """Another program at the socket, or a torn answer, is one line."""
    with pytest.raises(Broken, match="cannot read the agent's answer"):
        decode_answer(line)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"server": asdict(Contact(1, 2, "no route"))}, Contact(1, 2, "no route")),
        ({"pid": 7}, None),
        ({"server": "away"}, None),
        ({"server": {"answered_unix_ms": 1}}, None),
        ({"server": {"answered_unix_ms": True, "away_since_unix_ms": 0, "trouble": ""}}, None),
    ],
)
def test_what_an_agent_says_of_its_server_is_taken_whole_or_not(data: dict[str, object], found: Contact | None) -> None:
    """An agent of another version may say nothing of it, or other things."""
    assert contact_in(decode_answer(encode_answer(Answer(data=data)))) == found
