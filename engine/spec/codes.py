"""What each code of a problem means and why the rule exists, for `engine explain CODE`."""

from __future__ import annotations

from typing import Final

__all__ = ["CODES"]

CODES: Final[dict[str, str]] = {
    # The file
    "no-file": "The file does not exist, or a folder, pipe or device stands in its place.",
    "bad-file": "The file is not one the engine can read here.",
    "unreadable": "The operating system refuses to read the file.",
    "too-large": "A spec is written by hand; files above 256 KiB are refused before anything is parsed.",
    "bad-encoding": "Specs are UTF-8. A byte order mark at the start is skipped.",
    "invisible-character": "Control characters, and marks that hide or reorder text, make a file look other "
    'than it is; write what is meant, or an escape such as "\\u200b" in double quotes.',
    "odd-space": "No-break spaces, often copied from a web page, do not separate anything in YAML.",
    "merge-conflict": "Version control left both sides of a conflict in the file.",
    "empty-file": "The file holds nothing but comments. `engine init` writes a spec to start from.",
    "not-a-mapping": "The top level of a spec is `key: value` lines.",
    "second-document": "A file holds one document; what follows `---` would be ignored by some readers.",
    "directive": "`%YAML 1.1` would change what the file means: `no` would become false.",
    # YAML
    "bad-syntax": "The text is not YAML at this place.",
    "bad-indentation": "Keys of one section start in the same column, right of the section's own key.",
    "bad-escape": 'Double quotes know escapes such as "\\n"; single quotes keep a backslash as it is.',
    "tab": "YAML indents with spaces.",
    "unclosed": "A bracket or a quote is opened and not closed.",
    "too-deep": "Sections may be nested 64 levels deep.",
    "too-many-values": "A few lines of aliases can stand for billions of values; the limit is 100,000 values "
    "once every alias is replaced by what it refers to.",
    "self-alias": "A value that contains itself has no end.",
    "unknown-anchor": "An alias `*name` needs an anchor `&name` further up in the same file.",
    "duplicate-anchor": "With two anchors of one name, the meaning of an alias depends on its line.",
    "duplicate-key": "Most readers let the last of two equal keys win and lose the first silently.",
    "bad-key": "Keys are text. `1`, `true` and `null` must be quoted to be keys.",
    "bad-merge": "`<<` takes one alias of a mapping in a top-level `x-` block, once per mapping.",
    "explicit-tag": "Tags such as `!!python/object` make other loaders run code; no spec needs one.",
    "unquoted-date": "Some readers turn `2026-11-20` into a date, some keep it as text; quotes settle it.",
    "ambiguous-number": "`010` and `1_000` are different values to different readers of YAML.",
    "number-too-large": "Integers end at 2^63 - 1 and decimals at about 1.8e308.",
    "number-too-small": "The number would silently become 0.",
    "not-finite": "What is not known is left out; infinity and `.nan` are no values of a field.",
    # Putting files together
    "bad-include": "`include` is a file name or a list of them.",
    "no-include": "The included file does not exist, or its links cannot be followed.",
    "include-cycle": "Files that include each other have no order in which to be merged.",
    "include-outside": "Files come from below the folder with `.git`, or the spec's own, links followed.",
    "too-many-files": "One spec may be put together from 64 files.",
    "bad-override": "`--set` takes a dotted path and a YAML value: `--set workload.batch_size=8`.",
    # Keys and values
    "unknown-key": "A section has a fixed set of keys, so that none is ignored for a slip of the pen.",
    "missing-key": "The section has no default for this key.",
    "empty-value": "A key without a value means null, which this field does not take.",
    "unknown-kind": "The tag of a section chooses which keys it may have.",
    "unknown-value": "The field takes one of a few values.",
    "wrong-type": 'Values are never converted: `"8"` and `yes` are text, `8` a number, `true` a switch.',
    "bad-type": "The value is of another kind than the field needs.",
    "out-of-range": "The number is outside the limits of the field.",
    "wrong-length": "The text, list or mapping is too short or too long.",
    "bad-text": "The text does not have the form the field needs.",
    "bad-value": "The value makes no sense for this field.",
    "bad-json": "The file is not JSON at this place.",
    "broken-rule": "Each value is possible, but not together with the others.",
    # Quantities
    "needs-unit": "A bare number leaves open whether `80` are bytes, gigabytes or gibibytes.",
    "bad-unit": "Case matters; `GB` is 10^9 bytes, `GiB` is 2^30, and bits are spelled out: `Gbit`.",
    "bad-quantity": "A quantity is a number, one space and a unit: `3.35 TB/s`.",
    "bad-condition": "A condition is a comparison and a value in the metric's unit: `<= 500 ms`.",
    "negative": "Sizes, rates, durations and prices start at zero.",
    # The catalogue
    "unknown-calibration": "No such parameter set beside the spec nor in the shipped catalogue.",
    "unknown-hardware": "No such device in the project's own `hardware/` nor in the shipped catalogue.",
    "unknown-model": "No such model in the project's own `specs/models/` nor in the shipped catalogue.",
    "unknown-quantization": "No such number format in the project nor in the shipped catalogue.",
    "unresolved": "The name was found, but the entry behind it cannot be used.",
    "bad-name": "The text cannot be a name of the catalogue.",
    "outside": "A catalogue file is a link that leads out of its folder.",
    # The sweep
    "unknown-axis": "An axis is the path of a field, such as `workload.batch_size`.",
    "empty-axis": "An axis without values leaves no points.",
    "empty-tie": "A tied row sets at least one field.",
    "tie-keys": "Rows that move together set the same fields, so that no point is half-defined.",
    "nothing-to-sweep": "Where only logs are read, each run brings its own point and axes vary nothing.",
    "impossible": "No device can run this combination as asked; a run skips it, or refuses when all are so.",
    "swept-twice": "With one path in two places of the sweep, the order of evaluation would decide.",
    "repeated-value": "A value listed twice would measure the same point twice.",
    "repeated-measurement": "The same measurement twice would give every row twice.",
    "repeated-row": "A row listed twice would measure the same points twice.",
    "repeated-point": "A single point that axes and ties already make would be measured twice.",
    "bad-sweep": "The sweep as a whole cannot be run: too many points, or none that is left.",
    "bad-range": "A range runs from a lower to a higher value; a logarithmic one starts above zero.",
    "not-a-number": "Only counts of the workload can be drawn at random.",
    "prefix-too-long": "A shared prefix must be shorter than every prompt of the sweep.",
}
