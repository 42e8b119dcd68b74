"""Renewal of this host's certificate: `python -m towpath_agent.renew --dir DIR`, a short-lived process.

A process of its own, because X.509 code costs memory that the resident agent should not keep. The resident starts it
when `identity.renewal_is_due`, and builds a new client from the new identity when it ends with 0.

Rules: a server stops accepting the old certificate when the new one is first used. So the new identity is durable
(identity.next.pem) before it is first used, used once (a Sync) to prove that it works, and only then becomes
identity.pem; whether that file can be replaced at all is tried before anything is asked for. A crash at any point
leaves one that works: at the next run a pending one is proven first, and dropped where the server refuses it. An
expired certificate is recovered on the enrolment port, signed with the old key.
Exit codes: 0 renewed or nothing to do, 1 an error (one line on stderr), 3 try later.
Not handled here: when to renew (`identity.renew_at_unix_ms`), the grace window and revocation (the server).
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from towpath import pki
from towpath.errors import Refusal, TowpathError, Unavailable
from towpath.manifest import NONCE_BYTES
from towpath_agent import identity
from towpath_agent.identity import HostRecord, Identity
from towpath_agent.system.clock import Clock, SystemClock
from towpath_agent.system.files import Files
from towpath_agent.transport import enrolment
from towpath_agent.transport.channel import Limits, split_identity
from towpath_agent.transport.client import Certificates, GrpcServer
from towpath_agent.transport.dialling import server_of
from towpath_agent.transport.relayed import RelayedServer

EXIT_ERROR = 1
EXIT_LATER = 3


@dataclass(frozen=True, slots=True)
class Renewal:
    """The parts that a renewal works with."""

    folder: Path
    files: Files
    clock: Clock
    limits: Limits
    relay: str = ""

    def run(self, *, force: bool = False) -> bool:
        """Renew where it is due (or `force`); return True where identity.pem is a new one now."""
        current = identity.load(self.folder, self.files)
        if self._finish_pending(current):
            return True
        current = identity.load(self.folder, self.files)
        now_ms = self.clock.now_unix_ms()
        if not force and now_ms < identity.renew_at_unix_ms(current.host):
            return False
        self._require_replaceable(current)
        key = pki.new_key()
        csr = pki.make_csr(key)
        expired = now_ms >= current.host.not_after_unix_ms
        answer = self._recover(current, csr, now_ms) if expired else self._renew(current, csr)
        self._check(answer, current, pki.csr_key_sha256(csr))
        pem = pki.key_to_pem(key) + answer.certificate_pem
        self.files.write_atomic(self.folder / identity.NEXT_IDENTITY, pem, 0o600)
        self._prove(current, pem)
        self._promote(current.host, pem)
        return True

    def _client(self, current: Identity, pem: bytes) -> GrpcServer | RelayedServer:
        return server_of(current, relay=self.relay, pem=pem, clock=self.clock, log=_note, limits=self.limits)

    def _renew(self, current: Identity, csr: bytes) -> Certificates:
        with self._client(current, current.pem) as server:
            return server.renew(csr)

    def _recover(self, current: Identity, csr: bytes, now_ms: int) -> Certificates:
        _, certificate = split_identity(current.pem)
        signature = pki.sign(pki.key_from_pem(current.pem), pki.recover_message(now_ms, csr))
        return enrolment.recover(
            current.host.enroll_address,
            ca_pem=current.ca_pem,
            certificate_pem=certificate,
            csr_der=csr,
            at_unix_ms=now_ms,
            signature=signature,
            limits=self.limits,
        )

    def _check(self, answer: Certificates, current: Identity, key_sha256: bytes) -> pki.Identity:
        """Trust the CA that this host knows and its own key, whatever the answer says."""
        pki.check_issued(answer.certificate_pem, current.ca_pem)
        facts = pki.identity(answer.certificate_pem)
        if facts.role != "host" or facts.name != current.host.host_id or facts.key_sha256 != key_sha256:
            raise Refusal("cannot renew: the server's certificate is for another host or key", code="wrong-host")
        return facts

    def _prove(self, current: Identity, pem: bytes) -> None:
        """Use the new identity once; Refusal or Unavailable where that fails. What it answers does not matter here."""
        with self._client(current, pem) as server:
            server.sync(nonce=os.urandom(NONCE_BYTES), state_revision=0, boot_id="")

    def _require_replaceable(self, current: Identity) -> None:
        """Write identity.pem as it is: where that fails, a new one must not be used, as the old one is refused then."""
        self.files.write_atomic(self.folder / identity.IDENTITY, current.pem, 0o600)

    def _promote(self, record: HostRecord, pem: bytes) -> None:
        identity.save(self.folder, self.files, record, pem)
        self.files.remove(self.folder / identity.NEXT_IDENTITY)

    def _finish_pending(self, current: Identity) -> bool:
        """Prove and promote an identity that an earlier run left; drop it where it is damaged or refused.

        One that expired meanwhile is promoted unproven and False returned: it is the newest that the server issued, so
        it is the one to recover with.
        """
        path = self.folder / identity.NEXT_IDENTITY
        if not self.files.exists(path):
            return False
        pem = self.files.read(path, identity.MAX_FILE_BYTES)
        try:
            csr = pki.make_csr(pki.key_from_pem(pem))
            facts = self._check(Certificates(pem, current.ca_pem), current, pki.csr_key_sha256(csr))
            expired = facts.not_after_ms <= self.clock.now_unix_ms()
            if pem != current.pem and not expired:
                self._prove(current, pem)
        except Unavailable:
            raise
        except TowpathError as error:
            sys.stderr.write(f"towpath-agent: dropped an unfinished renewal: {error}\n")
            self.files.remove(path)
            return False
        self._promote(current.host, pem)
        return not expired


def _note(line: str) -> None:
    sys.stderr.write(f"towpath-agent: {line}\n")


def main(arguments: list[str] | None = None) -> int:
    """Run one renewal; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="towpath_agent.renew", description="Renew this host's certificate once.")
    parser.add_argument("--dir", type=Path, required=True, help="the agent's folder")
    parser.add_argument("--force", action="store_true", help="renew although it is not due yet")
    parser.add_argument("--relay", default="", help="the relay of this site, HOST:PORT")
    options = parser.parse_args(arguments)
    try:
        renewed = Renewal(options.dir, Files(), SystemClock(), Limits(), options.relay).run(force=options.force)
    except Unavailable as error:
        sys.stderr.write(f"towpath-agent: {error}\n")
        return EXIT_LATER
    except TowpathError as error:
        sys.stderr.write(f"towpath-agent: {error}\n")
        return EXIT_ERROR
    sys.stdout.write("renewed\n" if renewed else "not due\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
