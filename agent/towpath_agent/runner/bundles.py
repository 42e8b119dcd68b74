"""The bundle that a person brought: taken, kept at hand while something of it is to come, found again after a restart.

Rules: it is believed or refused as an answer of the server is (`runner.desired`); from then on it is one more way to
obtain objects. Where it lies is in the journal, so that a restart in the middle goes on with it; what lies there then
need not be the same file, because nothing of it is trusted. It is let go once what should run does, or may not.
"""

from pathlib import Path

from towpath.errors import TowpathError, Unavailable
from towpath.manifest import Manifest
from towpath.status import State
from towpath.wire import decode_release
from towpath_agent.journal import Deployed, Journal
from towpath_agent.ports import Want
from towpath_agent.runner.desired import Desired, refused_apps
from towpath_agent.runner.telling import Teller
from towpath_agent.store.bundle import BundleFile
from towpath_agent.system.files import Files

_KEY = "bundle"
_COMING = (State.PLANNED, State.FETCHING)


class Bundles:
    """The bundle of one agent, where there is one."""

    def __init__(self, desired: Desired, journal: Journal, files: Files, teller: Teller) -> None:
        """Go on with the one that was being taken."""
        self._desired, self._journal, self._files, self._teller = desired, journal, files, teller
        path = journal.meta().get(_KEY, "")
        if path:
            try:
                desired.bundle = BundleFile(Path(path), files)
            except TowpathError as error:
                teller.log(f"bundle {path}: {error}; what it lacks of it this host takes of the server")
                journal.set_meta(**{_KEY: ""})

    def take(self, path: str, by: str) -> Manifest | None:
        """Believe the bundle at `path`; Refusal, told as any other, InputError or Unavailable: nothing changed.

        None: the host has heard newer words, and these want what the bundle brings: so it brings bytes, and no words.
        """
        bundle = BundleFile(Path(path), self._files)
        manifest: Manifest | None = None
        try:
            manifest = self._desired.take(bundle)
        except TowpathError as error:
            if error.code != "rollback" or not self._helps(bundle):
                if not isinstance(error, Unavailable):
                    self._teller.trouble(error)
                raise
        else:
            self._teller.no_trouble()
        self._desired.bundle = bundle
        self._journal.set_meta(**{_KEY: path})
        if manifest is not None:
            names = ", ".join(f"{it.app} {it.version}" for it in manifest.apps)
            self._teller.word("note", "", f"{by} applied a bundle: {names}"[:900], "bundle")
        return manifest

    def _helps(self, bundle: BundleFile) -> bool:
        """Return whether a release that is being fetched is in the bundle."""
        coming = [tx for tx in self._journal.transactions() if tx.state in _COMING and tx.wish.sha256]
        indexes = (decode_release(tx.release).artifact.index_sha256 for tx in coming)
        return any(bundle.find(Want("object", digest=digest)) is not None for digest in indexes)

    def settle(self) -> None:
        """Let the bundle go where nothing of it is wanted any more."""
        if self._desired.bundle is None or self._lacking():
            return
        self._desired.bundle = None
        self._journal.set_meta(**{_KEY: ""})

    def _lacking(self) -> list[Deployed]:
        """Return what should run, may, and does not."""
        current, refused = self._journal.deployed("current"), refused_apps(self._journal)
        return [
            it
            for it in self._journal.desired() or []
            if it.wish.app not in refused
            and (it.wish.app not in current or current[it.wish.app].wish.sha256 != it.wish.sha256)
        ]
