"""From what is known to HTML: the templates, and the files beside them.

Knows jinja2 and the two folders; must not know the API.  Whatever a template is given is escaped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tentacle.devserver.storage import Clock

_HERE: Final = Path(__file__).parent
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_STEPS: Final = ((60, "second"), (60, "minute"), (24, "hour"), (10**9, "day"))
_WORDS: Final = {
    "HasWarnings": "Has warnings",
    "TimedOut": "Timed out",
    "Unknown": "Not checked",
    "TentaclePassive": "Listening",
    "TentacleActive": "Polling",
    "Ssh": "SSH",
    "AdHocScript": "Script",
    "KubernetesTentacle": "Kubernetes",
    "Executing": "Running",
    "UpdateCalamari": "Calamari update",
}
"""What people call what the API has a name for; other names are words already."""


class Renderer:
    """Fills templates, by names without their ending."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters.update(ago=self.ago, word=lambda name: _WORDS.get(name, name))
        self._templates.globals["static"] = lambda name: f"/static/{name}?{self.version}"

    def render(self, template: str, **known: Any) -> str:
        return self._templates.get_template(f"{template}.html").render(known)

    def ago(self, written: str) -> str:
        """Returns how long ago a moment was, such as `3 minutes ago`."""
        count = max(0, int((self._clock() - datetime.fromisoformat(written)).total_seconds()))
        for most, unit in _STEPS:
            if count < most:
                return "just now" if unit == "second" else f"{count} {unit}{'s' if count != 1 else ''} ago"
            count //= most
        return written

    @cached_property
    def files(self) -> Mapping[str, tuple[bytes, str]]:
        """What browsers fetch beside the pages: by name, the content and its type."""
        found = sorted((_HERE / "static").iterdir())
        return {path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in found}

    @cached_property
    def version(self) -> str:
        """Changes with the files, which browsers keep."""
        return hashlib.sha256(b"".join(content for content, _ in self.files.values())).hexdigest()[:12]
