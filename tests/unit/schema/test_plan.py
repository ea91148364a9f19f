from __future__ import annotations

import json
from typing import get_args

import pytest
from pydantic import ValidationError

from schema.plan import RESOURCES, SLICE, AnyResource, Firewall, HostPlan, Link, Route

ROUTES = [Route(dst="10.0.0.0/8", dev="wg0"), Route(dst="10.1.0.0/16", dev="wg0"), Link(name="wg0", type="wireguard")]


def test_equal_input_gives_equal_bytes_in_any_order() -> None:
    assert HostPlan.of("a", ROUTES).canonical() == HostPlan.of("a", reversed(ROUTES)).canonical()


def test_a_plan_is_read_back_as_it_was() -> None:
    plan = HostPlan.of("a", ROUTES)
    assert HostPlan.model_validate_json(plan.canonical()) == plan
    assert HostPlan.model_validate_json(plan.canonical()).digest == plan.digest


@pytest.mark.parametrize("count", [0, 1, SLICE, 2 * SLICE + 1])
def test_a_large_plan_is_written_and_read_in_slices_and_is_the_same(count: int) -> None:
    chain = Firewall(
        family="inet", table="nat", chain="GITWAN-A", hook="OUTPUT", rules=('-m comment --comment ",{"kind":"',)
    )
    routes = [Route(dst=f"10.{n >> 8}.{n & 255}.0/24", dev="wg0") for n in range(count)]
    plan = HostPlan.of("a", [chain, *routes] if count else [])
    data = plan.canonical()
    assert data == plan.model_dump_json(exclude_none=True).encode()
    assert HostPlan.parse(data) == plan
    assert HostPlan.parse(json.dumps(json.loads(data), indent=1).encode()) == plan, "rendered by hand"


def test_what_is_wrong_in_a_slice_is_named_by_its_place_in_the_whole() -> None:
    data = HostPlan.of("a", [Route(dst=f"10.0.{n}.0/24", dev="wg0") for n in range(9)]).canonical()
    with pytest.raises(ValidationError, match=r"resources\.8\.route\.dst"):
        HostPlan.parse(data.replace(b"10.0.8.0/24", b"nonsense"))


def test_what_is_none_is_left_out_so_that_later_fields_change_no_digest() -> None:
    assert b"null" not in HostPlan.of("a", ROUTES).canonical()


def test_the_union_and_the_registry_name_the_same_kinds() -> None:
    union = {model.model_fields["kind"].default: model for model in get_args(get_args(AnyResource)[0])}
    assert union == RESOURCES


def test_kinds_are_listed_in_the_order_of_their_ranks() -> None:
    assert [model.rank for model in RESOURCES.values()] == sorted({model.rank for model in RESOURCES.values()})


@pytest.mark.parametrize(
    "text",
    [
        b"{}", b"null", b'{"host":"a","resources":[{"kind":"tunnel"}]}', b'{"host":"a","surprise":1}',
        b'{"host":"a","resources":[{"kind":"route","dst":"10.0.0.0"}]}',
        b'{"host":"a","resources":[{"kind":"link","name":"a/b","type":"bond"}]}', b'{"version":2,"host":"a"}',
    ],
)  # fmt: skip
def test_what_is_no_plan_is_refused(text: bytes) -> None:
    with pytest.raises(ValidationError):
        HostPlan.model_validate_json(text)
