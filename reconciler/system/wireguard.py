"""WireGuard devices: key, port and mark."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Sequence

from reconciler.kinds.base import ALIAS, Failure, Observed
from reconciler.system.failure import ABSENT, failure
from reconciler.system.wg import DeviceSet
from reconciler.system.wg_devices import Devices
from reconciler.system.wg_key import NO_KEY, public_key
from schema.plan import Change, SecretRef, Wireguard


class WireguardDriver:
    """Devices with a private key; a device without one counts as missing."""

    def __init__(self, devices: Devices, secret: Callable[[SecretRef], bytes]) -> None:
        self._devices = devices
        self._secret = secret

    def devices(self) -> Collection[str]:
        return self._devices.named().keys()

    def observe(self) -> list[Observed[Wireguard]]:
        return self._observe(None)

    def observe_on(self, devices: Collection[str]) -> list[Observed[Wireguard]]:
        return self._observe(devices)

    def _observe(self, devices: Collection[str] | None) -> list[Observed[Wireguard]]:
        return [
            Observed(
                Wireguard.model_construct(
                    None,
                    kind="wireguard",
                    dev=state.name,
                    private_key=SecretRef(secret="private-key", fingerprint=state.public_key),
                    listen_port=state.listen_port,
                    fwmark=state.fwmark or None,
                ),
                device.marker,
            )
            for device, state in self._devices.read(devices)
            if state.public_key
        ]

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        self._devices.changed()
        named = self._devices.named()
        failures = []
        for change in changes:
            wanted = change.resource
            assert isinstance(wanted, Wireguard)
            device = named.get(wanted.dev)
            if change.after is None and (device is None or device.marker != ALIAS):
                continue  # none of ours exists
            try:
                if device is None:
                    raise OSError(errno.ENODEV, f"no WireGuard device {wanted.dev}")
                if change.after is None:
                    settings = DeviceSet(NO_KEY, 0, 0)
                else:
                    state = device.backend.read(wanted.dev)
                    settings = self._delta(wanted, state.public_key, state.listen_port, state.fwmark)
                if settings != DeviceSet():
                    device.backend.set_device(wanted.dev, settings)
            except OSError as error:
                if not (change.after is None and error.errno in ABSENT):
                    failures.append(failure(change, error))
        return failures

    def _delta(self, wanted: Wireguard, public: str, port: int, mark: int) -> DeviceSet:
        """Only the differences: setting a key again, even the same one, resets every session."""
        same_key = public == wanted.private_key.fingerprint
        fwmark = wanted.fwmark or 0
        return DeviceSet(
            private_key=None if same_key else self._private_key(wanted.private_key),
            listen_port=None if port == wanted.listen_port else wanted.listen_port,
            fwmark=None if mark == fwmark else fwmark,
        )

    def _private_key(self, reference: SecretRef) -> bytes:
        """Read the key from the host's secrets. Raises OSError, never with the key in its text."""
        try:
            private = self._secret(reference)
            public = public_key(private)
        except (LookupError, ValueError):
            raise OSError(errno.ENOKEY, f"no usable key {reference.secret} on this host") from None
        if public != reference.fingerprint:
            raise OSError(errno.EKEYREJECTED, f"the key {reference.secret} on this host has another public key")
        return private
