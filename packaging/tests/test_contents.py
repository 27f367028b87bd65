"""What is in the packages: nothing that a linter calls an error, nothing that is too new, and all of it named."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest
from builder import elf
from conftest import DIST, ROOT
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.e2e.pages import pages

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def unpacked(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("deb")
    subprocess.run(["dpkg-deb", "--extract", deb, root], check=True)
    return root


def artefacts() -> list[Path]:
    return sorted(
        path for path in DIST.iterdir() if path.name.endswith((".whl", ".tar.gz", ".deb", ".rpm", ".oci.tar"))
    )


def test_lintian_finds_no_error(deb: Path) -> None:
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on=error", deb], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_rpmlint_finds_no_error(rpm: Path) -> None:
    # The one of Debian's packages: it needs rpm's own module.
    rpmlint: list[str | Path] = ["/usr/bin/rpmlint", "--rpmlintrc", ROOT / "packaging/files/rpmlintrc", rpm]
    done = subprocess.run(rpmlint, capture_output=True, text=True, check=False)
    assert " 0 errors" in done.stdout, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if ": E: " in line] == []


@pytest.mark.parametrize("path", sorted(DIST.glob("*.deb")), ids=lambda path: path.name)
def test_nothing_needs_a_newer_c_library_than_is_promised(path: Path, tmp_path: Path) -> None:
    """Of every architecture that there is a package for."""
    unpacked = tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "--extract", path, unpacked], check=True)
    place = unpacked / "usr/lib/tentacle"
    binaries = [path for path in place.rglob("*") if path.is_file() and elf.is_elf(path)]
    assert len(binaries) > 40
    needed = {need.version for path in binaries for need in elf.needs(path.read_bytes())}
    assert max(map(elf.number, needed)) == elf.FLOOR
    for binary in binaries:
        wanted = subprocess.run(["readelf", "-dW", binary], capture_output=True, text=True, check=True).stdout
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", wanted):
            own = (place / "lib" / name).exists()
            assert own or re.match(r"(libc|libm|libpthread|libdl|librt|libutil|libgcc_s|ld-linux-.*)\.so", name), (
                binary,
                name,
            )
            assert not own or "(RPATH)" in wanted, f"{binary} finds {name} by LD_LIBRARY_PATH first"


def test_deb_and_rpm_hold_the_same_files(unpacked: Path, rpm: Path) -> None:
    listed = subprocess.run(["rpm", "-qlp", rpm], capture_output=True, text=True, check=True).stdout.split("\n")
    of_rpm = {name.replace("/site-functions/", "/vendor-completions/") for name in listed if name}
    of_deb = {f"/{path.relative_to(unpacked)}" for path in unpacked.rglob("*") if path.is_symlink() or path.is_file()}
    assert of_deb <= of_rpm
    assert not [name for name in of_rpm - of_deb if not (unpacked / name.lstrip("/")).is_dir()]


@pytest.mark.parametrize("path", artefacts(), ids=lambda path: path.name)
def test_the_bill_of_materials_is_valid_and_names_the_artefact(path: Path) -> None:
    text = path.with_name(f"{path.name}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    (digest,) = document["metadata"]["component"]["hashes"]
    assert digest == {"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert all(one["licenses"] for one in document["components"])
    assert not [one["name"] for one in document["components"] if "none stated" in json.dumps(one)]


def test_the_licence_of_every_part_is_in_the_package(unpacked: Path, deb: Path) -> None:
    parts = json.loads(deb.with_name(f"{deb.name}.cdx.json").read_text())["components"]
    documents = unpacked / "usr/share/doc/tentacle-agent"
    listed = (documents / "copyright").read_text()
    for part in parts:
        assert (documents / "licenses" / part["name"]).stat().st_size > 100, part["name"]
        assert f"\n{part['name']} {part['version']}: " in listed
    modules = {path.name.partition("-")[0].lower() for path in unpacked.rglob("*.dist-info")} - {"tentacle"}
    assert modules <= {part["name"].replace("-", "_") for part in parts} | {part["name"] for part in parts}


def test_a_page_is_there_with_what_it_leads_to(unpacked: Path) -> None:
    documents = unpacked / "usr/share/doc/tentacle-agent"
    packed = [documents / page for page in pages()]
    assert len(packed) > 15
    for page in packed:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} leads to {target}"
        for named in re.findall(r"`(packaging/(?:examples|monitoring)/[^`\s]*)`", page.read_text()):
            assert (documents / named).exists(), f"{page.name} names {named}"


def test_every_shell_can_read_what_completes_it(unpacked: Path) -> None:
    share = unpacked / "usr/share"
    for shell, path in (
        ("bash", "bash-completion/completions/tentacle"),
        ("zsh", "zsh/vendor-completions/_tentacle"),
        ("fish", "fish/vendor_completions.d/tentacle.fish"),
    ):
        subprocess.run([shell, "-n", share / path], check=True)
