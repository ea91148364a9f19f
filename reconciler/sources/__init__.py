"""The sources of plans: a git repository that is compiled here, or plans that CI rendered."""
