"""The host agent: compares a plan with the state of the kernel, and converges continuously."""
