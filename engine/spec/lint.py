"""`engine catalog lint`: every catalogue entry against its own numbers, its name and the shipped entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from engine.errors import LocatedError
from engine.spec.catalog import KINDS, Kind, canonical_name, catalog_roots, files_below, packaged_root
from engine.spec.document import Document, read_document, validate
from engine.spec.hardware import Hardware
from engine.spec.lint_architectures import architecture_named
from engine.spec.lint_formats import lint_quantization
from engine.spec.lint_reference import differences, known_device
from engine.spec.lint_rules import DEVICE_RULES, Finding
from engine.spec.quantization import Quantization
from engine.spec.settings import Settings

__all__ = ["RULES", "Finding", "lint_catalogue", "lint_hardware", "lint_quantization"]

RULES: Final = frozenset(
    {
        "bandwidth", "binary-bandwidth", "differs", "fp32-clock", "link-rate", "matrix-rate", "name-memory",
        "one-peak-for-all", "precision", "range", "ratio-fp4-fp8", "ratio-fp8-bf16", "ratio-int8-bf16",
        "ratio-int8-fp16", "ridge", "scope", "source", "tensor-rate", "usable-memory", "zero",
    }
)  # fmt: skip
"""Every rule that a waiver may name."""


def lint_catalogue(search: Sequence[Path] = ()) -> list[Finding]:
    """Findings on every entry below the folders of `search` and on the shipped ones, in file order.

    An entry of the user's that has the name of a shipped device is compared with it.
    """
    found: list[Finding] = []
    for root in catalog_roots(search):
        for kind in KINDS:
            files = files_below(kind, root)
            entries = {name: _read(kind, path) for name, path in files.items()}
            for name, entry in entries.items():
                found += _lint_file(entry, name, shipped=root == packaged_root())
            found += _shared_names(kind, files, entries)
    return sorted(found, key=lambda one: (one.file or "", one.line or 0, one.rule, one.field))


def lint_hardware(device: Hardware, *, name: str = "", compare: bool = False) -> list[Finding]:
    """Findings on one device, waivers applied; `compare` holds it against the shipped device it claims to
    be, by its name, an alias or `name`, the name of its file."""
    claimed = known_device(device, name=name) if compare else None
    traits = architecture_named(device.architecture)
    if claimed is not None and device.architecture is None:
        traits = architecture_named(claimed[1].architecture)
    found = [finding for rule in DEVICE_RULES.values() for finding in rule(device, traits)]
    if claimed is not None:
        found += differences(device, *claimed)
    return _waived(device, found, compared=claimed is not None)


def _waived(device: Hardware, found: list[Finding], *, compared: bool) -> list[Finding]:
    """The findings no waiver covers, and the waivers that cover none."""
    fired = {finding.rule for finding in found}
    waived = {waiver.rule for waiver in device.waivers}
    left = [finding for finding in found if finding.rule not in waived]
    for index, waiver in enumerate(device.waivers):
        place = f"waivers.{index}.rule"
        if waiver.rule not in RULES:
            left.append(
                Finding(rule="unknown-rule", field=place, message=f"there is no rule `{waiver.rule}`")
            )
        elif waiver.rule not in fired and (compared or waiver.rule != "differs"):
            left.append(
                Finding(
                    rule="unneeded-waiver",
                    field=place,
                    message=f"nothing breaks the rule `{waiver.rule}`",
                    hint="delete the waiver, or it will hide the next mistake",
                )
            )
    return left


class _File:
    """One entry as read: its settings, or the problems that keep it from being one."""

    def __init__(self, path: Path, settings: Settings | None, document: Document | None) -> None:
        self.path = path
        self.settings = settings
        self.document = document
        self.problems: tuple[Finding, ...] = ()

    def located(self, finding: Finding) -> Finding:
        """The finding with the line of its field."""
        if self.document is None:
            return replace(finding, file=str(self.path))
        parts = tuple(int(part) if part.isdigit() else part for part in finding.field.split("."))
        line = self.document.origins.key(parts).line if finding.field else 1
        return replace(finding, file=str(self.path), line=line)


def _read(kind: Kind, path: Path) -> _File:
    document: Document | None = None
    try:
        document = read_document(path)
        return _File(path, validate(document, KINDS[kind].settings), document)
    except LocatedError as err:
        broken = _File(path, None, document)
        broken.problems = tuple(
            Finding(
                rule=problem.code,
                field=".".join(map(str, problem.path)),
                message=problem.message,
                hint=problem.hint,
                file=problem.file or str(path),
                line=problem.line,
            )
            for problem in err.problems
        )
        return broken


def _lint_file(entry: _File, name: str, *, shipped: bool) -> Iterator[Finding]:
    yield from entry.problems
    found: list[Finding] = []
    if isinstance(entry.settings, Hardware):
        found = lint_hardware(entry.settings, name=name, compare=not shipped)
    elif isinstance(entry.settings, Quantization):
        found = lint_quantization(entry.settings, name=name)
    if entry.path.stem != name:
        hint = f"rename it to `{name}{entry.path.suffix}`"
        message = "file names are lower case with dashes"
        found.append(Finding(rule="file-name", field="", message=message, severity="warning", hint=hint))
    yield from map(entry.located, found)


def _shared_names(kind: Kind, files: dict[str, Path], entries: dict[str, _File]) -> Iterator[Finding]:
    """Aliases that another entry of the same folder already has, as its name or as an alias."""
    owners = {name: name for name in files}
    for name, entry in entries.items():
        for index, alias in enumerate(getattr(entry.settings, "aliases", ())):
            owner = owners.setdefault(canonical_name(alias), name)
            if owner != name:
                message = f"`{alias}` already finds the {KINDS[kind].noun} `{owner}`"
                yield entry.located(Finding(rule="shared-name", field=f"aliases.{index}", message=message))
