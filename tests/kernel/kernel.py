"""A distribution's kernel in a folder of ours: fetched and unpacked, never installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TOOLS = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "dpkg": "dpkg",
    "dpkg-deb": "dpkg",
    "depmod": "kmod",
    "busybox": "busybox-static",
}
"""What fetching and booting a kernel takes, and the package that has it."""
SAY = Callable[[str], None]


class MissingError(Exception):
    """The machine lacks something; the text says what."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel: `lib/modules/VERSION` stands beside `boot`, where virtme-ng looks for it."""

    version: str
    image: Path


def missing_tools(tools: dict[str, str]) -> list[str]:
    """`tool (package)` for each that is not on the path."""
    return [f"{tool} ({package})" for tool, package in tools.items() if shutil.which(tool) is None]


def provide(cache: Path, say: SAY) -> Kernel:
    """The kernel that this distribution would install, from the cache or the package archive. Raises MissingError."""
    lacking = missing_tools(TOOLS)
    if lacking:
        raise MissingError(f"install {', '.join(lacking)}")
    package = _package()
    if package is None:
        kernel = _newest(cache)
        if kernel is None:
            raise MissingError("apt-cache knows no linux-image package: run `apt-get update`")
        return kernel
    kernel = _kernel_in(cache / package)
    if kernel is None:
        kernel = _unpack(package, cache / package, say)
        for older in set(cache.glob("linux-image-*")) - {cache / package}:
            shutil.rmtree(older)
    return kernel


def _package() -> str | None:
    """The newest kernel's package: what Debian's or Ubuntu's package without a version depends on."""
    for name in (f"linux-image-{_output('dpkg', '--print-architecture')}", "linux-image-generic"):
        found = _depends(name, r"linux-image-\d\S*")
        if found:
            return found[0]
    return None


def _depends(package: str, pattern: str) -> list[str]:
    text = _output("apt-cache", "depends", package, check=False)
    return re.findall(rf"^\s*\|?Depends: ({pattern})$", text, re.MULTILINE)


def _unpack(package: str, folder: Path, say: SAY) -> Kernel:
    # Ubuntu divides a kernel in two packages.
    packages = [package, *_depends(package, r"linux-modules-\d\S*")]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in packages:
        say(f"fetching {name}")
        try:
            # As root, apt-get would warn that its own user cannot write here.
            _output("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", name, cwd=folder)
        except subprocess.CalledProcessError as error:
            raise MissingError(f"cannot fetch {name}: {_last(error.stderr)}") from error
    for archive in sorted(folder.glob("*.deb")):
        say(f"unpacking {archive.name}")
        _output("dpkg-deb", "-x", str(archive), str(folder))
        archive.unlink()
    if not (folder / "lib").exists() and (folder / "usr/lib/modules").exists():
        (folder / "lib").symlink_to("usr/lib")
    image = next(folder.glob("boot/vmlinuz-*"), None)
    if image is None:
        raise MissingError(f"{package} holds no kernel")
    version = image.name.removeprefix("vmlinuz-")
    _output("depmod", "-b", str(folder), version)
    return Kernel(version, image)


def _kernel_in(folder: Path) -> Kernel | None:
    """What an earlier run unpacked completely: `depmod` came last."""
    image = next(folder.glob("boot/vmlinuz-*"), None)
    version = image.name.removeprefix("vmlinuz-") if image else ""
    complete = (folder / "lib/modules" / version / "modules.dep.bin").exists()
    return Kernel(version, image) if image and complete else None


def _newest(cache: Path) -> Kernel | None:
    found = [kernel for folder in sorted(cache.glob("linux-image-*")) if (kernel := _kernel_in(folder))]
    return found[-1] if found else None


def _output(*command: str, cwd: Path | None = None, check: bool = True) -> str:
    return subprocess.run(command, cwd=cwd, check=check, capture_output=True, text=True).stdout.strip()


def _last(text: str) -> str:
    lines: Sequence[str] = text.strip().splitlines()
    return lines[-1] if lines else "no message"
