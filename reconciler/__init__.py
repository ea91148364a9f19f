"""The host agent: takes a plan, compares it with what the kernel really holds, and converges, forever."""
