"""Small mistakes, planted one at a time where a silent one hurts most: does the suite notice?

`python -m tests.mutants [MODULE ...]` plants a sample in each module of `table.py`, and all that `listed.toml` names.
What changes nothing that anybody could see stands in `equivalent.toml`, with the reason.
"""
