"""What an HTTP proxy wants of whom it does not know (RFC 9110, 11.7.1).  Pure: a head in, advice out."""

from __future__ import annotations

import re

_OFFERS = re.compile(rb"^proxy-authenticate:[ \t]*([!-~][ -~]*)", re.IGNORECASE | re.MULTILINE)
_LONGEST = 40


def other_sign_in(head: bytes) -> str | None:
    """What to do about a proxy that does not take user name and password as they are; None where it does.

    `head` is that of its answer.  The original knows no other way than Basic either (halibut.md 7).
    """
    offers = [offer.decode("ascii") for offer in _OFFERS.findall(head)]
    if not offers or any(re.search(r"\bbasic\b", offer, re.IGNORECASE) for offer in offers):
        return None
    names = ", ".join(dict.fromkeys(offer.split(None, 1)[0].rstrip(",")[:_LONGEST] for offer in offers[:5]))
    return (
        f"The proxy offers {names}, and only Basic is known here: whoever runs it has to allow Basic, or a proxy on "
        "this machine that signs in to it, such as cntlm, has to stand in between."
    )
