"""Bytes and dataclasses: nothing is lost on the way, garbage is refused and nothing else."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towpath.dsse import MAX_ENVELOPE_BYTES, Envelope, Signature
from towpath.errors import InputError, Refusal
from towpath.handover import Handover
from towpath.index import MAX_INDEX_BYTES, Entry, EntryType
from towpath.manifest import DesiredApp, Manifest
from towpath.parameters import Parameter, Value
from towpath.release import Artifact, HealthPolicy, Hook, Install, Probe, Release, Run
from towpath.v1 import types_pb2 as pb
from towpath.wire import (
    MAX_RELEASE_BYTES,
    decode_envelope,
    decode_index,
    decode_manifest,
    decode_release,
    encode_envelope,
    encode_index,
    encode_manifest,
    encode_release,
    from_value,
    to_value,
)

U64, U32 = st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=12)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
BYTES = st.binary(max_size=40)
VALUES: st.SearchStrategy[Value] = st.one_of(TEXT, I64, st.booleans(), TEXTS)
OPTIONS = st.dictionaries(TEXT, VALUES, max_size=3)

RELEASES = st.builds(
    Release,
    app=TEXT,
    version=TEXT,
    counter=U64,
    artifact=st.builds(Artifact, BYTES, U64, U64),
    install=st.builds(Install, TEXT, OPTIONS, U32, U64),
    run=st.builds(
        Run,
        TEXT,
        OPTIONS,
        TEXTS,
        st.dictionaries(TEXT, TEXT, max_size=3),
        U64,
        st.none() | st.builds(Handover, TEXTS, U64),
    ),
    rollback_floor=U64,
    hooks=st.lists(st.builds(Hook, TEXT, TEXTS, U64), max_size=3).map(tuple),
    probes=st.lists(st.builds(Probe, TEXT, OPTIONS, U64, U64, U32, U32), max_size=3).map(tuple),
    health=st.builds(HealthPolicy, U64, U64, U64),
    parameters=st.lists(st.builds(Parameter, TEXT, TEXT, st.none() | VALUES, TEXTS), max_size=3).map(tuple),
    requires_disk_bytes=U64,
    requires_apps=TEXTS,
    together=TEXTS,
    platforms=TEXTS,
    environments=TEXTS,
    critical=TEXTS,
)
DESIRED = st.lists(st.builds(DesiredApp, TEXT, TEXT, BYTES, U64, U64, OPTIONS, U64, TEXT), max_size=3).map(tuple)
MANIFESTS = st.builds(
    Manifest,
    host_id=TEXT,
    host_key_sha256=BYTES,
    sequence=U64,
    issued_unix_ms=I64,
    expires_unix_ms=I64,
    nonce=BYTES,
    min_snapshot_version=U64,
    environment=TEXT,
    apps=DESIRED,
    critical=TEXTS,
    prefetch=DESIRED,
)
INDEXES = st.lists(st.builds(Entry, TEXT, st.sampled_from(EntryType), U32, U64, BYTES, TEXT), max_size=4).map(tuple)
ENVELOPES = st.builds(Envelope, BYTES, TEXT, st.lists(st.builds(Signature, TEXT, BYTES), max_size=3).map(tuple))

Codec = tuple[st.SearchStrategy[Any], Callable[[Any], bytes], Callable[[bytes], Any], int]
CODECS: dict[str, Codec] = {
    "release": (RELEASES, encode_release, decode_release, MAX_RELEASE_BYTES),
    "manifest": (MANIFESTS, encode_manifest, decode_manifest, MAX_ENVELOPE_BYTES),
    "index": (INDEXES, encode_index, decode_index, MAX_INDEX_BYTES),
    "envelope": (ENVELOPES, encode_envelope, decode_envelope, MAX_ENVELOPE_BYTES),
}
SOME_RELEASE = Release("hello", "1", 1, Artifact(bytes(32), 1, 2), Install("tree"), Run("none"))
SOME_MANIFEST = Manifest("h", bytes(32), 1, 2, 3, bytes(16), 4, "dev", (DesiredApp("hello", "1", bytes(32), 5, 6),))


@pytest.mark.parametrize("kind", CODECS)
@settings(max_examples=60)
@given(st.data())
def test_what_is_encoded_comes_back_equal(kind: str, data: st.DataObject) -> None:
    """Decoding what was encoded gives the same value, of the same types, and encodes to the same bytes again."""
    values, encode, decode, _ = CODECS[kind]
    value = data.draw(values)
    encoded = encode(value)
    assert decode(encoded) == value
    assert repr(decode(encoded)) == repr(decode(encode(decode(encoded))))
    assert encode(decode(encoded)) == encoded


@pytest.mark.parametrize("cls", [Release, Manifest, DesiredApp, Entry, Hook, Probe, Parameter, Run, Handover, Install])
def test_the_generated_values_cover_every_field(cls: type) -> None:
    """A new field must be added to the strategies above: this count reminds."""
    counts = {
        Release: 17,
        Manifest: 11,
        DesiredApp: 8,
        Entry: 6,
        Hook: 3,
        Probe: 6,
        Parameter: 4,
        Run: 6,
        Handover: 2,
        Install: 4,
    }
    assert len(fields(cls)) == counts[cls]


@given(VALUES)
def test_a_value_keeps_its_type(value: Value) -> None:
    """True does not become 1, nor a list of one a text."""
    back = from_value(to_value(value))
    assert (back, type(back)) == (value, type(value))


def test_an_empty_value_is_bad_input() -> None:
    """A value that holds nothing has no meaning."""
    with pytest.raises(InputError, match="it is empty"):
        from_value(pb.Value())


def test_encoding_does_not_depend_on_the_order_of_mappings() -> None:
    """The same release and manifest give the same bytes, whatever order their mappings were built in."""
    options = {"url": "u", "status": 200, "body": "b"}
    turned = dict(reversed(options.items()))
    env = {"A": "1", "B": "2"}
    one = replace(SOME_RELEASE, probes=(Probe("http", options),), run=Run("none", options, env=env))
    two = replace(
        SOME_RELEASE, probes=(Probe("http", turned),), run=Run("none", turned, env=dict(reversed(env.items())))
    )
    assert encode_release(one) == encode_release(two)
    desired = SOME_MANIFEST.apps[0]
    m1 = replace(SOME_MANIFEST, apps=(replace(desired, parameters=options),))
    m2 = replace(SOME_MANIFEST, apps=(replace(desired, parameters=turned),))
    assert encode_manifest(m1) == encode_manifest(m2)


@pytest.mark.parametrize("kind", CODECS)
@settings(max_examples=100)
@given(st.data())
def test_garbled_bytes_are_refused_and_nothing_else(kind: str, data: st.DataObject) -> None:
    """Truncated, flipped, doubled or random bytes give a value or a Refusal, never another error."""
    values, encode, decode, _ = CODECS[kind]
    whole = encode(data.draw(values))
    cut = data.draw(st.integers(0, len(whole)))
    flip = data.draw(st.binary(min_size=1, max_size=3))
    spoiled = data.draw(
        st.sampled_from([whole[:cut], whole[:cut] + flip + whole[cut + 1 :], whole + whole[cut:], flip + whole])
    )
    for garbage in (spoiled, data.draw(st.binary(max_size=60))):
        try:
            decode(garbage)
        except Refusal as error:
            assert error.code in ("garbled", "unknown-entry", "mix-and-match")


@pytest.mark.parametrize("kind", CODECS)
def test_every_truncation_of_garbage_that_is_no_message_is_garbled(kind: str) -> None:
    """Bytes that are no protobuf at all are refused as garbled, by name of what was read."""
    with pytest.raises(Refusal, match=f"^cannot read an? {kind}: it is garbled") as caught:
        CODECS[kind][2](b"\xff\xff\xff")
    assert caught.value.code == "garbled"


@pytest.mark.parametrize("kind", CODECS)
def test_more_bytes_than_the_limit_are_not_even_parsed(kind: str) -> None:
    """One byte beyond the limit is endless data; at the limit it is parsed."""
    _, _, decode, limit = CODECS[kind]
    with pytest.raises(Refusal) as caught:
        decode(bytes(limit + 1))
    assert caught.value.code == "endless-data"
    with pytest.raises(Refusal) as caught:
        decode(bytes(limit))
    assert caught.value.code == "garbled"


def release_message() -> pb.Release:
    return pb.Release.FromString(encode_release(SOME_RELEASE))


def test_the_same_bytes_are_decoded_once_and_garbled_ones_are_refused_each_time() -> None:
    """An agent asks for the release that runs at each tick; what differs in one byte is another release."""
    data = encode_release(SOME_RELEASE)
    assert decode_release(data) is decode_release(bytes(bytearray(data)))
    assert decode_release(encode_release(replace(SOME_RELEASE, counter=2))).counter == 2
    for _ in range(2):
        with pytest.raises(Refusal, match="garbled"):
            decode_release(data[:-1])


def test_a_release_with_an_option_twice_is_garbled() -> None:
    """Two readings of one option would be an invitation."""
    message = release_message()
    message.install.options.add(name="shared", value=to_value("a"))
    message.install.options.add(name="shared", value=to_value("b"))
    with pytest.raises(Refusal, match="'shared': it is there twice") as caught:
        decode_release(message.SerializeToString())
    assert caught.value.code == "garbled"


def test_a_release_with_an_empty_value_is_garbled() -> None:
    """An empty option or default is refused, where an absent default is None."""
    message = release_message()
    message.parameters.add(name="p", type="int")
    assert decode_release(message.SerializeToString()).parameters == (Parameter("p", "int"),)
    message.parameters[0].default.SetInParent()
    with pytest.raises(Refusal, match="it is empty") as caught:
        decode_release(message.SerializeToString())
    assert caught.value.code == "garbled"


def test_a_manifest_with_an_empty_parameter_is_garbled() -> None:
    """An empty value in a manifest is refused, not passed on."""
    message = pb.Manifest.FromString(encode_manifest(SOME_MANIFEST))
    message.apps[0].parameters["p"].SetInParent()
    with pytest.raises(Refusal, match="^cannot read a manifest") as caught:
        decode_manifest(message.SerializeToString())
    assert caught.value.code == "garbled"


def test_a_manifest_whose_app_names_another_target_is_refused() -> None:
    """The target path is that of the app and version; another one is a mix."""
    message = pb.Manifest.FromString(encode_manifest(SOME_MANIFEST))
    assert message.apps[0].target_path == "hello/1.release"
    message.apps[0].target_path = "other/1.release"
    with pytest.raises(Refusal, match="'hello' names another app's target") as caught:
        decode_manifest(message.SerializeToString())
    assert caught.value.code == "mix-and-match"


@pytest.mark.parametrize("number", [0, 4, 77])
def test_an_index_with_an_entry_of_an_unknown_type_is_refused(number: int) -> None:
    """A type that this version does not know (a device, say) is never taken for a file."""
    data = pb.Index(entries=[pb.Entry(path="dev/x", type=number)]).SerializeToString()  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="'dev/x' is of an unknown type") as caught:
        decode_index(data)
    assert caught.value.code == "unknown-entry"
