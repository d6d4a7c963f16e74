"""SQL over the tables of runs, by DuckDB."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import EnvironmentMissing, UsageError
from engine.results.tables import TABLES
from engine.spec.suggest import did_you_mean

if TYPE_CHECKING:
    from types import ModuleType

    import pyarrow as pa

    from engine.plan.compile import Plan
    from engine.results.store import ResultStore


def query(sql: str, runs: Mapping[str, tuple[Plan, ResultStore]]) -> pa.Table:
    """The answer to one SELECT over `points`, `summary` and the other tables, each with a first column `run`.

    Only the tables that the statement names are read. It can neither write nor see other files. Raises
    `UsageError` with DuckDB's words for a statement that cannot be answered, `EnvironmentMissing` without it.
    """
    duckdb = _duckdb()
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET lock_configuration = true")
        try:
            _refuse_others(sql, connection, duckdb)
            # Words of the statement rather than its tables: DuckDB cannot name those of a join before it
            # has them. One too many costs a moment.
            for name in sorted(set(re.findall(r"\w+", sql.lower())) & set(TABLES)):
                connection.register(name, _gathered(name, runs))
            answer = connection.sql(sql)
            if answer is None:
                raise UsageError("the statement gives no rows", hint="ask with `SELECT`")
            return _plain(answer.to_arrow_table())
        except duckdb.Error as err:
            raise UsageError(_words(err), hint=_hint(err)) from err


def _duckdb() -> ModuleType:
    try:
        import duckdb
    except ImportError as err:
        raise EnvironmentMissing(
            "`duckdb` is not installed", hint='pip install "llm-experiment-engine[query]"'
        ) from err
    return duckdb


def _refuse_others(sql: str, connection: Any, duckdb: ModuleType) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise UsageError("one `SELECT` is wanted", hint="`WITH ... SELECT ...` is one too")


def _gathered(table: str, runs: Mapping[str, tuple[Plan, ResultStore]]) -> pa.Table:
    """A table of every run under one another; a column that one run lacks is null there."""
    import pyarrow as pa

    parts = []
    for name, (plan, store) in runs.items():
        rows = store.read(plan, table)
        label = pa.DictionaryArray.from_arrays(pa.array([0] * len(rows), pa.int32()), [name])
        parts.append(rows.add_column(0, "run", label))
    return pa.concat_tables(parts, promote_options="permissive").unify_dictionaries()


def _plain(answer: pa.Table) -> pa.Table:
    """Columns of numbers, truth values and texts: what every format can hold."""
    import pyarrow as pa

    columns = [_plain_column(answer.column(i)) for i in range(answer.num_columns)]
    return pa.table(columns, names=_unique(answer.column_names))


def _plain_column(column: pa.ChunkedArray) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_decimal(kind):  # sums of whole numbers have 38 digits
        try:
            return column.cast(pa.int64() if kind.scale == 0 else pa.float64())
        except pa.ArrowInvalid:
            return column.cast(pa.float64())
    if pa.types.is_floating(kind):  # a division by zero is no number
        return pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_dictionary(kind):
        return column
    return pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())


def _unique(names: list[str]) -> list[str]:
    """A join may give two columns of one name, which a row object cannot hold."""
    earlier = [names[:i].count(name) for i, name in enumerate(names)]
    return [f"{name}_{n + 1}" if n else name for name, n in zip(names, earlier, strict=True)]


def _words(err: Exception) -> str:
    """DuckDB's first sentence, without the name of its class and its guesses."""
    first = re.split(r"\n|!", str(err))[0]
    return re.sub(r"^\w+(?: \w+)* Error: ", "", first).strip()


def _hint(err: Exception) -> str | None:
    table = re.search(r"Table with name (\S+) does not exist", str(err))
    if table:
        return did_you_mean(table[1], TABLES) or "tables: " + ", ".join(TABLES)
    found = re.search(r"Candidate bindings: (.*)", str(err))
    return "columns nearby: " + found[1].replace('"', "`") if found else None
