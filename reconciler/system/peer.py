"""WireGuard peers: one delta per peer, and as few messages per device as a gapless move allows."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Sequence

from reconciler.kinds.base import ALIAS, Failure, Observed
from reconciler.kinds.peer import endpoint_parts, is_name
from reconciler.system.failure import failure, judge
from reconciler.system.wg import PeerSet
from reconciler.system.wg_devices import Device, Devices
from reconciler.system.wg_key import NO_KEY, decode
from reconciler.system.wg_moves import freed, gained, parked
from schema.ip import endpoint_text
from schema.plan import Change, Key, Peer, SecretRef
from schema.plan.fingerprint import preshared_fingerprint

PeerStep = tuple[PeerSet, list[Change]]
"""A part of a message, and the changes that it carries out."""
NameEndpoint = tuple[str, str]
"""An endpoint as the plan names it, and as it was resolved and set."""


class PeerDriver:
    """Peers of every WireGuard device.

    The kernel stores no DNS names. An endpoint that this driver set for a name is reported under that name while it
    stays the same, so that a plan with another name for the peer differs from the observation.
    """

    def __init__(self, devices: Devices, secret: Callable[[SecretRef], bytes], resolve: Callable[[str], str]) -> None:
        self._devices = devices
        self._secret = secret
        self._resolve = resolve
        self._names: dict[Key, NameEndpoint] = {}

    def devices(self) -> Collection[str]:
        return self._devices.named().keys()

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
        by_device: dict[str, list[Change]] = {}
        for change in changes:
            by_device.setdefault(str(change.resource.key[0]), []).append(change)
        named = self._devices.some(by_device.keys())
        failures: list[Failure] = []
        for name, of_device in by_device.items():
            failures += self._apply_to(name, named.get(name), of_device)
        return failures

    def _apply_to(self, name: str, device: Device | None, changes: list[Change]) -> list[Failure]:
        if device is None or device.marker != ALIAS:
            # Deletions have nothing of ours to delete. Peers are never added to a foreign device.
            number = errno.ENODEV if device is None else errno.EPERM
            refusal = OSError(number, f"no WireGuard device {name}" if device is None else f"{name} is not ours")
            return [failure(change, refusal) for change in changes if change.after is not None]
        # A peer that gains a prefix gets it before another loses it, and before its old peer is deleted.
        failures: list[Failure] = []
        addresses: dict[str, str] = {}
        carried: list[Change] = []
        steps: list[PeerStep] = []
        for change in changes:
            if change.after is None:
                continue
            try:
                steps.append((self._delta(change, addresses, failures), [change]))
                carried.append(change)
            except OSError as error:
                failures.append(failure(change, error))
        refused = _send(device, [step for step in steps if not step[0].idle])
        failures += refused
        # A prefix is removed even if its new peer was refused: its old peer must no longer have it.
        lost = {id(failed.change) for failed in refused}
        failures += _send(device, parked(freed(change for change in carried if id(change) not in lost)))
        device.backend.remember(name, [one for change in carried if isinstance(one := change.after, Peer)])
        gone = [change for change in changes if change.after is None]
        return failures + _send(device, [(self._removal(change), [change]) for change in gone])

    def _removal(self, change: Change) -> PeerSet:
        assert isinstance(change.before, Peer)
        self._names.pop(change.before.key, None)
        return PeerSet(decode(change.before.public_key), remove=True)

    def _delta(self, change: Change, addresses: dict[str, str], failures: list[Failure]) -> PeerSet:
        """What to set on a peer that stays, except for the prefixes that it loses.

        If a name cannot be resolved, only the endpoint is omitted: the peer may still connect first.
        """
        before, after = change.before, change.after
        assert (before is None or isinstance(before, Peer)) and isinstance(after, Peer)
        endpoint = None
        if after.endpoint is not None and (before is None or before.endpoint != after.endpoint):
            try:
                endpoint = self._endpoint(after, after.endpoint, addresses)
            except OSError as error:
                failures.append(failure(change, error))
        preshared = None
        if _fingerprint(before) != _fingerprint(after):
            preshared = NO_KEY if after.preshared_key is None else self._preshared_key(after.preshared_key)
        return PeerSet(
            decode(after.public_key),
            update_only=before is not None,
            # A new peer that already exists may have too many prefixes; a missing one has none to lose.
            replace_allowed_ips=before is None,
            allowed_ips=gained(before, after),
            endpoint=endpoint,
            keepalive=after.keepalive if after.keepalive != (before.keepalive if before else 0) else None,
            preshared_key=preshared,
        )

    def _endpoint(self, peer: Peer, endpoint: str, addresses: dict[str, str]) -> tuple[str, int]:
        """The address and port to set. Raises OSError (EAGAIN) if a name cannot be resolved."""
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
        """Read the key from the host's secrets. Raises OSError, never with the key in its text."""
        try:
            key = self._secret(reference)
        except (LookupError, ValueError):
            raise OSError(errno.ENOKEY, f"no usable secret {reference.secret} on this host") from None
        if len(key) != 32 or preshared_fingerprint(key) != reference.fingerprint:
            raise OSError(errno.EKEYREJECTED, f"the secret {reference.secret} on this host is another one")
        return key


def _send(device: Device, steps: Sequence[PeerStep]) -> list[Failure]:
    """Set peers in their order. Returns the refused ones as failures of their changes."""
    failures: list[Failure] = []
    for position, error in device.backend.set_peers(device.name, [peer for peer, _ in steps]).items():
        of_step = steps[position][1]
        failures += judge(of_step, dict.fromkeys(range(len(of_step)), error))[0]
    return failures


def _fingerprint(peer: Peer | None) -> str | None:
    return peer.preshared_key.fingerprint if peer and peer.preshared_key else None
