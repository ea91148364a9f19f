"""What README's numbers come from: ratios against a named peer or the bare floor, in one run."""
