"""The one place that declares what the tables hold.

A measurement returns `Tables`: Arrow tables by name. Keys and texts are declared here; metric columns
come from `engine.metrics`, each optionally accompanied by `_low` and `_high` (95 % interval of a
measurement, 90 % band of a prediction), `_n` (how many observations) and percentiles `_p50` to `_p99`.
A value that is not known is null, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from engine.errors import MeasurementError
from engine.metrics import METRICS

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["int", "float", "text", "label", "bool"]
Tables = Mapping[str, "pa.Table"]

SUFFIXES: Final = ("_low", "_high", "_n", "_p50", "_p90", "_p95", "_p99")
STATUSES: Final = ("ok", "does_not_fit", "failed", "skipped", "beyond_context")
SOURCES: Final = ("predicted", "live", "metered", "run_folder", "training")
PHASES: Final = (
    "request", "prefill", "decode", "decode_last", "load", "idle", "tokenize", "detokenize", "training"
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One declared column; `label` is text that repeats and is stored as a dictionary."""

    name: str
    kind: Kind
    unit: str
    meaning: str


def _columns(*rows: tuple[str, Kind, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)


_POINT: Final = (
    "point",
    "int",
    "",
    "Number of the design point; null when a row belongs to none.",
)

POINTS: Final = _columns(
    _POINT,
    ("model", "label", "", "Model, with overridden fields in braces."),
    ("hardware", "label", "", "Device, with overridden fields in braces."),
    ("quantization", "label", "", "Number format, with overridden fields in braces."),
    ("prompt_tokens", "int", "tokens", "Prompt length of each sequence."),
    ("output_tokens", "int", "tokens", "Tokens generated for each sequence."),
    ("batch_size", "int", "", "Sequences processed together."),
    ("shared_prefix_tokens", "int", "tokens", "Leading prompt tokens already in the cache."),
    ("prefill_chunk_tokens", "int", "tokens", "Tokens of one prefill chunk; 0 is the whole prompt."),
    ("prefill_tokens_per_step", "int", "tokens", "Prefill tokens that ride along with each decode step."),
    ("tensor", "int", "", "Tensor-parallel devices."),
    ("pipeline", "int", "", "Pipeline stages."),
    ("expert", "int", "", "Expert-parallel devices."),
    ("data", "int", "", "Data-parallel replicas."),
    ("devices", "int", "", "Devices in all."),
    ("settings", "label", "", "Other swept settings, as `path=value`."),
)
SUMMARY: Final = _columns(
    _POINT,
    ("source", "label", "", "Where the row comes from: predicted, live, metered, run_folder or training."),
    (
        "phase",
        "label",
        "",
        "request, prefill, decode (first step), decode_last, load, idle, tokenize, detokenize or training.",
    ),
    ("variant", "label", "", "What else tells rows of one point apart, such as `concurrency 4`."),
    ("basis", "label", "", "bound (data sheet), estimate (calibrated), measured, or derived."),
    ("status", "label", "", "ok, does_not_fit, beyond_context, failed or skipped."),
    ("reason", "label", "", "Why a row is not ok, or what a reader must know."),
    ("bound", "label", "", "What limits the phase: compute, memory or communication."),
    ("calibration", "label", "", "Parameter set behind an estimate."),
)
OPERATORS: Final = _columns(
    _POINT,
    ("phase", "label", "", "prefill, decode or decode_last."),
    ("layer_kind", "label", "", "Kind of layer the operator belongs to, or an end of the model."),
    ("operator", "label", "", "Name of the operator."),
    ("count", "int", "", "How often it occurs in the model; the other columns are for one occurrence."),
    ("flops", "float", "FLOP", "Floating-point operations."),
    ("parameters", "float", "", "Parameters the operator owns."),
    ("weight_bytes", "float", "B", "Weights read."),
    ("input_bytes", "float", "B", "Activations read."),
    ("output_bytes", "float", "B", "Activations written."),
    ("kv_read_bytes", "float", "B", "Cached keys and values read."),
    ("kv_write_bytes", "float", "B", "Keys and values written."),
    ("total_bytes", "float", "B", "All device-memory traffic."),
    ("intensity_flops_per_byte", "float", "FLOP/B", "FLOPs over total bytes; null when nothing is moved."),
    ("bound", "label", "", "compute, memory or communication; null for what an engine does between kernels."),
    ("peak_flops_per_s", "float", "FLOP/s", "Peak of the arithmetic the operator uses."),
    ("attainable_flops_per_s", "float", "FLOP/s", "min(peak, intensity x bandwidth)."),
    ("time_s", "float", "s", "Time of one occurrence by the data sheet: a bound."),
    ("formula", "label", "", "How FLOPs and bytes are counted, to check by hand."),
    ("estimate_s", "float", "s", "Time of one occurrence with fitted parameters; null without any."),
    ("estimate_low_s", "float", "s", "Lower end of its 90 % band."),
    ("estimate_high_s", "float", "s", "Upper end of its 90 % band."),
    ("estimate_note", "label", "", "Why there is no estimate, or which operators share its kernel."),
)
REQUESTS: Final = _columns(
    _POINT,
    ("variant", "label", "", "Load of the measurement, such as `concurrency 4`."),
    ("repeat", "int", "", "Which repeat, from 0."),
    ("request", "int", "", "Number within the repeat, from 0."),
    ("run_phase", "label", "", "warmup, measured, drain or cancelled."),
    ("scheduled_s", "float", "s", "When the load pattern wanted the request, from the start of the repeat."),
    ("dispatched_s", "float", "s", "When the generator took it up."),
    ("sent_s", "float", "s", "Just before its first byte was written."),
    ("first_byte_s", "float", "s", "First byte of the response."),
    ("first_token_s", "float", "s", "First event with text."),
    ("last_token_s", "float", "s", "Last event with text."),
    ("done_s", "float", "s", "End of the response."),
    ("token_times_s", "text", "s", "Times of content events, JSON, from `sent_s`; null when not kept."),
    ("prompt_tokens", "int", "tokens", "Prompt tokens."),
    ("cached_prompt_tokens", "int", "tokens", "Prompt tokens taken from a cache; null when not told."),
    ("output_tokens", "int", "tokens", "Generated tokens."),
    ("token_source", "label", "", "Who counted: usage, tokenizer or exact."),
    ("outcome", "label", "", "ok, failed, timeout, cut or cancelled."),
    ("error_class", "label", "", "Class of failure."),
    ("error", "text", "", "What the failure said, secrets removed."),
    ("slot", "int", "", "Which of the concurrent slots sent it; null in open patterns."),
    ("epoch_s", "float", "s", "When it was sent, seconds since 1970."),
    ("connected_s", "float", "s", "Connection ready; null when a live one was used again."),
    ("first_event_s", "float", "s", "First event of any kind."),
    ("first_answer_s", "float", "s", "First event with text that is not reasoning."),
    ("prompt_tokens_asked", "int", "tokens", "Prompt length that was asked for."),
    ("output_tokens_asked", "int", "tokens", "Output length that was asked for."),
    ("reasoning_tokens", "int", "tokens", "Generated tokens that are reasoning; null when not told."),
    ("events", "int", "", "Pieces with text."),
    ("first_tokens", "float", "tokens", "Tokens that came first, in one read; `tpot_s` leaves them out."),
    ("first_tokens_source", "label", "", "Who said so: as `token_source`, or an assumption."),
    ("streamed", "bool", "", "It came as a stream of events; null for a local target."),
    ("reads", "int", "", "Socket reads of the answer; events of one read share a time."),
    ("finish_reason", "label", "", "Why the server stopped: length, stop..."),
    ("http_status", "int", "", "Status of the answer; null for a local target or none."),
    ("server_prefill_s", "float", "s", "Prefill time the server reports; null when it reports none."),
    ("server_decode_s", "float", "s", "Decode time the server reports; null when it reports none."),
    ("allocated_peak_bytes", "int", "B", "Peak device memory held by tensors; null where not measured."),
    ("reserved_peak_bytes", "int", "B", "Peak device memory of the allocator; null where not measured."),
)  # fmt: skip
SAMPLES: Final = _columns(
    _POINT,
    ("device", "label", "", "Which device."),
    ("time_s", "float", "s", "Since the start of the measurement, monotonic."),
    ("power_w", "float", "W", "Power reading."),
    ("average_power_w", "float", "W", "The sensor's own running mean, where it has one."),
    ("energy_counter_j", "float", "J", "Energy counter, where the device has one."),
    ("temperature_c", "float", "C", "Die temperature."),
    ("utilization", "float", "", "Share of time any kernel ran."),
    ("memory_utilization", "float", "", "Share of time device memory was read or written."),
    ("memory_used_bytes", "float", "B", "Device memory in use."),
    ("sm_clock_hz", "float", "Hz", "Clock of the multiprocessors."),
    ("memory_clock_hz", "float", "Hz", "Clock of the device memory."),
    ("throttle", "label", "", "Reasons for throttling, comma-separated."),
    ("phase", "label", "", "What ran at that time."),
    ("component", "label", "", "Component that ran at that time; null outside component loops."),
)
COMPONENTS: Final = _columns(
    _POINT,
    ("phase", "label", "", "prefill or decode."),
    ("layer", "int", "", "Layer number; null for the model's ends and for sums."),
    ("step", "int", "", "Decode step, from 0; null for what is not one step."),
    ("component", "label", "", "Name of the component."),
    ("parent", "label", "", "What it is part of."),
    (
        "method",
        "label",
        "",
        "loop, ablation, time_weighted, window or whole; remainder for what no part has.",
    ),
    ("count", "int", "", "How often it runs in one step."),
    ("time_s", "float", "s", "Time of one run."),
    ("time_low_s", "float", "s", "Lower end of the 95 % interval."),
    ("time_high_s", "float", "s", "Upper end of the 95 % interval."),
    ("energy_j", "float", "J", "Energy of one run, gross; null where no power was read."),
    ("energy_low_j", "float", "J", "Lower end of the 95 % interval."),
    ("energy_high_j", "float", "J", "Upper end of the 95 % interval."),
    ("net_energy_j", "float", "J", "Energy above idle."),
    ("net_energy_low_j", "float", "J", "Lower end of the 95 % interval, uncertainty of idle included."),
    ("net_energy_high_j", "float", "J", "Upper end of the 95 % interval, uncertainty of idle included."),
    (
        "systematic_j",
        "float",
        "J",
        "Gain of the sensor (5 %) and ends of the window, apart from the interval.",
    ),
    ("share", "float", "", "Energy (without power: time) over that of the whole step."),
    ("window_s", "float", "s", "Length of one trial."),
    ("edges", "int", "", "Updates of the energy counter in one trial, median."),
    ("clock_hz", "float", "Hz", "Mean clock of the multiprocessors."),
    ("n", "int", "", "Valid trials."),
    ("valid", "bool", "", "False when a check failed; `reason` says which."),
    ("reason", "text", "", "Why a value is absent, invalid or labelled."),
)
FINDINGS: Final = _columns(
    _POINT,
    ("rule", "label", "", "Name of the rule."),
    ("severity", "label", "", "note, advice, warning or error."),
    ("finding", "text", "", "What was found, in one sentence."),
    ("evidence", "text", "", "The numbers it rests on."),
    ("gain", "text", "", "Estimated gain, or null."),
    ("change", "text", "", "What to change in the spec, as YAML to paste, or null."),
)
OBSERVED: Final = _columns(
    _POINT,
    ("variant", "label", "", "Load of the measurement; null when it holds for all."),
    ("setting", "label", "", "Name of the setting."),
    ("requested", "text", "", "What the spec asked for; null when it left the choice."),
    ("observed", "text", "", "What really was; null when it could not be seen."),
)
KERNELS: Final = _columns(
    _POINT,
    ("device", "label", "", "Catalogue name of the device, or what it calls itself."),
    ("engine", "label", "", "Software that ran the operator."),
    ("engine_version", "label", "", "Its version."),
    ("operator", "label", "", "What ran, such as gemm; decode_step, between_products: of small models."),
    ("precision", "label", "", "Arithmetic."),
    ("m", "int", "", "Rows of the activations; sequences of a decode step."),
    ("n", "int", "", "Columns of the result; intermediate size of experts and of a small model."),
    ("k", "int", "", "Columns of the activations; hidden size of experts and of a small model."),
    ("batch", "int", "", "Sequences."),
    ("q_len", "int", "tokens", "New tokens of each sequence."),
    ("kv_len", "int", "tokens", "Positions attended, new ones included."),
    ("num_heads", "int", "", "Query heads."),
    ("num_kv_heads", "int", "", "Key/value heads."),
    ("head_dim", "int", "", "Width of a head."),
    ("num_experts", "int", "", "Experts."),
    ("topk", "int", "", "Experts of each token."),
    ("tp", "int", "", "Devices over which each expert is cut."),
    ("num_gpus", "int", "", "Devices that take part."),
    ("message_bytes", "float", "B", "Message of a collective."),
    ("bytes", "float", "B", "Memory traffic of an elementwise operator or a copy."),
    ("layers", "int", "", "Layers of a small model."),
    ("time_s", "float", "s", "Median time of one run."),
    ("time_low_s", "float", "s", "Lower quartile."),
    ("time_high_s", "float", "s", "Upper quartile."),
    ("trials", "int", "", "Timed runs."),
)  # fmt: skip
FILES: Final = _columns(
    _POINT,
    ("run", "label", "", "Folder of the run, relative to the root; null when the file belongs to no run."),
    ("file", "text", "", "File, relative to the root."),
    ("format", "label", "", "Format found by content; null when none fits."),
    ("status", "label", "", "read, partial (some rows dropped) or unreadable."),
    ("reason", "text", "", "Why it was not read, or what was dropped."),
    ("rows_read", "int", "", "Rows or records used."),
    ("rows_dropped", "int", "", "Rows that could not be used."),
    ("size_bytes", "int", "B", "Size of the file."),
    ("encoding", "label", "", "Text encoding found."),
    ("interval_s", "float", "s", "Median sampling interval."),
    ("devices", "int", "", "Devices in the file."),
    ("warnings", "text", "", "What a reader must know, one line each."),
)
ORIGINS: Final = _columns(
    _POINT,
    ("variant", "label", "", "Row of `summary` the value belongs to."),
    ("phase", "label", "", "Phase of that row."),
    ("metric", "label", "", "Name of the metric."),
    ("origin", "label", "", "read, derived or absent."),
    ("how", "label", "", "Derivation, or why the value is absent."),
    ("file", "text", "", "File the value rests on."),
)
CUSTOM: Final = _columns(
    _POINT,
    ("variant", "label", "", "Row of `summary` the value belongs to."),
    ("metric", "label", "", "Identifier of the metric in the spec."),
    ("title", "label", "", "Title of its column."),
    ("unit", "label", "", "Unit of its values."),
    ("value", "float", "", "Value in that unit; null with a reason."),
    ("formula", "label", "", "Arithmetic behind it; null for a renamed metric."),
    ("reason", "label", "", "Why it is absent."),
)
TRAINING_STEPS: Final = _columns(
    _POINT,
    ("step", "int", "", "Step of the run; null when the log does not number them."),
    ("line", "int", "", "Line of the log, or position of the event."),
    ("elapsed_s", "float", "s", "Since the start of the progress bar."),
    ("training_loss", "float", "", "Loss."),
    ("learning_rate", "float", "", "Learning rate."),
    ("sequences_per_s", "float", "sequences/s", "Throughput as logged, usually an average over some steps."),
    ("step_s", "float", "s", "Time of one step."),
    ("gradient_norm", "float", "", "Norm of the gradients."),
    ("warmup", "bool", "", "Whether the step is cut from all averages."),
)
KERNEL_USAGE: Final = _columns(
    _POINT,
    ("file", "text", "", "HLO module, relative to the compile cache."),
    ("module", "label", "", "Folder of the module."),
    ("compiler", "label", "", "Version of the compiler."),
    ("status", "label", "", "read or unreadable."),
    ("reason", "text", "", "Why it was not read, or what a reader must know."),
    ("kernel_macs", "float", "", "Multiply-adds of custom kernels."),
    ("dot_macs", "float", "", "Multiply-adds of dots."),
    ("convolution_macs", "float", "", "Multiply-adds of convolutions; 0 unless the spec counts them."),
    ("total_macs", "float", "", "All counted multiply-adds."),
    ("kernel_ratio", "float", "", "Share done by custom kernels; null when nothing was counted."),
    ("instructions", "int", "", "Instructions of all computations."),
    ("kernel_calls", "int", "", "Calls of custom kernels."),
    ("other_custom_calls", "int", "", "Custom calls to anything else; they add nothing."),
)
SCORES: Final = _columns(
    _POINT,
    ("source", "label", "", "Source of the judged row."),
    ("phase", "label", "", "Phase of the judged row."),
    ("variant", "label", "", "Variant of the judged row."),
    ("score", "float", "", "Score; with ratios, 1 is the reference. Null for a row that is not ranked."),
    ("score_low", "float", "", "Score at the bad ends of all intervals; null when no value has one."),
    ("score_high", "float", "", "Score at the good ends of all intervals; null when no value has one."),
    ("rank", "int", "", "1 is best; equal scores share a rank."),
    ("rank_best", "int", "", "Best rank that the intervals of all rows allow."),
    ("rank_worst", "int", "", "Worst rank that the intervals of all rows allow."),
    ("eligible", "bool", "", "Whether the row may be ranked."),
    ("reason", "label", "", "Why it may not."),
    ("dominated_by", "int", "", "A point at least as good in every objective and better in one."),
)
SCORE_FACTORS: Final = _columns(
    _POINT,
    ("variant", "label", "", "Variant of the judged row."),
    ("part", "label", "", "Part of a preset the factor belongs to; null otherwise."),
    ("metric", "label", "", "Metric of the objective, or name of a factor of a preset."),
    ("value", "float", "", "Value in the metric's unit."),
    ("reference", "float", "", "What the value was compared with, in the same unit."),
    ("factor", "float", "", "What the value was turned into; larger is better."),
    ("factor_low", "float", "", "Factor at the bad end of the value's interval; null without one."),
    ("factor_high", "float", "", "Factor at the good end of the value's interval; null without one."),
    ("weight", "float", "", "Weight or exponent of the factor."),
    ("contribution", "float", "", "What the factor adds to the score, or multiplies it by in a product."),
    ("formula", "label", "", "Arithmetic from value to factor."),
)
SCORE_SENSITIVITY: Final = _columns(
    ("metric", "label", "", "Objective whose weight moves."),
    ("change", "float", "", "Relative change of the weight; the others keep their proportions."),
    ("weight", "float", "", "The weight after the change, scaled like the others."),
    ("best_point", "int", "", "The best point after the change."),
    ("best_variant", "label", "", "Variant of that row."),
    ("best_changed", "bool", "", "Whether another row is best now."),
    ("pairs", "int", "", "Pairs of the best rows that were compared."),
    ("swapped_pairs", "int", "", "Pairs whose order turned round."),
    ("largest_move", "int", "", "Most places a compared row moved."),
)
SCORE_SWAPS: Final = _columns(
    ("metric", "label", "", "Objective whose weight moves."),
    ("change", "float", "", "Relative change of the weight."),
    ("point", "int", "", "Point that ranked above."),
    ("variant", "label", "", "Variant of that row."),
    ("overtaken_by", "int", "", "Point that ranks above after the change."),
    ("overtaken_by_variant", "label", "", "Variant of that row."),
    ("equal_at", "float", "", "Relative change at which both score the same."),
)
TABLES: Final[Mapping[str, tuple[Column, ...]]] = {
    "points": POINTS,
    "summary": SUMMARY,
    "operators": OPERATORS,
    "requests": REQUESTS,
    "samples": SAMPLES,
    "components": COMPONENTS,
    "findings": FINDINGS,
    "observed": OBSERVED,
    "kernels": KERNELS,
    "files": FILES,
    "origins": ORIGINS,
    "custom": CUSTOM,
    "training_steps": TRAINING_STEPS,
    "kernel_usage": KERNEL_USAGE,
    "scores": SCORES,
    "score_factors": SCORE_FACTORS,
    "score_sensitivity": SCORE_SENSITIVITY,
    "score_swaps": SCORE_SWAPS,
}


def column(table: str, name: str) -> Column | None:
    """The declaration of a column, metric columns of `summary` included; None when it has none."""
    for declared in TABLES[table]:
        if declared.name == name:
            return declared
    if table != "summary":
        return None
    base = next(
        (name.removesuffix(s) for s in SUFFIXES if name.endswith(s) and name.removesuffix(s) in METRICS), name
    )
    metric = METRICS.get(base)
    if metric is None:
        return None
    if name != base and name.endswith("_n"):
        return Column(name, "int", "", f"Observations behind `{base}`.")
    suffix = "" if name == base else f" ({name.removeprefix(base + '_')})"
    return Column(name, "float", metric.unit, metric.definition + suffix)


def arrow_type(kind: Kind) -> pa.DataType:
    """How a kind of column is stored."""
    import pyarrow as pa

    types: dict[Kind, pa.DataType] = {
        "int": pa.int64(),
        "float": pa.float64(),
        "text": pa.string(),
        "label": pa.dictionary(pa.int32(), pa.string()),
        "bool": pa.bool_(),
    }
    return types[kind]


def make_table(table: str, columns: Mapping[str, Any]) -> pa.Table:
    """An Arrow table from arrays or lists by column name, typed as declared, NaN becoming null.

    Columns come out in declared order; undeclared ones raise `MeasurementError`. Missing declared columns
    are filled with nulls, metric columns only appear when given.
    """
    import pyarrow as pa

    size = max((len(values) for values in columns.values()), default=0)
    unknown = [name for name in columns if column(table, name) is None]
    if unknown:
        raise MeasurementError(f"table `{table}` has no column {', '.join(f'`{n}`' for n in unknown)}")
    order = [c.name for c in TABLES[table]]
    order += [name for name in _metric_order() if name in columns and name not in order]
    arrays = []
    for name in order:
        declared = column(table, name)
        kind: Kind = declared.kind if declared else "float"
        values = columns.get(name)
        if values is None:
            arrays.append(pa.nulls(size, arrow_type(kind)))
        elif isinstance(values, pa.Array | pa.ChunkedArray):
            arrays.append(values.cast(arrow_type(kind)))
        elif kind == "label":
            arrays.append(pa.array(values, pa.string()).dictionary_encode())
        else:
            arrays.append(pa.array(values, arrow_type(kind), from_pandas=True))
    return pa.table(dict(zip(order, arrays, strict=True)))


def _metric_order() -> Sequence[str]:
    return [name for metric in METRICS for name in (metric, *(metric + suffix for suffix in SUFFIXES))]


def empty(table: str) -> pa.Table:
    """A table with the declared columns and no rows."""
    return make_table(table, {})


def concatenate(table: str, parts: Sequence[pa.Table]) -> pa.Table:
    """One table from many; columns that only some parts have are null elsewhere."""
    import pyarrow as pa

    if not parts:
        return empty(table)
    joined = pa.concat_tables(parts, promote_options="permissive").unify_dictionaries()
    present = set(joined.column_names)
    order = [c.name for c in TABLES[table]]
    order += [name for name in _metric_order() if name in present and name not in order]
    return joined.select(order)
