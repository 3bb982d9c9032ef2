"""Which customer becomes whose in an import."""

from dataclasses import replace

import pytest

from billing.domain.accounts import Profile
from billing.stripe_events.customer_links import METADATA, LinkAction, LinkRequest, decide_link

WISH = LinkRequest("cus_1", "acme", None, "line 2")
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
        (None, None, {"cus_1", "cus_3", "cus_2"}, LinkAction.SKIPPED, "the account acme is also to have cus_2, cus_3"),
        (None, ACME, {"cus_1", "cus_2"}, LinkAction.SKIPPED, "the account acme is also to have cus_2"),
    ],
)
def test_what_becomes_of_a_wish(
    owner: str | None, profile: Profile | None, rivals: set[str], link: LinkAction, reason: str | None
) -> None:
    """Nobody's customer is taken away, no account gets two, and where two are wanted neither is."""
    decision = decide_link(WISH, owner, profile, [replace(WISH, customer_id=each) for each in rivals])
    assert (decision.request, decision.link, decision.reason) == (WISH, link, reason)


@pytest.mark.parametrize(
    ("origin", "others_origin", "link"),
    [
        ("line 2", METADATA, LinkAction.CREATED),
        (METADATA, "line 2", LinkAction.SKIPPED),
        ("line 2", "line 3", LinkAction.SKIPPED),
        (METADATA, METADATA, LinkAction.SKIPPED),
    ],
)
def test_a_file_counts_more_than_metadata(origin: str, others_origin: str, link: LinkAction) -> None:
    """Of two customers for one account the file's gets it; where both are told in one way, neither does."""
    request, other = replace(WISH, origin=origin), LinkRequest("cus_2", "acme", None, others_origin)
    assert decide_link(request, None, None, [request, other]).link is link
