"""Where plans come from: a git repository compiled here, or plans that CI rendered."""
