"""The list of trusted servers, and what each command makes of it."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.settings import trust
from tentacle.settings.errors import SettingsError
from tentacle.settings.model import CommunicationStyle, TrustedServer

PASSIVE, ACTIVE, NONE = (
    CommunicationStyle.TENTACLE_PASSIVE,
    CommunicationStyle.TENTACLE_ACTIVE,
    CommunicationStyle.NONE,
)
thumbprints = st.sampled_from(["ABC", "abc", "DEF", "00ff"])
addresses = st.sampled_from([None, "https://h:10943", "https://H:10943/", "https://other:1", "wss://h/x"])
servers = st.lists(
    st.builds(
        TrustedServer, thumbprints, st.sampled_from(CommunicationStyle), addresses, st.sampled_from([None, "poll://a/"])
    ),
    max_size=5,
).map(tuple)


def passive(thumbprint: str) -> TrustedServer:
    return TrustedServer(thumbprint, PASSIVE)


def polling(thumbprint: str, address: str, subscription: str = "poll://s/") -> TrustedServer:
    return TrustedServer(thumbprint, ACTIVE, address, subscription)


def new_id() -> str:
    return "poll://new/"


@given(st.text())
def test_normalising_a_thumbprint_twice_changes_nothing(text: str) -> None:
    once = trust.normalise_thumbprint(text)
    assert trust.normalise_thumbprint(once) == once


@given(st.text())
def test_normalising_any_address_never_fails_and_is_stable(text: str) -> None:
    once = trust.normalise_address(text)
    assert trust.same_address(text, text)
    assert isinstance(once, str)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://h:10943", "https://H:10943/", True),
        ("https://h", "https://h:443/", True),
        ("https://h:10943", "https://h:10944", False),
        ("wss://h/OctopusComms", "WSS://h:443/octopuscomms", True),
        ("https://[::1]:1/", "https://[::1]:1", True),
        ("https://h:99999", "https://h:99999", True),
        (None, None, True),
        (None, "https://h", False),
    ],
)
def test_addresses_are_compared_as_uris(one: str | None, other: str | None, same: bool) -> None:
    assert trust.same_address(one, other) is same


@given(servers, thumbprints, addresses)
def test_adding_leaves_one_such_entry_at_the_end(
    known: tuple[TrustedServer, ...], thumbprint: str, address: str | None
) -> None:
    server = TrustedServer(thumbprint, ACTIVE, address)
    after = trust.add_or_update(known, server)
    assert after[-1] is server
    assert sum(trust.same_entry(entry, server) for entry in after) == 1
    assert after[:-1] == tuple(entry for entry in known if not trust.same_entry(entry, server))


def test_configure_trust_and_remove_trust() -> None:
    after = trust.trust(trust.remove((passive("ABC123"), passive("DEF456")), ["abc123 ", "unknown"]), "GHI789")
    assert after == (passive("DEF456"), passive("GHI789"))


def test_trusting_again_keeps_the_entry_that_polls() -> None:
    known = (passive("abc"), polling("ABC", "https://h:1"))
    assert trust.trust(known, "ABC") == (polling("ABC", "https://h:1"), passive("ABC"))


def test_server_comms_appends_a_polling_entry_to_a_listening_one() -> None:
    after = trust.make_polling((passive("ABC"),), "ABC", "https://h:10943", new_id=new_id)
    assert after == (passive("ABC"), polling("ABC", "https://h:10943", "poll://new/"))


def test_server_comms_from_polling_to_listening_keeps_both() -> None:
    known = (polling("ABC", "https://h:1"),)
    assert trust.make_listening(known, "ABC") == (*known, passive("ABC"))


def test_server_comms_takes_an_entry_without_a_style_in_its_place() -> None:
    known = (TrustedServer("A", NONE), TrustedServer("B", NONE))
    after = trust.make_polling(known, "A", "https://a:1", new_id=new_id)
    assert after == (polling("A", "https://a:1", "poll://new/"), TrustedServer("B", NONE))
    assert trust.make_listening(after, "B") == (after[0], passive("B"))


def test_server_comms_with_the_address_in_another_case_is_one_entry() -> None:
    known = trust.make_polling((), "A", "https://HOST:1", new_id=new_id)
    assert trust.make_polling(known, "A", "https://host:1/", new_id=new_id) == (
        polling("A", "https://host:1/", "poll://new/"),
    )


def test_a_second_address_of_a_server_shares_its_subscription() -> None:
    known = (polling("A", "https://one:1", "poll://mine/"),)
    after = trust.make_polling(known, "A", "https://two:1", new_id=new_id)
    assert after == (*known, polling("A", "https://two:1", "poll://mine/"))


@given(servers, thumbprints, st.sampled_from(["https://h:10943", "https://new:1"]))
def test_every_polling_entry_made_has_a_subscription(
    known: tuple[TrustedServer, ...], thumbprint: str, address: str
) -> None:
    made = [s for s in trust.make_polling(known, thumbprint, address) if trust.same_address(s.address, address)]
    assert any(s.style is ACTIVE and s.subscription_id for s in made)


def test_update_trust_changes_in_place_and_merges_what_became_equal() -> None:
    known = (polling("OLD", "https://h:1"), passive("other"), passive("old"), passive("NEW"))
    after = trust.update_trust(known, "Old", "NEW")
    assert after == (polling("NEW", "https://h:1"), passive("other"), passive("NEW"))


def test_keep_addresses() -> None:
    known = (passive("A"), polling("B", "https://h:10943"), polling("C", "https://other:1"))
    assert trust.keep_addresses(known, ["http://H:10943/"]) == (known[1],)
    assert trust.keep_addresses(known, []) == ()


def test_the_words_for_an_entry() -> None:
    assert [trust.kind_of(s) for s in (polling("A", "https://h"), passive("A"), TrustedServer("A", NONE))] == [
        "polling tentacle",
        "listening tentacle",
        "",
    ]


def test_a_new_subscription() -> None:
    made = {trust.new_subscription_id() for _ in range(50)}
    assert len(made) == 50
    assert all(re.fullmatch(r"poll://[b-hj-np-z2-9]{20}/", name) for name in made)


def test_the_list_of_the_original() -> None:
    text = json.dumps(
        [
            {"Thumbprint": "A", "CommunicationStyle": 1, "Address": None, "Squid": None, "SubscriptionId": None},
            {
                "thumbprint": "A",
                "CommunicationStyle": "tentacleactive",
                "Address": "https://h:1",
                "SubscriptionId": "poll://s/",
            },
            {"Thumbprint": "B", "Address": ""},
        ]
    )
    assert trust.parse_servers(text) == (passive("A"), polling("A", "https://h:1"), TrustedServer("B", NONE))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("{}", "must be a JSON array of objects"),
        ("[1]", "must be a JSON array of objects"),
        ('[{"Thumbprint": " "}]', "holds an entry without a Thumbprint"),
        ('[{"Thumbprint": 5}]', "holds an entry whose thumbprint is not a text"),
        ('[{"Thumbprint": "A", "CommunicationStyle": 99}]', "holds the CommunicationStyle 99, which is unknown"),
        ('[{"Thumbprint": "A", "CommunicationStyle": true}]', "holds the CommunicationStyle True, which is unknown"),
    ],
)
def test_a_list_that_cannot_be_used(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        trust.parse_servers(text)


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["Thumbprint", "CommunicationStyle", "Address"]), inner)
        ),
    ).map(json.dumps)
)
def test_any_text_is_a_list_or_a_settings_error(text: str) -> None:
    try:
        trust.parse_servers(text)
    except SettingsError as error:
        assert "\n" not in str(error)
