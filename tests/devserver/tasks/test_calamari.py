"""Variables as Calamari reads them, against `openssl`."""

from __future__ import annotations

import subprocess

import pytest

from tentacle.devserver.tasks.calamari import encrypt

IV = bytes(range(16))


@pytest.mark.parametrize("text", ["", "x", '[{"k":"a","v":"ümläut","s":true}]', "sixteen bytes ok"])
def test_variables_are_encrypted_as_openssl_does_it(text: str) -> None:
    """The vector is made anew by `openssl enc`, which derives the key by itself."""
    how = ["-aes-256-cbc", "-pbkdf2", "-md", "sha1", "-iter", "1000", "-S", b"Octopuss".hex(), "-iv", IV.hex()]
    command = ["openssl", "enc", *how, "-pass", "pass:a password"]
    made = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout
    assert encrypt(text, "a password", IV) == b"IV__" + IV + made


def test_no_two_files_are_the_same() -> None:
    assert encrypt("text", "password") != encrypt("text", "password")
