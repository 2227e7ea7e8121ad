# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""A small NBD client: which exports a server has, what each is, and bytes of one. It never writes.

Fixed newstyle only. Over TLS, only what comes after its handshake counts; there is no way back to plain text.
"""

from __future__ import annotations

import contextlib
import socket
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import (
    errors,
    nbd_commands,
    nbd_protocol,
    nbd_uri,
    words,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools import nbd_reader, nbd_stream

if t.TYPE_CHECKING:
    from ansible_collections.platter.qemu.plugins.module_utils._tools.tls import Credentials

#: seconds for all of a conversation
SECONDS = 5.0
#: nbdkit lists 10 000 at most
MAX_EXPORTS = 10_000
_MAX_CONTEXTS, _MAX_INFOS = 1000, 64
#: bytes in one conversation
_BUDGET = 64 << 20


class NbdClient:
    """A conversation with a server. Use it with C(with); it is not for several threads.

    C(address): whom it speaks with. Whatever goes wrong is an NbdError: C(place_unreachable), C(export_unresponsive)
    (it has not said in time what it was asked), C(protocol_error), C(tls_required), C(tls_unsupported), C(tls_failed),
    C(export_missing), C(nbd_refused). C(credentials): for an address with TLS. C(tls): (version, cipher), None without.
    C(simple): without structured replies, which the kernel's own client does not know.
    """

    def __init__(
        self,
        address: nbd_uri.Address,
        seconds: float = SECONDS,
        credentials: t.Optional[Credentials] = None,
        *,
        simple: bool = False,
    ) -> None:
        self.address = address
        self._structured = False
        self._simple = simple
        self.tls: t.Optional[t.Tuple[str, str]] = None
        self._seconds = seconds
        self._goodbye = nbd_protocol.option(nbd_protocol.OPT_ABORT)
        secure = _secure(address, credentials) if address.tls else None
        deadline = time.monotonic() + seconds
        with self._speaking("connecting"):
            self._stream = nbd_stream.NbdStream(nbd_stream.connect(address, deadline), deadline, _BUDGET)
        try:
            self._shake_hands(secure)
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> NbdClient:
        return self

    def __exit__(self, *_unused: t.Any) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye, and do not wait for an answer."""
        with contextlib.suppress(OSError):
            self._stream.send(self._goodbye)
        self._stream.close()

    def exports(self) -> t.List[nbd_protocol.Listed]:
        """All exports in the server's order. NbdError C(nbd_refused) where the server does not list them."""
        with self._speaking("the list of exports"):
            answers = self._ask(nbd_protocol.OPT_LIST, b"", MAX_EXPORTS)
            return [nbd_protocol.listed(data) for kind, data in answers if kind == nbd_protocol.REP_SERVER]

    def info(self, name: str) -> nbd_protocol.Export:
        """One export; the server does not count us as its user. NbdError C(export_missing) when there is none."""
        with self._speaking(_named("the export", name)):
            return self._info(nbd_protocol.OPT_INFO, name)

    def contexts(self, name: str) -> t.Tuple[str, ...]:
        """The metadata contexts of an export, sorted; none where the server has none to tell."""
        if not self._structured:
            return ()
        with self._speaking(_named("the metadata contexts of", name)):
            data = nbd_protocol.contexts_request(name)
            try:
                answers = self._ask(nbd_protocol.OPT_LIST_META_CONTEXT, data, _MAX_CONTEXTS)
            except _AnsweredNoError as exc:
                if exc.error == "unsupported":
                    return ()
                raise
            found = (nbd_protocol.context(data) for kind, data in answers if kind == nbd_protocol.REP_META_CONTEXT)
            return tuple(sorted(found))

    def open(self, name: str) -> nbd_reader.ExportReader:
        """Go on to an export's bytes: nothing else can be asked afterwards, and the server has us as a user.

        A qemu-nbd without C(--persistent) ends when such a user has gone.
        """
        with self._speaking(_named("the export", name)):
            export = self._info(nbd_protocol.OPT_GO, name)
        self._goodbye = nbd_commands.request(nbd_commands.CMD_DISC, 0)
        return nbd_reader.ExportReader(export, self._stream, self._speaking)

    def hand_over(self, name: str, limit: int = 0) -> t.Tuple[nbd_protocol.Export, socket.socket]:
        """Go on to an export's bytes, and let somebody else speak: its socket, which does not wait for less than it takes.
        C(limit): see NbdStream.
        """
        with self._speaking(_named("the export", name)):
            export = self._info(nbd_protocol.OPT_GO, name)
        return export, self._stream.hand_over(limit)

    def leave(self) -> None:
        """Without a word: somebody else speaks now, who has the same connection."""
        self._stream.leave()

    # --- the conversation

    def _shake_hands(self, secure: t.Optional[t.Tuple[t.Any, t.Optional[str]]]) -> None:
        with self._speaking("a greeting"):
            flags = nbd_protocol.greeting(self._stream.receive(nbd_protocol.GREETING_SIZE))
            self._stream.send(nbd_protocol.client_flags(flags))
        if secure:
            self._start_tls(*secure)
        if self._simple:
            return
        with self._speaking("TLS" if secure else "an answer to its greeting"):
            try:
                self._ask(nbd_protocol.OPT_STRUCTURED_REPLY, b"", 0)
                self._structured = True
            except _AnsweredNoError as exc:
                if exc.error == "tls_required":
                    raise
                self._structured = False

    def _start_tls(self, context: t.Any, hostname: t.Optional[str]) -> None:
        """All that the server has said until now could be anyone's; nothing of it is used."""
        with self._speaking("TLS"):
            try:
                self._ask(nbd_protocol.OPT_STARTTLS, b"", 0)
            except _AnsweredNoError as exc:
                way_out = "Switch TLS on there; or write nbd:// if anyone on the way may see and change what is sent."
                raise self._nbd_error("it has no TLS", "tls_unsupported", way_out, error=exc.error) from exc
            self.tls = self._stream.start_tls(context, hostname)

    def _info(self, option: int, name: str) -> nbd_protocol.Export:
        answers = self._ask(option, nbd_protocol.info_request(name), _MAX_INFOS)
        return nbd_protocol.export(name, (data for kind, data in answers if kind == nbd_protocol.REP_INFO))

    def _ask(self, option: int, data: bytes, most: int) -> t.List[t.Tuple[int, bytes]]:
        """What the server says to an option before it acknowledges it: (type, payload), C(most) times at most."""
        self._stream.send(nbd_protocol.option(option, data))
        answers: t.List[t.Tuple[int, bytes]] = []
        while True:
            reply = nbd_protocol.option_reply(self._stream.receive(nbd_protocol.OPTION_HEADER_SIZE), option)
            payload = self._stream.receive(reply.length)
            if reply.error:
                raise _AnsweredNoError(reply.error, nbd_protocol.error_text(payload))
            if reply.type == nbd_protocol.REP_ACK:
                return answers
            nbd_protocol.require(len(answers) < most, "more than %d answers to one question" % most)
            answers.append((reply.type, payload))

    @contextlib.contextmanager
    def _speaking(self, about: str) -> t.Iterator[None]:
        """The one place where what goes wrong on the way becomes what users read."""
        try:
            yield
        except (TimeoutError, socket.timeout) as exc:
            raise self._unresponsive(about) from exc
        except _AnsweredNoError as exc:
            raise self._no(about, exc) from exc
        except errors.WireError as exc:
            raise self._wrong(about, exc) from exc
        except OSError as exc:
            if about == "TLS":
                raise self._no_tls(exc) from exc
            fact = "%s (%s)" % ("nobody is there" if about == "connecting" else about, exc.strerror or exc)
            raise self._nbd_error(fact, "place_unreachable", "Start the server, or correct the address.") from exc

    def _unresponsive(self, about: str) -> errors.NbdError:
        fact = "no answer (%s) within %.3g s; it may be stopped, or have another client and serve one at a time" % (
            about,
            self._seconds,
        )
        return self._nbd_error(fact, "export_unresponsive", "Look at the server; or raise timeout.", about=about)

    def _no_tls(self, exc: OSError) -> errors.NbdError:
        """In the TLS handshake, or right behind it: a certificate of ours is refused by hanging up then (TLS 1.3)."""
        from ansible_collections.platter.qemu.plugins.module_utils._tools import tls

        fact = tls.describe(exc)
        way_out = "Check the certificates or the key of both sides, and the name in the server's certificate."
        return self._nbd_error(fact, "tls_failed", way_out)

    def _wrong(self, about: str, exc: errors.WireError) -> errors.NbdError:
        if "errno" in exc.facts:
            fact = "%s fails there (error %d)" % (about, exc.facts["errno"])
            return self._nbd_error(fact, "nbd_refused", "Look at the server and its disk.", error=exc.message)
        way_out = "Check that the address is that of an NBD server."
        return self._nbd_error(exc.message, "protocol_error", way_out, about=about)

    def _no(self, about: str, exc: _AnsweredNoError) -> errors.NbdError:
        said = words.printable(exc.text)
        if exc.error == "unknown":
            fact = "it does not have %s%s" % (about, said and " (%s)" % said)
            return self._nbd_error(fact, "export_missing", "Correct the name of the export.", said=said)
        if exc.error == "tls_required":
            way_out = "Write nbds:// and name the certificates or the key."
            return self._nbd_error("it serves nobody without TLS", "tls_required", way_out, said=said)
        fact = "it refuses %s (%s%s)" % (about, exc.error, said and ": " + said)
        return self._nbd_error(fact, "nbd_refused", "Look at the server's configuration.", error=exc.error, said=said)

    def _nbd_error(self, fact: str, reason: str, way_out: str, **evidence: t.Any) -> errors.NbdError:
        return errors.NbdError(self.address.server, fact, reason=reason, way_out=way_out, **evidence)


class _AnsweredNoError(Exception):
    """The server answered an option with an error of the protocol."""

    def __init__(self, error: str, text: str) -> None:
        super().__init__(error, text)
        self.error = error
        self.text = text


def _named(what: str, name: str) -> str:
    return '%s "%s"' % (what, words.printable(name))


def _secure(address: nbd_uri.Address, credentials: t.Optional[Credentials]) -> t.Tuple[t.Any, t.Optional[str]]:
    """(context, name that the server's certificate must have)."""
    from ansible_collections.platter.qemu.plugins.module_utils._tools import tls

    credentials = credentials or tls.Credentials(user=address.user)
    if credentials.psk_file:
        return tls.context(credentials), None
    hostname = credentials.hostname or address.host
    if not hostname:
        raise errors.SpecError(
            "TLS on the Unix socket",
            address.socket,
            "nothing says which name its certificate must have",
            reason="bad_option",
            way_out="Set tls_hostname.",
            joined="",
        )
    return tls.context(credentials), hostname
