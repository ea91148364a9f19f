"""Measures that need a real kernel, in a virtual machine: bonds, the kernel's WireGuard, and both together."""
