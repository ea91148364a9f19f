"""WireGuard peers: one delta per peer, all of a device in as few messages as possible."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Sequence

from reconciler.kinds.base import ALIAS, Failure, Observed
from reconciler.kinds.peer import endpoint_parts, is_name
from reconciler.system.failure import failure, judge
from reconciler.system.wg import PeerSet, endpoint_text
from reconciler.system.wg_devices import Device, Devices
from reconciler.system.wg_key import NO_KEY, decode
from schema.plan import Change, Key, Peer, SecretRef
from schema.plan.fingerprint import preshared_fingerprint

NameEndpoint = tuple[str, str]
"""An endpoint as the plan names it, and as it was resolved and set."""


class PeerDriver:
    """Peers of every WireGuard device.

    The kernel knows no names. What this driver set for a name is reported under that name as long as it stays, so
    that a plan that moves a peer to another name differs from what is observed.
    """

    def __init__(self, devices: Devices, secret: Callable[[SecretRef], bytes], resolve: Callable[[str], str]) -> None:
        self._devices = devices
        self._secret = secret
        self._resolve = resolve
        self._names: dict[Key, NameEndpoint] = {}

    def devices(self) -> Collection[str]:
        return self._devices.named()

    def observe(self) -> list[Observed[Peer]]:
        return self._observe(None)

    def observe_on(self, devices: Collection[str]) -> list[Observed[Peer]]:
        return self._observe(devices)

    def _observe(self, devices: Collection[str] | None) -> list[Observed[Peer]]:
        found = [
            Observed(peer, device.marker, session)
            for device, state in self._devices.read_shared(devices)
            for peer, session in state.peers
        ]
        return [self._under_name(observed) for observed in found] if self._names else found

    def _under_name(self, observed: Observed[Peer]) -> Observed[Peer]:
        named = self._names.get(observed.resource.key)
        if named is None or named[1] != observed.resource.endpoint:
            return observed
        resource = observed.resource.model_copy(update={"endpoint": named[0]})
        return Observed(resource, observed.marker, observed.session)

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        self._devices.changed()
        named = self._devices.named()
        by_device: dict[str, list[Change]] = {}
        for change in changes:
            by_device.setdefault(str(change.resource.key[0]), []).append(change)
        failures: list[Failure] = []
        for name, of_device in by_device.items():
            failures += self._apply_to(name, named.get(name), of_device)
        return failures

    def _apply_to(self, name: str, device: Device | None, changes: list[Change]) -> list[Failure]:
        if device is None or device.marker != ALIAS:
            # Deletions have nothing of ours to delete. Peers are never added to a device that is not ours.
            number = errno.ENODEV if device is None else errno.EPERM
            refusal = OSError(number, f"no WireGuard device {name}" if device is None else f"{name} is not ours")
            return [failure(change, refusal) for change in changes if change.after is not None]
        failures: list[Failure] = []
        sent: list[Change] = []
        peers: list[PeerSet] = []
        addresses: dict[str, str] = {}
        for change in changes:
            try:
                peers.append(self._delta(change, addresses, failures))
                sent.append(change)
            except OSError as error:
                failures.append(failure(change, error))
        return failures + judge(sent, device.backend.set_peers(name, peers))[0]

    def _delta(self, change: Change, addresses: dict[str, str], failures: list[Failure]) -> PeerSet:
        """What to set. A name that cannot be resolved costs the endpoint only: the peer may still speak first."""
        before, after = change.before, change.after
        assert before is None or isinstance(before, Peer)
        if after is None:
            assert before is not None
            self._names.pop(before.key, None)
            return PeerSet(decode(before.public_key), remove=True)
        assert isinstance(after, Peer)
        endpoint = None
        if after.endpoint is not None and (before is None or before.endpoint != after.endpoint):
            try:
                endpoint = self._endpoint(after, after.endpoint, addresses)
            except OSError as error:
                failures.append(failure(change, error))
        preshared = None
        if _fingerprint(before) != _fingerprint(after):
            preshared = NO_KEY if after.preshared_key is None else self._preshared_key(after.preshared_key)
        had = set(before.allowed_ips) if before else set()
        shrinks = before is None or not had <= set(after.allowed_ips)
        return PeerSet(
            decode(after.public_key),
            update_only=before is not None,
            replace_allowed_ips=shrinks,
            allowed_ips=after.allowed_ips if shrinks else [ip for ip in after.allowed_ips if ip not in had],
            endpoint=endpoint,
            keepalive=after.keepalive if after.keepalive != (before.keepalive if before else 0) else None,
            preshared_key=preshared,
        )

    def _endpoint(self, peer: Peer, endpoint: str, addresses: dict[str, str]) -> tuple[str, int]:
        """The address and port to set. Raises OSError (EAGAIN) where a name cannot be resolved."""
        host, port = endpoint_parts(endpoint)
        if not is_name(endpoint):
            self._names.pop(peer.key, None)
            return host, port
        address = addresses.get(host)
        if address is None:
            try:
                address = addresses[host] = self._resolve(host)
            except OSError:
                raise OSError(errno.EAGAIN, f"cannot resolve {host}") from None
        self._names[peer.key] = endpoint, endpoint_text(address, port)
        return address, port

    def _preshared_key(self, reference: SecretRef) -> bytes:
        """The key from where the host keeps it. Raises OSError, never with the key in it."""
        try:
            key = self._secret(reference)
        except (LookupError, ValueError):
            raise OSError(errno.ENOKEY, f"no usable secret {reference.secret} on this host") from None
        if len(key) != 32 or preshared_fingerprint(key) != reference.fingerprint:
            raise OSError(errno.EKEYREJECTED, f"the secret {reference.secret} on this host is another one")
        return key


def _fingerprint(peer: Peer | None) -> str | None:
    return peer.preshared_key.fingerprint if peer and peer.preshared_key else None
