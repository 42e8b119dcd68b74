"""A bundle is taken whole or refused by name: every byte of it is accounted for."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.bundles import FACTS, ID, NEW, NOW, OLD, BundleMaker, bomb, carried, pack, proven, reader, sha256
from fakes.repository import new_signer, seal
from towpath.bundle import layout, statement
from towpath.bundle.checking import naming
from towpath.bundle.layout import walk
from towpath.bundle.statement import Carried, For, Listed, check_valid_ms
from towpath.carried import Proof
from towpath.errors import InputError, Refusal
from towpath.manifest import MAX_APPS
from towpath.release import Artifact


def refused(data: bytes, root: bytes, code: str, **more: Any) -> str:
    with pytest.raises(Refusal) as caught:
        proven(data, root, **more)
    assert caught.value.code == code, caught.value
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_bundle_says_what_it_is_and_tar_lists_it() -> None:
    """Statement, metadata, release, manifest, index, objects, in this order; the file is an ordinary tar."""
    maker = BundleMaker()
    data = maker.bytes()
    checked = proven(data, maker.root, host_id=FACTS.host_id)
    assert checked.size == len(data) == layout.length(m.size for m in walk(reader(data), len(data)))
    assert checked.statement.hosts == (For("host-1", "h1", "dev"),)
    assert checked.manifests["host-1"].apps[0].version == "1.1.0"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
        content = tar.extractfile(f"releases/{'hello/1.1.0.release'}")
        assert content is not None
        assert content.read() == maker.members["releases/hello/1.1.0.release"]
    assert names[0] == "towpath-bundle-1"
    assert [name.partition("/")[0] for name in names[1:]] == [
        *["metadata"] * 5, "releases", "manifests", "indexes", *["objects"] * len(NEW)
    ]  # fmt: skip


def test_a_host_that_has_the_old_release_needs_a_delta_or_what_is_new() -> None:
    """With a delta no object is carried; without one those that the old release does not have."""
    by_delta = BundleMaker(since=("1.0.0",), delta=b"delta bytes")
    assert proven(by_delta.bytes(), by_delta.root).statement.objects == 0
    without = BundleMaker(since=("1.0.0",))
    assert proven(without.bytes(), without.root).statement.objects == len(NEW) - 1


def test_a_file_cut_off_at_any_place_is_refused() -> None:
    """At each block, and in the middle of one: truncated, or cut inside the member that it is in."""
    maker = BundleMaker(since=("1.0.0",), delta=b"d" * 700)
    data = maker.bytes()
    for size in [0, 1, 511, *range(512, len(data), 512), len(data) - 1]:
        refused(data[:size], maker.root, "truncated")


def test_a_file_that_shrinks_while_it_is_read_is_cut_off() -> None:
    """Its length was another when it was asked."""
    from towpath.bundle.checking import check

    maker = BundleMaker()
    data = maker.bytes()
    headers = {member.offset - layout.BLOCK_BYTES for member in walk(reader(data), len(data))}
    for kept in (lambda at: at in headers, lambda at: at not in headers):

        def read(at: int, size: int, kept: Callable[[int], bool] = kept) -> bytes:
            return data[at : at + size] if kept(at) else data[at : at + size - 1]

        with pytest.raises(Refusal, match="cut off"):
            check(read, len(data), root=maker.root, now_unix_ms=NOW)


@pytest.mark.parametrize("place", ["metadata/timestamp.json", "releases/", "manifests/", "indexes/", "deltas/"])
def test_a_flipped_bit_in_any_member_is_found(place: str) -> None:
    """What is signed no longer fits; nothing of it is used."""
    maker = BundleMaker(since=("1.0.0",), delta=b"delta bytes")
    maker.sign_manifest()
    head = maker.head()
    name = next(name for name in maker.members if name.startswith(place))
    flipped = bytearray(maker.members[name])
    flipped[len(flipped) // 2] ^= 1
    members = {layout.STATEMENT: head, **maker.members, name: bytes(flipped)}
    with pytest.raises(Refusal) as caught:
        proven(pack(members), maker.root)
    assert caught.value.code in ("wrong-digest", "arbitrary-software", "garbled", "mix-and-match")


def test_a_swapped_object_is_refused() -> None:
    """The content of another under its name, as long as the signed one."""
    maker = BundleMaker()
    maker.objects[f"objects/{sha256(NEW['b']).hex()}"] = carried(OLD["b"])
    assert "bytes are not those" in refused(maker.bytes(), maker.root, "corrupt-object")


def test_an_object_that_is_no_frame_is_refused() -> None:
    """Noise instead of a frame."""
    maker = BundleMaker()
    name = next(iter(maker.objects))
    maker.objects[name] = b"n" * 40
    assert "does not decompress" in refused(maker.bytes(), maker.root, "corrupt-object")


def test_a_bomb_is_refused_after_its_first_step() -> None:
    """Neither an object nor an index expands beyond its signed size, and a frame may not be longer than it can need."""
    maker = BundleMaker()
    name = next(name for name in maker.objects if len(maker.objects[name]) > 100)
    maker.objects[name] = bomb()
    refused(maker.bytes(), maker.root, "endless-data")
    maker = BundleMaker()
    index = next(name for name in maker.members if name.startswith("indexes/"))
    maker.members[index] = bomb()
    refused(maker.bytes(), maker.root, "endless-data")
    maker = BundleMaker()
    empty = f"objects/{sha256(b'').hex()}"
    maker.objects[empty] = carried(b"") + b"x" * 100_000
    refused(maker.bytes(), maker.root, "endless-data")
    proof = Proof(sha256(b""), 0)
    with pytest.raises(Refusal, match="longer than its content"):
        for _ in range(3):
            proof.feed(b"\x50\x2a\x4d\x18" + (40_000 - 8).to_bytes(4, "little") + bytes(40_000 - 8))


def test_what_is_missing_is_said() -> None:
    """An object, an index, a manifest, a release: incomplete."""
    maker = BundleMaker()
    del maker.objects[next(iter(maker.objects))]
    assert "1 objects are missing" in refused(maker.bytes(), maker.root, "incomplete")
    for place in ("indexes/", "manifests/", "releases/"):
        maker = BundleMaker()
        maker.sign_manifest()
        del maker.members[next(name for name in maker.members if name.startswith(place))]
        refused(maker.bytes(), maker.root, "incomplete")
    maker = BundleMaker(said={"releases": (Carried("hello", "9"),)})
    refused(maker.bytes(), maker.root, "incomplete")


def test_what_is_too_much_is_refused() -> None:
    """An object that nobody needs, one out of order, a member after the last, bytes behind the end or a member."""
    maker = BundleMaker()
    maker.objects[f"objects/{'f' * 64}"] = carried(b"more")
    assert "does not belong" in refused(maker.bytes(), maker.root, "garbled")
    maker = BundleMaker()
    maker.objects = dict(reversed(maker.objects.items()))
    refused(maker.bytes(), maker.root, "garbled")
    maker = BundleMaker()
    maker.said = {"objects": len(maker.objects), "object_bytes": sum(map(len, maker.objects.values()))}
    maker.objects["manifests/host-2"] = b"more"
    assert "more than it promises" in refused(maker.bytes(), maker.root, "garbled")
    maker = BundleMaker(said={"objects": 1})
    assert "statement counts" in refused(maker.bytes(), maker.root, "garbled")
    maker = BundleMaker()
    data = maker.bytes()
    assert "follows its end" in refused(data + bytes(512), maker.root, "garbled")
    assert "follows its end" in refused(data[:-1] + b"x", maker.root, "garbled")
    first = next(walk(reader(data), len(data)))
    hidden = bytearray(data)
    hidden[first.offset + first.size] = 1
    assert "hidden behind" in refused(bytes(hidden), maker.root, "garbled")


def test_members_are_those_that_were_listed() -> None:
    """Another name, another length, metadata twice or in another order, a kind that has no place in the list."""
    maker = BundleMaker()
    maker.sign_manifest()
    members = tuple(statement.listed(name, data) for name, data in maker.members.items())
    maker.said["members"] = (*members[:-1], replace(members[-1], size=1))
    assert "should be" in refused(maker.bytes(), maker.root, "garbled")
    maker.said["members"] = (*members[1:], members[0])
    assert "metadata is not" in refused(maker.bytes(), maker.root, "garbled")
    maker.said["members"] = (replace(members[0], sha256="0" * 64), *members[1:])
    refused(maker.bytes(), maker.root, "wrong-digest")
    del maker.said["members"]
    maker.members["objects/" + "0" * 64] = b"x"
    refused(maker.bytes(), maker.root, "endless-data")
    maker = BundleMaker()
    maker.sign_manifest()
    whole = {layout.STATEMENT: maker.head(), **maker.members}
    data = pack(whole)
    twice = pack({layout.STATEMENT: whole[layout.STATEMENT]})[: -len(layout.END)]
    one = next(iter(maker.members))
    again = pack({one: maker.members[one]})[: -len(layout.END)]
    assert "twice" in refused(twice + again + again + data[len(twice) :], maker.root, "garbled")


def test_tricks_with_names_and_headers_are_refused() -> None:
    """Nothing but the names of a bundle, in headers that could not be otherwise."""
    maker = BundleMaker()
    for name in ("../../etc/passwd", "/etc/passwd", "objects/../x"):
        refused(pack({layout.STATEMENT: maker.head(), name: b"x"}), maker.root, "path-traversal")
    for name in ("objects/abc", "metadata/1.Root.json", "deltas/x", "towpath-bundle-1"):
        refused(pack({layout.STATEMENT: maker.head(), name: b"x"}), maker.root, "garbled")
    data = bytearray(maker.bytes())
    second = list(walk(reader(bytes(data)), len(data)))[1]
    at = second.offset - layout.BLOCK_BYTES
    for place, value in ((156, b"2"), (100, b"0000777"), (124, b"zzzzzzzzzzz"), (0, b"\xff")):
        tricked = bytearray(data)
        tricked[at + place : at + place + len(value)] = value
        refused(bytes(tricked), maker.root, "garbled")


def test_one_that_ends_well_but_too_early_is_cut_off() -> None:
    """Its blocks are in order, and what its statement lists is not all there: metadata alone."""
    maker = BundleMaker()
    maker.sign_manifest()
    metadata = {name: data for name, data in maker.members.items() if name.startswith("metadata/")}
    assert "cut off" in refused(pack({layout.STATEMENT: maker.head(), **metadata}), maker.root, "truncated")


def test_what_is_refused_begins_with_the_file_and_ends_with_what_to_do() -> None:
    """Of an object's bytes too, whose refusal is the same on a line."""
    cut_off = r"^site\.tpb: cannot use the bundle: it is cut off; copy it again$"
    with pytest.raises(Refusal, match=cut_off) as caught, naming(Path("site.tpb")):
        raise layout.truncated()
    assert caught.value.code == "truncated"
    another = r"^site\.tpb: cannot accept object .* promises; copy it again$"
    with pytest.raises(Refusal, match=another), naming(Path("site.tpb")):
        Proof(bytes(32), 1).finish()


def test_other_files_and_other_versions_are_named() -> None:
    """Neither is guessed at."""
    root = BundleMaker().root
    assert "it is none" in refused(b"PK\x03\x04" + bytes(2000), root, "garbled")
    assert "it is none" in refused(pack({"readme": b"x"}), root, "garbled")
    assert "it is none" in refused(b"a short text\n", root, "garbled")
    assert "of version 2" in refused(pack({"towpath-bundle-2": b"x"}), root, "unknown-version")
    refused(layout.header(layout.STATEMENT, layout.MAX_STATEMENT_BYTES + 1) + bytes(1024), root, "endless-data")
    refused(pack({layout.STATEMENT: b"x" * (4 * 2**20 + 1)}), root, "endless-data")
    assert "it is none" in refused(pack({}), root, "garbled")
    assert "it is none" in refused(bytes(5000), root, "garbled")


def test_a_size_beyond_octal_digits_has_a_header_too() -> None:
    """As GNU tar writes it; a member of more than the most is refused before anything is read."""
    size = 9 * 2**33
    block = layout.header(f"objects/{'0' * 64}", size)
    assert tarfile.TarInfo.frombuf(block, "utf-8", "strict").size == size
    data = pack({layout.STATEMENT: b""})[:512] + block
    with pytest.raises(Refusal, match="cut off"):
        list(walk(reader(data), len(data)))
    too_large = layout.header(layout.STATEMENT, layout.MAX_FILE_BYTES + 1)
    with pytest.raises(Refusal, match="it is none"):
        list(walk(reader(too_large), len(too_large)))


def test_endless_metadata_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts and sizes have limits, and all small members together have one."""
    maker = BundleMaker()
    maker.members["metadata/timestamp.json"] = b"x" * (layout.MAX_METADATA_BYTES + 1)
    refused(maker.bytes(), maker.root, "endless-data")
    from towpath.bundle import checking

    monkeypatch.setattr(checking, "MAX_METADATA_FILES", 2)
    maker = BundleMaker()
    refused(maker.bytes(), maker.root, "endless-data")
    monkeypatch.undo()
    sizes = [len(data) for name, data in maker.members.items() if name.startswith("metadata/")]
    monkeypatch.setattr(checking, "MAX_SMALL_BYTES", sum(sizes))
    maker.members["releases/hello/1.1.0.release"] = b"x" * (sum(sizes) + 1)
    refused(maker.bytes(), maker.root, "endless-data")


def test_a_lapsed_bundle_is_refused_by_name() -> None:
    """Also one that holds a role or a manifest which lapses before the bundle does."""
    maker = BundleMaker()
    assert "lapsed on 2027-01-29" in refused(maker.bytes(), maker.root, "lapsed", now=NOW + maker.valid_ms)
    maker = BundleMaker(manifest={"expires_unix_ms": NOW + 5000})
    assert "a manifest in it lapses" in refused(maker.bytes(), maker.root, "lapsed")
    assert "lapses on 1970-01-01" in refused(*_with(manifest={"expires_unix_ms": -(2**63)}), "lapsed")
    maker = BundleMaker(life_ms=86_400_000)
    assert "role snapshot in it lapses" in refused(maker.bytes(), maker.root, "lapsed")


def test_a_bundle_of_another_fleet_or_another_director_is_refused() -> None:
    """The root is the reader's own; the statement and the manifests are the director's, each of its own type."""
    maker, other = BundleMaker(), BundleMaker()
    refused(maker.bytes(), other.root, "arbitrary-software")
    thief = new_signer()
    maker.sim.signers["director"] = [thief]
    refused(maker.bytes(), maker.root, "arbitrary-manifest")
    maker = BundleMaker()
    maker.sign_manifest()
    forged = seal(statement.encode(maker.statement()), maker.sim.signers["director"])
    refused(pack({layout.STATEMENT: forged, **maker.members, **maker.objects}), maker.root, "wrong-type")


def test_a_manifest_was_made_for_this_host_and_this_bundle() -> None:
    """One of another host, of another bundle, or an answer to a sync; of too many apps."""
    maker = BundleMaker()
    data = maker.bytes()
    assert "for h1" in refused(data, maker.root, "wrong-host", host_id="host-9")
    refused(*_with(manifest={"host_id": "host-2"}), "wrong-host")
    refused(*_with(manifest={"nonce": b"o" * 16}), "replay")
    refused(*_with(manifest={"critical": ()}), "replay")
    desired = maker.sim.desire(maker.releases["1.1.0"])
    refused(*_with(manifest={"apps": (desired,) * (MAX_APPS + 1)}), "endless-data")
    refused(*_with(manifest={"apps": (replace(desired, counter=9),)}), "mix-and-match")
    refused(*_with(manifest={"apps": (replace(desired, version="7"),)}), "incomplete")


def _with(**changes: Any) -> tuple[bytes, bytes]:
    maker = BundleMaker(**changes)
    return maker.bytes(), maker.root


def test_a_release_that_no_publisher_signed_is_refused() -> None:
    """Other bytes, and one that nobody ever signed."""
    maker = BundleMaker()
    name = "releases/hello/1.1.0.release"
    from towpath.wire import encode_release

    other = replace(maker.releases["1.1.0"], artifact=Artifact(b"x" * 32, 10, 10))
    maker.members[name] = encode_release(other)
    assert "not what its publisher signed" in refused(maker.bytes(), maker.root, "arbitrary-software")
    maker = BundleMaker()
    maker.members[name] = encode_release(replace(maker.releases["1.1.0"], version="6"))
    assert "no publisher signed" in refused(maker.bytes(), maker.root, "arbitrary-software")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("id",), "zz"),
        (("id",), "00"),
        (("id",), 5),
        (("valid_until_unix_ms",), -1),
        (("valid_until_unix_ms",), 10**18),
        (("objects",), True),
        (("hosts",), {}),
        (("hosts", 0, "name"), "../h"),
        (("releases", 0, "app"), "Hello"),
        (("members", 0), []),
    ],
)
def test_a_garbled_statement_is_refused(path: tuple[Any, ...], value: object) -> None:
    """Whoever signed it."""
    raw = json.loads(statement.encode(BundleMaker().statement()))
    place = raw
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(Refusal, match="statement is garbled"):
        statement.decode(json.dumps(raw).encode())
    with pytest.raises(Refusal, match="statement is garbled"):
        statement.decode(b"[" * 100_000)


def test_a_statement_lists_only_so_much() -> None:
    """More hosts, releases or members than a bundle can have."""
    said = BundleMaker().statement()
    many = replace(said, hosts=(For("x", "h1", "dev"),) * (statement.MAX_HOSTS + 1))
    with pytest.raises(Refusal) as caught:
        statement.decode(statement.encode(many))
    assert caught.value.code == "endless-data"
    assert statement.decode(statement.encode(said)) == said
    assert said.nonce == ID
    assert statement.listed("a", b"x") == Listed("a", 1, sha256(b"x").hex())


def test_a_bundle_is_good_for_an_hour_to_a_quarter() -> None:
    """Fourteen days where nothing is said."""
    assert check_valid_ms(0) == statement.DEFAULT_VALID_MS
    assert check_valid_ms(3_600_000) == 3_600_000
    for wrong in (3_599_999, statement.MAX_VALID_MS + 1):
        with pytest.raises(InputError, match="from 1h to 90d"):
            check_valid_ms(wrong)
