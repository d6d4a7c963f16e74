"""Devices, models and number formats by name: the user's own folders first, then what ships.

A name is looked up as a file name before any file is opened, so a spec that names six devices reads six
files. Aliases stand inside the files; a search for one reads texts and parses only those that mention it.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

from pydantic import ValidationError

import engine
from engine.errors import CatalogError, LocatedError, Problem
from engine.spec.document import read_document, validate
from engine.spec.hardware import Hardware
from engine.spec.model import MODEL_SUFFIXES, Model
from engine.spec.quantization import Quantization
from engine.spec.remembered import recall, remember
from engine.spec.settings import Settings

if TYPE_CHECKING:
    from engine.spec.calibration import Calibration

__all__ = [
    "KINDS",
    "Entry",
    "Kind",
    "canonical_name",
    "catalog_files",
    "catalog_roots",
    "content_digest",
    "entries",
    "files_below",
    "find",
    "load",
    "load_calibrations",
    "load_hardware",
    "load_model",
    "load_quantization",
    "nearest_set",
    "packaged_root",
    "parsed_file",
]

Kind = Literal["hardware", "model", "quantization", "calibration"]


@dataclass(frozen=True, slots=True)
class _Section:
    """Where one kind of entry lies below a root, and what it is called."""

    noun: str
    place: tuple[str, str]
    """Module and name of the settings class; parameter sets are rarely needed and take long to load."""
    folders: tuple[str, ...]
    """Relative to a root, first one first; the first is where entries ship."""

    @property
    def settings(self) -> type[Settings]:
        """The class an entry is validated with."""
        module, name = self.place
        return cast("type[Settings]", getattr(importlib.import_module(module), name))


KINDS: Final[dict[Kind, _Section]] = {
    "hardware": _Section("device", ("engine.spec.hardware", "Hardware"), ("hardware",)),
    "model": _Section("model", ("engine.spec.model", "Model"), ("specs/models", "models")),
    "quantization": _Section(
        "number format", ("engine.spec.quantization", "Quantization"), ("specs/quantization", "quantization")
    ),
    "calibration": _Section(
        "parameter set", ("engine.spec.calibration", "Calibration"), ("hardware/calibrations", "calibrations")
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of `engine catalog list`."""

    kind: Kind
    name: str
    """What to write in a spec."""
    aliases: tuple[str, ...]
    """Other names that find the same entry."""
    title: str
    """What reports call it."""
    summary: str
    """The numbers one chooses by; what is wrong with the file when it cannot be read."""
    path: Path
    shipped: bool
    """False for a file of the user's own."""
    readable: bool
    """False when the file is not a valid entry; `engine catalog lint` says why."""


_SUFFIXES: Final = frozenset({".yaml", ".yml"})
_LONGEST_NAME: Final = 200
_SHOWN: Final = 4
_AS_LIKELY: Final = 0.05
# Good enough for suggestions; a look-up parses the file.
_OTHER_NAMES: Final = re.compile(r"^(?:aliases: *\[(.*?)\]|hub_id: *(\S+))", re.MULTILINE | re.DOTALL)


def load_hardware(name: str, *, search: Sequence[Path] = ()) -> Hardware:
    """The device of this name or alias; raises `CatalogError` with suggestions when there is none."""
    return cast("Hardware", load("hardware", name, search=search))


def load_calibrations(
    devices: Sequence[Hardware], *, names: Sequence[str] = (), search: Sequence[Path] = ()
) -> dict[str, Calibration]:
    """The parameter sets by name that these devices may use: their own; those of their vendor where a device
    has none, or none with attention; and those named. A user's own set hides a shipped one of its name."""
    files = catalog_files("calibration", search=search)
    texts = {name: path.read_text(encoding="utf-8", errors="replace") for name, path in files.items()}
    # Parsing takes 50 ms a file: what cannot matter is told by its text.
    wanted = {canonical_name(name) for name in names}
    for device in devices:
        own = {name for name, text in texts.items() if _says(text, "device_name", device.name)}
        wanted |= own
        if not _has_attention([texts[name] for name in own]):
            wanted |= {name for name, text in texts.items() if _says(text, "vendor", device.vendor)}
    return {
        name: cast("Calibration", parsed_file("calibration", path))
        for name, path in files.items()
        if name in wanted
    }


def nearest_set(wanted: str, known: Iterable[str]) -> str | None:
    """The known name that a wrong one was meant to be; None when nothing comes near."""
    close = difflib.get_close_matches(wanted, [*known, "auto", "none"], n=5, cutoff=0.5)
    # Names start with the device: one of another device is not meant, however short the rest is.
    return max(close, key=lambda name: _shared_start(name, wanted), default=None)


def _shared_start(one: str, other: str) -> int:
    """How many letters two names begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _has_attention(texts: Sequence[str]) -> bool:
    kinds = ("prefill_attention", "decode_attention")
    return all(any(_says(text, "operator", kind) for text in texts) for kind in kinds)


def _says(text: str, key: str, value: str) -> bool:
    """Whether a YAML text has this value at this key, in any of the ways of quoting it."""
    return any(f"{key}: {quote}{value}{quote}\n" in text for quote in ("", "'", '"'))


def load_quantization(name: str, *, search: Sequence[Path] = ()) -> Quantization:
    """The number format of this name or alias; raises `CatalogError` with suggestions."""
    return cast("Quantization", load("quantization", name, search=search))


def load_model(name: str, *, search: Sequence[Path] = ()) -> Model:
    """The model of this name or alias, or the one in a local file: our YAML, a `config.json` or its folder.

    A path is relative to the first folder of `search` that has it, then to the working directory.
    """
    config = _config_file(name, search)
    if config is None:
        return cast("Model", load("model", name, search=search))
    from engine.spec.model_file import read_model_file  # most specs name a catalogue entry

    return read_model_file(config)


def model_source(name: str, *, search: Sequence[Path] = ()) -> Path:
    """The file that `load_model` reads for this name."""
    return _config_file(name, search) or find("model", name, search=search)


def load(kind: Kind, name: str, *, search: Sequence[Path] = ()) -> Settings:
    """The catalogue entry of a kind by name or alias, parsed once per process."""
    path = find(kind, name, search=search)
    state = path.stat()
    return _parsed(kind, path, state.st_mtime_ns, state.st_size)


def find(kind: Kind, name: str, *, search: Sequence[Path] = ()) -> Path:
    """The file of an entry; names compare without case, and `_` or a space is a `-`."""
    wanted = canonical_name(name)
    if not wanted or len(name) > _LONGEST_NAME or (kind != "model" and re.search(r"[/\\]|\.\.", name)):
        raise _bad_name(kind, name)
    for root in catalog_roots(search):
        files = files_below(kind, root)
        found = files.get(wanted) or _by_alias(kind, wanted, files)
        if found is not None:
            return _inside(kind, found, root)
    raise _unknown(kind, name, search)


def catalog_files(kind: Kind, *, search: Sequence[Path] = ()) -> dict[str, Path]:
    """Name -> file of every entry of a kind, sorted; a user's own file hides a shipped one."""
    found: dict[str, Path] = {}
    for root in catalog_roots(search):
        for name, path in files_below(kind, root).items():
            found.setdefault(name, path)
    return dict(sorted(found.items()))


def entries(kind: Kind, *, search: Sequence[Path] = ()) -> list[Entry]:
    """Every entry of a kind with the numbers one chooses by, sorted by name."""
    return [_entry(kind, name, path) for name, path in catalog_files(kind, search=search).items()]


def _entry(kind: Kind, name: str, path: Path) -> Entry:
    shipped = path.is_relative_to(packaged_root())
    try:
        settings = parsed_file(kind, path)
    except (LocatedError, OSError) as err:
        return Entry(
            kind=kind, name=name, aliases=(), title=name, summary=str(err), path=path, shipped=shipped,
            readable=False,
        )  # fmt: skip
    return Entry(
        kind=kind,
        name=name,
        aliases=tuple(getattr(settings, "aliases", ())),
        title=str(getattr(settings, "name", None) or name),
        summary=_summary(settings),
        path=path,
        shipped=shipped,
        readable=True,
    )


def _summary(settings: Settings) -> str:
    from engine.spec.summary import summary_of  # knows every kind of entry

    return summary_of(settings)


def canonical_name(name: str) -> str:
    """The spelling under which names are compared: `H100_SXM` is `h100-sxm`."""
    return re.sub(r"[\s_]+", "-", name.strip()).lower()


def content_digest(path: Path) -> str:
    """SHA-256 of an entry's file, in hexadecimal: which edition of the catalogue a run used."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def packaged_root() -> Path:
    """The folder that holds the shipped catalogue: the repository in a checkout, package data in a wheel."""
    package = Path(engine.__file__).resolve().parent
    data = package / "_data"
    return data if data.is_dir() else package.parent


def parsed_file(kind: Kind, path: Path) -> Settings:
    """The entry in this very file, parsed once per process; raises `CatalogError` with located problems."""
    state = path.stat()
    return _parsed(kind, path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1024)
def _parsed(kind: Kind, path: Path, _modified_ns: int, _size: int) -> Settings:
    data = path.read_bytes()
    values = recall(data)
    if values is not None:
        with contextlib.suppress(ValidationError):  # of an older shape: read again below, with places
            return KINDS[kind].settings.model_validate(values)
    try:
        document = read_document(path, data=data)
        entry = validate(document, KINDS[kind].settings)
    except LocatedError as err:
        raise CatalogError(err.problems, hint=err.hint) from err
    if len(document.files) == 1:  # an include is not part of these bytes
        remember(data, document.values)
    return entry


def catalog_roots(search: Sequence[Path] = ()) -> list[Path]:
    """The folders that are searched, the shipped catalogue last, each once."""
    return list(dict.fromkeys([*(path.resolve() for path in search), packaged_root()]))


def files_below(kind: Kind, root: Path) -> dict[str, Path]:
    """Name -> file below one root; only what lies directly in the folder counts."""
    found: dict[str, Path] = {}
    for folder in KINDS[kind].folders:
        try:
            paths = sorted((root / folder).iterdir())
        except OSError:
            continue  # most roots hold some of the folders only
        for path in paths:
            if path.suffix in _SUFFIXES:
                found.setdefault(canonical_name(path.stem), path)
    return found


def _by_alias(kind: Kind, wanted: str, files: dict[str, Path]) -> Path | None:
    for path in files.values():
        if wanted in _flat_text(path) and wanted in _aliases(parsed_file(kind, path)):
            return path
    return None


def _flat_text(path: Path) -> str:
    try:
        return canonical_name(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""  # said where somebody asks for this very file


def _aliases(entry: Settings) -> set[str]:
    own = {canonical_name(alias) for alias in getattr(entry, "aliases", ())}
    hub_id = getattr(entry, "hub_id", None)
    return own | ({canonical_name(hub_id)} if hub_id else set())


def _inside(kind: Kind, path: Path, root: Path) -> Path:
    """The path, unless a link leads out of the folder that was searched."""
    if path.resolve().is_relative_to(root.resolve()):
        return path
    message = f"{KINDS[kind].noun} file `{path.name}` is a link that leads out of `{root}`"
    raise CatalogError([Problem(code="outside", message=message, hint="copy the file instead")])


def _config_file(name: str, search: Sequence[Path]) -> Path | None:
    """The model file a name points to, when it is a path rather than a name."""
    looks_like_path = name.endswith(tuple(MODEL_SUFFIXES)) or name.startswith((".", "/", "~"))
    for base in (*search, Path()):
        for path in (base / name, base / name / "config.json"):
            if path.suffix in MODEL_SUFFIXES and _is_file(path):
                return path
    if looks_like_path:
        hint = "paths are relative to the spec"
        raise CatalogError(
            [Problem(code="no-file", message=f"there is no model file at `{name}`", hint=hint)]
        )
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False  # a name too long for the file system, or with a null character


def _bad_name(kind: Kind, name: str) -> CatalogError:
    shown = name if len(name) <= 60 else f"{name[:57]}..."
    hint = f"put a file of your own into `{KINDS[kind].folders[0]}/` beside the spec and name it"
    message = f"`{shown}` is not the name of a {KINDS[kind].noun}"
    return CatalogError([Problem(code="bad-name", message=message, hint=hint)])


def _unknown(kind: Kind, name: str, search: Sequence[Path]) -> CatalogError:
    section = KINDS[kind]
    places = [_shown_root(root, section) for root in catalog_roots(search) if files_below(kind, root)]
    hint = _suggestion(kind, canonical_name(name), search)
    looked = f"looked in {', '.join(places) or 'no folder'}"
    problem = Problem(
        code=f"unknown-{kind}",
        message=f"there is no {section.noun} `{name}`",
        hint=f"{hint}; {looked}" if hint else f"{looked}; `engine catalog list` shows all",
    )
    return CatalogError([problem], hint=hint)


def _shown_root(root: Path, section: _Section) -> str:
    return "the shipped catalogue" if root == packaged_root() else f"`{root / section.folders[0]}`"


def _suggestion(kind: Kind, wanted: str, search: Sequence[Path]) -> str | None:
    names: dict[str, str] = {}
    for name, known in _known_names(kind, search):
        names.setdefault(known, name)
    family = sorted({name for known, name in names.items() if known.startswith(f"{wanted}-")})
    if len(family) > 1:
        more = ", ..." if len(family) > _SHOWN else ""
        listed = ", ".join(f"`{name}`" for name in family[:_SHOWN])
        return f"`{wanted}` is several: {listed}{more}"
    close = difflib.get_close_matches(wanted, names, n=_SHOWN, cutoff=0.6)
    best = difflib.SequenceMatcher(a=wanted, b=close[0]).ratio() if close else 0.0
    # A second one only when it is as likely; the third of four similar names helps nobody.
    near = (
        known for known in close if difflib.SequenceMatcher(a=wanted, b=known).ratio() > best - _AS_LIKELY
    )
    nearest = list(dict.fromkeys(names[known] for known in near))[:2]
    return f"did you mean {' or '.join(f'`{name}`' for name in nearest)}?" if nearest else None


def _known_names(kind: Kind, search: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """(name of the file, name or alias) of every entry, without parsing anything."""
    for name, path in catalog_files(kind, search=search).items():
        yield name, name
        for aliases, hub_id in _OTHER_NAMES.findall(path.read_text(encoding="utf-8", errors="replace")):
            yield from ((name, canonical_name(alias)) for alias in (*aliases.split(","), hub_id) if alias)
