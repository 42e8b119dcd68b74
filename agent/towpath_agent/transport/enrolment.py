"""The enrolment port: TLS that proves only the server. Used by short-lived processes, never by the resident agent.

Rules: a token's pin vouches for the server before the token is sent. The CA's certificate is not known yet, only its
key: so the server's leaf is taken off a handshake that verifies nothing, checked against the pinned key
(`pki.check_pinned`), and the real channel trusts exactly that leaf. A man in the middle of either handshake fails one
of the two checks.
Not handled here: which files an enrolment leaves (`enroll`), when to renew (`renew`).
"""

from dataclasses import dataclass

import grpc

from towpath import pki
from towpath.errors import Refusal, Unavailable
from towpath.names import SERVER_NAME
from towpath.token import Token
from towpath.v1 import agent_pb2 as pb
from towpath.v1.agent_pb2_grpc import EnrollmentStub
from towpath_agent.transport.channel import Limits, error_of, open_channel
from towpath_agent.transport.client import Certificates
from towpath_agent.transport.leaf import shown_leaf

MAX_ROOT_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A server's answer to an enrolment, unchecked; `root_json` is the first TUF root."""

    host_id: str
    name: str
    environment: str
    certificate_pem: bytes
    ca_pem: bytes
    root_json: bytes
    agent_address: str


def _call_channel(address: str, trusted_pem: bytes, limits: Limits) -> grpc.Channel:
    return open_channel(address, ca_pem=trusted_pem, identity_pem=None, limits=limits)


def enroll(
    address: str, token: Token, *, name: str, csr_der: bytes, platform: str, agent_version: str, limits: Limits
) -> Enrolled:
    """Return the server's answer; Refusal where the server is not the one that the token pins or refuses the token."""
    leaf = shown_leaf(address, SERVER_NAME, limits)
    pki.check_pinned(leaf, token.ca_point)
    request = pb.EnrollRequest(
        token_id=token.id,
        token_secret=token.secret,
        name=name,
        csr_der=csr_der,
        platform=platform,
        agent_version=agent_version,
    )
    with _call_channel(address, leaf, limits) as channel:
        try:
            answer: pb.EnrollResponse = EnrollmentStub(channel).Enroll(request, timeout=limits.call_s)
        except grpc.RpcError as error:
            meaning = error_of(error, "enrol", address)
            if isinstance(meaning, Unavailable) and meaning.code == Unavailable.code:
                # The agent port shows the same certificate and then hangs up: it wants one of ours.
                raise Unavailable(f"{meaning}; is it the enrolment port?") from error
            raise meaning from error
    if len(answer.root_json) > MAX_ROOT_BYTES:
        raise Refusal("cannot enrol: the server's TUF root is too long", code="endless-data")
    return Enrolled(
        host_id=answer.host_id,
        name=answer.name,
        environment=answer.environment,
        certificate_pem=answer.certificate_pem,
        ca_pem=answer.ca_pem,
        root_json=answer.root_json,
        agent_address=answer.agent_address,
    )


def recover(
    address: str,
    *,
    ca_pem: bytes,
    certificate_pem: bytes,
    csr_der: bytes,
    at_unix_ms: int,
    signature: bytes,
    limits: Limits,
) -> Certificates:
    """Return a new certificate for a host whose old one expired inside the server's grace window."""
    request = pb.RecoverRequest(
        certificate_pem=certificate_pem, csr_der=csr_der, at_unix_ms=at_unix_ms, signature=signature
    )
    with _call_channel(address, ca_pem, limits) as channel:
        try:
            answer: pb.RenewResponse = EnrollmentStub(channel).Recover(request, timeout=limits.call_s)
        except grpc.RpcError as error:
            raise error_of(error, "recover the expired certificate", address) from error
    return Certificates(answer.certificate_pem, answer.ca_pem)
