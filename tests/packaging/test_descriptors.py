"""The protocol only grows: what an older agent or server sends and reads keeps its number, its type and its name.

tests/golden/descriptors.binpb is the protocol as it was last released: a FileDescriptorSet. Additions pass without
touching it. To record them once they are released:

    python -m grpc_tools.protoc -I protos --descriptor_set_out=tests/golden/descriptors.binpb protos/towpath/v1/*.proto
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from towpath.v1 import agent_pb2, operator_pb2, types_pb2

GENERATED = (types_pb2, agent_pb2, operator_pb2)
STRING = FieldDescriptorProto.TYPE_STRING

Facts = dict[str, tuple[object, ...]]


def enum_facts(prefix: str, enums: Iterable[EnumDescriptorProto]) -> Iterator[tuple[str, tuple[object, ...]]]:
    for enum in enums:
        for value in enum.value:
            yield f"enum value {prefix}{enum.name} = {value.number}", (value.name,)


def message_facts(prefix: str, messages: Iterable[DescriptorProto]) -> Iterator[tuple[str, tuple[object, ...]]]:
    for message in messages:
        name = prefix + message.name
        yield f"message {name}", ()
        for field in message.field:
            oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            shape = (field.name, field.type, field.label, field.type_name, oneof, field.options.packed)
            yield f"field {name} = {field.number}", shape
        yield from enum_facts(f"{name}.", message.enum_type)
        yield from message_facts(f"{name}.", message.nested_type)


def facts(files: Iterable[FileDescriptorProto]) -> Facts:
    """Everything that the other side relies on, keyed by what must stay (a field by its number, not by its name)."""
    found: Facts = {}
    for file in files:
        prefix = f"{file.package}."
        found.update(message_facts(prefix, file.message_type))
        found.update(enum_facts(prefix, file.enum_type))
        for service in file.service:
            for method in service.method:
                streams = (method.client_streaming, method.server_streaming)
                found[f"method {prefix}{service.name}/{method.name}"] = (
                    method.input_type,
                    method.output_type,
                    *streams,
                )
    return found


def breaks(old: Iterable[FileDescriptorProto], new: Iterable[FileDescriptorProto]) -> list[str]:
    """One line for everything in `old` that `new` lacks or has in another shape."""
    now = facts(new)
    missing = object()
    return [
        f"{key} is gone" if now.get(key, missing) is missing else f"{key} was {shape} and is {now[key]}"
        for key, shape in facts(old).items()
        if now.get(key, missing) != shape
    ]


def current() -> list[FileDescriptorProto]:
    files = []
    for module in GENERATED:
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        files.append(file)
    return files


def message(files: Iterable[FileDescriptorProto], name: str) -> DescriptorProto:
    (found,) = (each for file in files for each in file.message_type if each.name == name)
    return found


def field(files: Iterable[FileDescriptorProto], message_name: str, name: str) -> FieldDescriptorProto:
    (found,) = (each for each in message(files, message_name).field if each.name == name)
    return found


def test_the_protocol_only_grew(root: Path) -> None:
    """Nothing that the golden descriptor set has was removed, renumbered, renamed or retyped."""
    golden = FileDescriptorSet.FromString((root / "tests/golden/descriptors.binpb").read_bytes())
    assert facts(golden.file), "the golden descriptor set is empty"
    assert breaks(golden.file, current()) == []


def remove_field(files: list[FileDescriptorProto]) -> None:
    fields = message(files, "EnrollRequest").field
    del fields[0]


def renumber(files: list[FileDescriptorProto]) -> None:
    field(files, "EnrollRequest", "name").number = 900


def retype(files: list[FileDescriptorProto]) -> None:
    field(files, "EnrollRequest", "csr_der").type = STRING


def rename(files: list[FileDescriptorProto]) -> None:
    field(files, "EnrollRequest", "name").name = "title"


def repeat(files: list[FileDescriptorProto]) -> None:
    field(files, "EnrollRequest", "name").label = FieldDescriptorProto.LABEL_REPEATED


def remove_message(files: list[FileDescriptorProto]) -> None:
    message(files, "EnrollRequest").name = "Elsewhere"


def remove_method(files: list[FileDescriptorProto]) -> None:
    (service,) = (each for file in files for each in file.service if each.name == "Enrollment")
    del service.method[0]


def unstream(files: list[FileDescriptorProto]) -> None:
    for file in files:
        for service in file.service:
            for method in service.method:
                method.server_streaming = False


@pytest.mark.parametrize(
    "change", [remove_field, renumber, retype, rename, repeat, remove_message, remove_method, unstream]
)
def test_a_breaking_change_is_found(change: Callable[[list[FileDescriptorProto]], None]) -> None:
    """Each way to break an older party is told by name."""
    broken = current()
    change(broken)
    assert breaks(current(), broken)


def test_an_added_field_passes() -> None:
    """New fields and messages are how the protocol grows."""
    grown = current()
    message(grown, "EnrollRequest").field.add(name="new", number=900, type=STRING)
    grown[0].message_type.add(name="New")
    assert breaks(current(), grown) == []
