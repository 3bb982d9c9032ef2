"""Decisions on requests to link Stripe customers to accounts."""

from dataclasses import replace

import pytest

from billing.domain.accounts import Profile
from billing.stripe_events.customer_links import METADATA, LinkAction, LinkRequest, decide_link

REQUEST = LinkRequest("cus_1", "acme", None, "line 2")
ACME = Profile("acme", version=1)


@pytest.mark.parametrize(
    ("owner", "profile", "rivals", "link", "reason"),
    [
        (None, None, {"cus_1"}, LinkAction.CREATED, None),
        (None, ACME, {"cus_1"}, LinkAction.LINKED, None),
        ("acme", Profile("acme", version=1, customer_id="cus_1"), {"cus_1"}, LinkAction.UNCHANGED, None),
        ("acme", Profile("acme", version=1, customer_id="cus_1"), {"cus_1", "cus_2"}, LinkAction.UNCHANGED, None),
        ("acme", Profile("acme", version=1, customer_id="cus_2"), {"cus_1"}, LinkAction.UNCHANGED, None),
        ("acme", ACME, {"cus_1"}, LinkAction.LINKED, None),
        ("globex", ACME, {"cus_1"}, LinkAction.SKIPPED, "it belongs to the account globex"),
        ("globex", None, {"cus_1"}, LinkAction.SKIPPED, "it belongs to the account globex"),
        (
            None,
            Profile("acme", version=1, customer_id="cus_2"),
            {"cus_1"},
            LinkAction.SKIPPED,
            "the account acme has the customer cus_2",
        ),
        (
            None,
            None,
            {"cus_1", "cus_3", "cus_2"},
            LinkAction.SKIPPED,
            "the account acme is also requested for cus_2, cus_3",
        ),
        (None, ACME, {"cus_1", "cus_2"}, LinkAction.SKIPPED, "the account acme is also requested for cus_2"),
    ],
)
def test_link_request_never_moves_customer_or_adds_second_one(
    owner: str | None, profile: Profile | None, rivals: set[str], link: LinkAction, reason: str | None
) -> None:
    decision = decide_link(REQUEST, owner, profile, [replace(REQUEST, customer_id=each) for each in rivals])
    assert (decision.request, decision.link, decision.reason) == (REQUEST, link, reason)


def test_link_request_from_metadata_does_not_link_an_unlinked_customer() -> None:
    profile = Profile("acme", version=1, unlinked_customers=("cus_1",))
    requests = {origin: replace(REQUEST, origin=origin) for origin in (METADATA, "line 2")}
    decisions = {origin: decide_link(each, None, profile, [each]) for origin, each in requests.items()}
    assert decisions[METADATA].reason == "an operator unlinked it from the account acme"
    assert decisions["line 2"].link is LinkAction.LINKED


@pytest.mark.parametrize(
    ("origin", "others_origin", "link"),
    [
        ("line 2", METADATA, LinkAction.CREATED),
        (METADATA, "line 2", LinkAction.SKIPPED),
        ("line 2", "line 3", LinkAction.SKIPPED),
        (METADATA, METADATA, LinkAction.SKIPPED),
    ],
)
def test_link_request_from_file_has_precedence_over_metadata(origin: str, others_origin: str, link: LinkAction) -> None:
    request, other = replace(REQUEST, origin=origin), LinkRequest("cus_2", "acme", None, others_origin)
    assert decide_link(request, None, None, [request, other]).link is link
