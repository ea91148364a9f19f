from __future__ import annotations

from typing import get_args

import pytest
from pydantic import ValidationError

from schema.plan import RESOURCES, AnyResource, HostPlan, Link, Route

ROUTES = [Route(dst="10.0.0.0/8", dev="wg0"), Route(dst="10.1.0.0/16", dev="wg0"), Link(name="wg0", type="wireguard")]


def test_equal_input_gives_equal_bytes_in_any_order() -> None:
    assert HostPlan.of("a", ROUTES).canonical() == HostPlan.of("a", reversed(ROUTES)).canonical()


def test_a_plan_is_read_back_as_it_was() -> None:
    plan = HostPlan.of("a", ROUTES)
    assert HostPlan.model_validate_json(plan.canonical()) == plan
    assert HostPlan.model_validate_json(plan.canonical()).digest == plan.digest


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
