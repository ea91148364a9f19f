"""The benchmarks behind README's figures: ratios against another program or the smallest possible implementation, in
one run."""
