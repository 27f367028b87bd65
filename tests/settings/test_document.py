"""The YAML of a configuration: what is written is read, what is unknown stays, what is wrong is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tentacle.sealing import PREFIX, Sealer
from tentacle.settings import certificates, document
from tentacle.settings.errors import ConfigurationError
from tentacle.settings.model import CommunicationStyle, ProxySettings, Settings, TrustedServer
from tentacle.settings.scripts import SANDBOXES, ScriptSettings
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.thumbprints import clean_thumbprint

SOURCE = Path("/c.config")
SEALER = Sealer(bytes(32))

texts = st.text(min_size=1).filter(lambda text: bool(text.strip()) and "\0" not in text)
optional_texts = st.none() | texts
paths = texts.map(Path).filter(lambda path: bool(str(path).strip()))
numbers = st.integers(-(2**31), 2**31 - 1)
thumbprints = texts.filter(clean_thumbprint)
servers = st.builds(TrustedServer, thumbprints, st.sampled_from(CommunicationStyle), optional_texts, optional_texts)
proxies = st.builds(ProxySettings, st.booleans(), optional_texts, numbers, optional_texts, optional_texts)
script_settings = st.builds(
    ScriptSettings,
    sandbox=st.sampled_from(SANDBOXES),
    memory_limit=st.none() | st.integers(4 * 1024**2, 2**40),
    cpu_limit=st.none() | st.integers(1, 100_000).map(lambda hundredths: hundredths / 100),
    task_limit=st.none() | st.integers(8, 4194304),
    uid_range=st.tuples(st.integers(1000, 60000), st.integers(60000, 2**31 - 2)),
)
all_settings = st.builds(
    Settings,
    home=st.none() | paths,
    application_directory=paths,
    port=numbers,
    listen_ip=optional_texts,
    no_listen=st.booleans(),
    servers=st.lists(servers, max_size=3).map(tuple),
    polling_connection_count=st.none() | numbers,
    proxy=proxies,
    polling_proxy=proxies,
    scripts=script_settings,
)


@pytest.fixture(scope="module")
def identity() -> StoredCertificate:
    return certificates.generate()


def read(text: str) -> Settings:
    return document.to_settings(document.parse(text, SOURCE), SEALER.unseal)


def write(values: Settings, previous: str = "") -> str:
    return document.render(values, document.parse(previous, SOURCE), SEALER.seal)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(all_settings)
def test_what_is_written_is_read(values: Settings) -> None:
    text = write(values)
    assert read(text.encode("utf-8").decode("utf-8")) == values
    assert read(write(values, text)) == values


def test_a_certificate_is_written_sealed_and_read(identity: StoredCertificate) -> None:
    text = write(Settings(certificate=identity))
    assert "PRIVATE KEY" not in text
    assert identity.certificate_pem.decode().splitlines()[1] in text
    assert read(text).certificate == identity
    assert read(write(Settings(), text)).certificate is None


def test_the_text_of_a_new_instance() -> None:
    assert write(Settings(home=Path("/h"))).removeprefix(document.HEADER) == (
        "format: 1\nhome: /h\napplication-directory: /home/Octopus/Applications\nport: 10933\nno-listen: false\n"
    )


def test_any_other_yaml_reader_reads_it(identity: StoredCertificate) -> None:
    values = Settings(servers=(TrustedServer("123", CommunicationStyle.TENTACLE_ACTIVE, "https://h:1", "poll://s/"),))
    plain = yaml.safe_load(write(values))
    assert plain["trusted-servers"] == [
        {"thumbprint": "123", "style": "TentacleActive", "address": "https://h:1", "subscription-id": "poll://s/"}
    ]


def test_what_is_unknown_stays() -> None:
    text = (
        "later: [1, {a: b}]\nport: 1\nproxy: {port: 80, note: kept}\n7: seven\n"
        "trusted-servers:\n- {thumbprint: abc, owner: ops, style: 1}\n- {thumbprint: gone, owner: nobody}\n"
    )
    values = Settings(port=2, servers=(TrustedServer("ABC", CommunicationStyle.TENTACLE_PASSIVE),))
    written = yaml.safe_load(write(values, text))
    assert written["later"] == [1, {"a": "b"}]
    assert written[7] == "seven"
    assert written["port"] == 2
    assert written["proxy"] == {"note": "kept"}
    assert written["trusted-servers"] == [{"thumbprint": "ABC", "style": "TentaclePassive", "owner": "ops"}]


def test_what_is_unknown_and_there_twice_is_written_out() -> None:
    text = "trusted-servers:\n- {thumbprint: A, tags: [x]}\n"
    twice = Settings(servers=(TrustedServer("A", CommunicationStyle.NONE),) * 2)
    assert len(read(write(twice, text)).servers) == 2


def test_a_person_may_write_secrets_in_plain_text_and_leave_things_out(identity: StoredCertificate) -> None:
    def block(pem: bytes) -> str:
        return "".join(f"    {line}\n" for line in pem.decode().splitlines())

    text = (
        f"certificate:\n  certificate: |\n{block(identity.certificate_pem)}  private-key: |\n{block(identity.key_pem)}"
        "polling-proxy:\n  password: hunter2\nlisten-ip:\n"
        "trusted-servers:\n- thumbprint: ABC\n  style: tentaclepassive\n"
    )
    values = read(text)
    assert values.certificate == identity
    assert values.polling_proxy == ProxySettings(password="hunter2")
    assert values.listen_ip is None
    assert values.servers == (TrustedServer("ABC", CommunicationStyle.TENTACLE_PASSIVE),)
    assert not document.holds_sealed(document.parse(text, SOURCE))
    assert "hunter2" not in write(values, text)
    assert document.holds_sealed(document.parse(write(values, text), SOURCE))


def test_a_path_that_is_not_utf_8_is_written_and_read() -> None:
    values = Settings(home=Path("/caf\udce9"))
    assert read(write(values)) == values


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n"])
def test_an_empty_document_is_defaults(text: str) -> None:
    assert read(text) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port: ten\n", "'/c.config', line 1, is wrong: port must be a whole number, not 'ten'."),
        ("\nport: true\n", "line 2, is wrong: port must be a whole number, not True."),
        ("no-listen: 1\n", "line 1, is wrong: no-listen must be true or false, not 1."),
        ("home: [a]\n", "line 1, is wrong: home must be a text."),
        ('home: "a\\0b"\n', "line 1, is wrong: home holds a character that no path, argument or variable can hold."),
        ('proxy:\n  password: "\\ud800"\n', "line 2, is wrong: proxy.password holds a character that no "),
        ("proxy: no\n", "line 1, is wrong: proxy must hold keys with values."),
        ("proxy:\n  host: h\n  port: x\n", "line 3, is wrong: proxy.port must be a whole number, not 'x'."),
        ("proxy:\n  password: 12345\n", "line 2, is wrong: proxy.password must be a text."),
        ("trusted-servers: x\n", "line 1, is wrong: trusted-servers must be a list."),
        ("trusted-servers:\n- x\n", "line 2, is wrong: trusted-servers[0] must hold keys with values."),
        ("trusted-servers:\n- style: 1\n", "is wrong: trusted-servers[0].thumbprint must not be blank."),
        (
            "trusted-servers:\n- thumbprint: A\n- thumbprint: B\n  style: Passive\n",
            "line 4, is wrong: trusted-servers[1].style must be TentaclePassive or TentacleActive, not 'Passive'.",
        ),
        ("trusted-servers:\n- thumbprint: 1234\n", "line 2, is wrong: trusted-servers[0].thumbprint must be a text."),
        ("certificate:\n  thumbprint: A\n  certificate: x\n", "is wrong: certificate.private-key is missing."),
        (
            "certificate:\n  certificate: x\n  private-key: y\n",
            "line 2, is wrong: certificate.certificate cannot be used",
        ),
        ("format: 2\n", "line 1, is wrong: format is 2, and this version knows up to 1."),
        ("port: 1\nport: 2\n", "line 2 is not valid YAML: the key 'port' is there twice."),
        ("a: &x 1\nb: *x\n", "line 2 is not valid YAML: references (*name) are not supported."),
        ("port: [1\n", "line 2 is not valid YAML: "),
        ("- a\n", "is not valid YAML: it must hold keys with values."),
        ("text\n", "is not valid YAML: it must hold keys with values."),
        ("a: 1\n---\nb: 2\n", "is not valid YAML: "),
        ("a: !!python/object:os.system x\n", "line 1 is not valid YAML: "),
        ("a: !!int ''\n", "is not valid YAML: "),
        ("a: 2024-99-99\n", "is not valid YAML: "),
        ("a: " + "9" * 5000, "is not valid YAML: "),
        ("a: " + "[" * 5_000, "is not valid YAML: it is nested too deeply."),
        ("a: \x07\n", "is not valid YAML: "),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)) as caught:
        read(text)
    assert "\n" not in str(caught.value)
    assert caught.value.hint, "what to do next"


@pytest.mark.parametrize("key", ["proxy.password", "certificate.private-key"])
def test_a_secret_that_cannot_be_unsealed_is_named_and_not_shown(key: str, identity: StoredCertificate) -> None:
    section, name = key.split(".")
    foreign = Sealer(b"x" * 32).seal(key, "hunter2")
    text = f"{section}:\n  certificate: x\n  {name}: {foreign}\n"
    with pytest.raises(ConfigurationError, match=f"line 3, is wrong: {key} cannot be unsealed") as caught:
        read(text)
    assert PREFIX not in str(caught.value)


def test_a_thumbprint_that_is_not_the_certificate_s(identity: StoredCertificate) -> None:
    text = write(Settings(certificate=identity)).replace(identity.thumbprint, "F" * 40)
    with pytest.raises(ConfigurationError, match=f"is not that of the certificate, which is {identity.thumbprint}"):
        read(text)


@given(
    st.text()
    | st.lists(
        st.sampled_from(
            [
                "port",
                "proxy",
                "trusted-servers",
                ": ",
                "\n",
                "  ",
                "- ",
                "{",
                "}",
                "[",
                "]",
                "x",
                "'",
                '"',
                "!!int ",
                "!!bool ",
                "!!timestamp ",
                "<<",
                "&a ",
                "*a",
                "? ",
                "| ",
                "%",
                "\t",
                "0x",
                "1:2",
            ]
        )
    ).map("".join)
)
def test_any_text_is_settings_or_a_configuration_error(text: str) -> None:
    try:
        read(text)
    except ConfigurationError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("script-isolation: docker", "script-isolation must be none, private or user"),
        ("script-memory-limit: 1", "script-memory-limit must be a size from 4M"),
        ("script-cpu-limit: true", "script-cpu-limit must be a number of processors"),
        ("script-task-limit: [1]", "script-task-limit must be a number from 8"),
        ("script-uid-range: 0-5", "script-uid-range must be two numbers from 1000 on"),
    ],
)
def test_wrong_settings_of_scripts_are_named(line: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=f"line 2, is wrong: {problem}"):
        read(f"format: 1\n{line}\n")


def test_settings_of_scripts_may_be_numbers_and_are_written_only_when_they_say_something() -> None:
    found = read("script-memory-limit: 1073741824\nscript-cpu-limit: 1.5\nscript-task-limit: 100\n").scripts
    assert found == ScriptSettings(memory_limit=1024**3, cpu_limit=1.5, task_limit=100)
    text = write(Settings(scripts=found))
    assert "script-memory-limit: 1G\n" in text
    assert "script-isolation" not in text
