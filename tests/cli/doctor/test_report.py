"""What `doctor` prints, to the letter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tentacle.cli.doctor.finding import Finding, Level, ReportSection, fail, ok, warn
from tentacle.cli.doctor.report import failed, report_document, report_text
from tentacle.cli.frame.style import Style

SECTIONS = (
    ReportSection("This machine", (ok("bash", "/bin/bash 5.2.15"),)),
    ReportSection("Nothing", ()),
    ReportSection(
        "Instance worker",
        (
            warn("agent", "it is not running", "tentacle agent --instance=worker"),
            fail(
                "listening",
                "port 10933 is taken by another program that has a long name (process 12)",
                "Stop that, or take another port: tentacle configure --port=10934 --instance=worker",
            ),
        ),
    ),
)
TEXT = """\
This machine
  ok    bash       /bin/bash 5.2.15

Instance worker
  warn  agent      it is not running
                   -> tentacle agent --instance=worker
  FAIL  listening  port 10933 is taken by another program that has a long name
                   (process 12)
                   -> Stop that, or take another port: tentacle configure
                      --port=10934 --instance=worker

1 failure and 1 warning; 1 ok.
"""


def test_findings_with_what_to_do_next() -> None:
    assert report_text(SECTIONS, Style()) == TEXT
    assert failed(SECTIONS)
    assert not failed(SECTIONS[:1])
    assert report_text(SECTIONS[:1], Style()).endswith("\nAll is well.\n")


def test_levels_have_their_colours_and_the_columns_stay() -> None:
    coloured = report_text(SECTIONS, Style(colour=True))
    assert "  \x1b[32mok\x1b[0m    bash " in coloured
    assert "  \x1b[1;31mFAIL\x1b[0m  listening " in coloured


def test_the_document_for_programs() -> None:
    document = report_document(SECTIONS)
    assert (document["Ok"], document["FailureCount"], document["WarningCount"]) == (False, 1, 1)
    assert document["Sections"][0]["Findings"] == [
        {"Check": "bash", "Level": "ok", "Found": "/bin/bash 5.2.15", "Advice": None}
    ]


@given(st.builds(Finding, st.text(max_size=9), st.sampled_from(Level), st.text(max_size=200), st.none() | st.text()))
def test_whatever_a_server_says_stays_on_its_line(finding: Finding) -> None:
    text = report_text([ReportSection("\x1b]0;x\x07", (finding,))], Style(fancy=True))
    assert all(line.isprintable() for line in text.split("\n"))
