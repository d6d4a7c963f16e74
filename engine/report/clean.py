"""Text from outside made fit to print: no control characters, no hidden direction marks, no secrets.

Specs, logs and servers write into results. Escaping for HTML or Excel is each writer's own business; what
must not appear in any of them is taken out here, once, where a text enters the view.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

REMOVED: Final = "[secret removed]"
_LONGEST: Final = 200_000
"""Characters of one text; a spec or a message beyond that is cut with a note."""

# C0 and C1 without tab and line feed, surrogates and non-characters: invalid in XML or alive in terminals.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)?|[@-Z\\-_])")
# Marks that reorder or hide text ("Trojan source", CVE-2021-42574), shown as what they are.
_BIDI: Final = re.compile("[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")

_SECRETS: Final = (
    re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{12,}"),
    re.compile(r"\bhf_[A-Za-z0-9]{12,}"),
    re.compile(r"\b(?:ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abprs])[_-][A-Za-z0-9_-]{10,}"),
    re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    re.compile(
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.{0,8000}?-----END [A-Z ]{0,40}PRIVATE KEY-----", re.S
    ),
)
_AFTER: Final = (
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(://[^\s/:@]{0,200}:)[^\s/@]{1,200}(?=@)"),
    re.compile(
        r"(?i)((?:api[_-]?key|access[_-]?key|secret(?:[_-]?key)?|password|passwd|(?:auth|access|refresh|hf)"
        r"[_-]?token)[\"']?\s{0,4}[=:]\s{0,4}[\"']?)(?!\[secret)[^\s\"',;&}]{4,}"
    ),
)


def clean_text(text: object) -> str:
    """The text without control characters and secrets; direction marks are spelled out."""
    plain = str(text)
    if len(plain) > _LONGEST:
        plain = plain[:_LONGEST] + f"\n[{len(plain) - _LONGEST:,} more characters]"
    plain = _ANSI.sub("", plain.replace("\r\n", "\n"))
    plain = _CONTROL.sub("", plain)
    plain = _BIDI.sub(lambda mark: f"[U+{ord(mark.group()):04X}]", plain)
    return without_secrets(plain)


def without_secrets(text: str) -> str:
    """The text with what looks like a key, a token or a password replaced."""
    for pattern in _SECRETS:
        text = pattern.sub(REMOVED, text)
    for pattern in _AFTER:
        text = pattern.sub(lambda match: match.group(1) + REMOVED, text)
    return text


# Names under which an environment tells who and where somebody is.
_IDENTIFYING: Final = re.compile(
    r"(?i)(host|node(?!s)|user|login|home|cwd|folder|path|uuid|serial|address|\bip\b|\bmac\b|mac_addr|pci_bus|bus_id|email|argv"
    r"|domain|container|machine_id|boot_id)"
)
_LOCAL_PATH: Final = re.compile(
    r"(?<![\w.])(?:/(?:home|Users|root|mnt|data|scratch|work|srv|tmp)|[A-Za-z]:\\)[^\s'\"]*"
)
_UUID: Final = re.compile(
    r"(?i)\b(?:GPU-|MIG-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
)
_IP: Final = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b(?!\.)")


class Redactor:
    """Cleans texts; with `share` also replaces what identifies a host or a person."""

    def __init__(self, *, share: bool, known: Mapping[str, str] | None = None) -> None:
        self.share = share
        values = {value for value in (known or {}).values() if len(value) >= 3}
        self._known = (
            re.compile("|".join(re.escape(v) for v in sorted(values, key=len, reverse=True)))
            if values and share
            else None
        )

    def text(self, value: object) -> str:
        """The text as it may be printed."""
        plain = clean_text(value)
        if not self.share:
            return plain
        plain = _IP.sub("[address]", _UUID.sub("[id]", _LOCAL_PATH.sub("[path]", plain)))
        return self._known.sub("[left out]", plain) if self._known is not None else plain

    def entry(self, name: str, value: object) -> str:
        """A named value; in a shared report names such as `hostname` keep only a short hash of it."""
        if self.share and _IDENTIFYING.search(name) and str(value):
            return "left out (#" + hashlib.sha256(str(value).encode("utf-8", "replace")).hexdigest()[:8] + ")"
        return self.text(value)


def identifying_values(environment: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Every value of an environment whose name says that it identifies a host or a person."""
    found: dict[str, str] = {}
    for name, value in environment.items():
        path = f"{prefix}{name}"
        if isinstance(value, list):
            value = {str(i): item for i, item in enumerate(value)}
        if isinstance(value, Mapping):
            found.update(identifying_values(value, f"{path}."))
        elif isinstance(value, str) and _IDENTIFYING.search(str(name)):
            found[path] = value
    return found


_KEPT: Final = frozenset({"token_times_s"})
"""Long machine-made columns that no report shows."""


def clean_tables(tables: Mapping[str, pa.Table], redact: Redactor) -> dict[str, pa.Table]:
    """The tables with every text cleaned; each distinct text once, so a million rows cost little."""
    return {name: _clean_table(table, redact) for name, table in tables.items()}


def _clean_table(table: pa.Table, redact: Redactor) -> pa.Table:
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        labels = pa.types.is_dictionary(field.type)
        if field.name in _KEPT or not (labels or pa.types.is_string(field.type)):
            continue
        encoded = table[field.name] if labels else table[field.name].dictionary_encode()
        whole = encoded.unify_dictionaries().combine_chunks()
        parts = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
        cleaned = [_clean_labels(part, field.name, redact) for part in parts]
        if all(new is old for new, old in zip(cleaned, parts, strict=True)):
            continue
        column = pa.chunked_array(cleaned, type=cleaned[0].type) if cleaned else encoded
        table = table.set_column(i, field.name, column if labels else column.cast(pa.string()))
    return table


def _clean_labels(part: Any, name: str, redact: Redactor) -> Any:
    import pyarrow as pa

    known = part.dictionary.to_pylist()
    # A device column names a serial number or an id, which `entry` hides in shared reports.
    clean = [
        None if t is None else redact.entry("device uuid", t) if name == "device" else redact.text(t)
        for t in known
    ]
    if clean == known:
        return part
    distinct = {text: i for i, text in enumerate(dict.fromkeys(clean))}
    places = pa.array([distinct[text] for text in clean], pa.int32())
    return pa.DictionaryArray.from_arrays(places.take(part.indices), pa.array(list(distinct), pa.string()))
