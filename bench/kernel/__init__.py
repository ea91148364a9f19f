"""What only a real kernel can show: bonds, kernel WireGuard, and the two together, in a virtual machine."""
