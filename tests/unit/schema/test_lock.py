from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from schema.lock import Entry, lock_text, parse_lock

names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,10}", fullmatch=True)
entries = st.dictionaries(
    st.one_of(
        st.tuples(st.sampled_from(["address", "client"]), names, st.just("4")),
        st.tuples(st.just("exit"), names.map(lambda name: f"{name}/own"), st.just("4")),
        st.tuples(st.just("port"), names, names.map(lambda name: f"{name}~b/1")),
    ),
    st.integers(1, 65535),
)


@given(entries)
def test_what_is_written_is_read_back(lock: dict[Entry, int]) -> None:
    found, problems = parse_lock("fabric.lock", lock_text(lock).encode())
    assert (found, problems) == (lock, [])


@given(entries, st.randoms(use_true_random=False))
def test_equal_entries_give_equal_bytes(lock: dict[Entry, int], shuffle: random.Random) -> None:
    items = list(lock.items())
    shuffle.shuffle(items)
    assert lock_text(dict(items)) == lock_text(lock)


def test_both_families_of_one_host_are_two_lines() -> None:
    text = lock_text({("address", "a", "4"): 0x0A000001, ("address", "a", "6"): 0xFD00 << 112 | 1})
    assert text.splitlines()[1:] == ["address a 10.0.0.1", "address a fd00::1"]


def test_what_a_merge_leaves_is_a_problem_with_its_line() -> None:
    text = b"# header\naddress a 10.0.0.1\n<<<<<<< ours\naddress a 10.0.0.2\nport a b 70000\nclient c ten\n"
    found, problems = parse_lock("fabric.lock", text)
    assert found == {("address", "a", "4"): 0x0A000001}
    assert [p.place.line for p in problems] == [3, 4, 5, 6]
