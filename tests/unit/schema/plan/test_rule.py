from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schema.plan import Rule

FIELDS = {
    "src": "10.0.0.0/8", "dst": "10.1.0.0/16", "iif": "lan0", "oif": "lan0", "fwmark": 85, "fwmask": 255,
    "invert": True, "suppress_prefixlength": 0,
}  # fmt: skip
some = st.sets(st.sampled_from(sorted(FIELDS)))


@given(some, some)
def test_every_field_of_a_rule_is_a_part_of_its_key_and_is_told(one: set[str], other: set[str]) -> None:
    """There is nothing that could be changed: two rules that differ anywhere are two."""
    a, b = (
        Rule.model_validate({"family": "inet", "priority": 100, "table": 100} | {name: FIELDS[name] for name in names})
        for names in (one, other)
    )
    assert (a.key == b.key) == (a == b) == (one == other)
    assert a.key != a.model_copy(update={"family": "inet6"}).key
    if one - other and one | other != {"fwmask"} and not (one ^ other) <= {"fwmask"}:
        assert a.describe() != b.describe()
