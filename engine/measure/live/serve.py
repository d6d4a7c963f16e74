"""Measure a server from outside: probe it, make prompts, warm up, run the loads in shuffled order."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from engine.errors import MeasurementError
from engine.measure.live.answer import Answer, read_answer
from engine.measure.live.dialect import ServerTokenizer, Speaker, key_of, probe
from engine.measure.live.drive import Asked, Driven, Sent, closed_loop, no_collection, open_loop, to_record
from engine.measure.live.http_client import HttpClient, address_of
from engine.measure.live.load import Arrival, arrivals, read_trace
from engine.measure.live.machine import GpuProbe, look
from engine.measure.live.prompts import PromptMaker, file_prompts, load_tokenizer
from engine.measure.live.records import Level, Measured, Memory, Repeat, Request, RunPhase, mark_interrupted
from engine.measure.live.statistics import narrow_enough
from engine.spec.live import OPEN_PATTERNS, HttpTarget, LiveSettings

if TYPE_CHECKING:
    from engine.measure.registry import Tools
    from engine.plan.point import Point

__all__ = ["ServerRun", "measure_server", "server_levels"]

_AGREE: Final = 0.05
_BLOCKS: Final = 3
_MOST_BLOCKS: Final = 12
_LEAST_REQUESTS: Final = 16
_LEARNT_WORDS: Final = (8, 72)
_OPEN_SECONDS: Final = 10.0
_LONGEST_STAGGER_S: Final = 5.0
_MARGIN: Final = 0.9


def measure_server(
    settings: LiveSettings, target: HttpTarget, point: Point, tools: Tools
) -> tuple[list[Measured], list[dict[str, Any]]]:
    """Every load of the settings, and what was observed of the server.

    Raises `MeasurementError` when the server gives no usable answer, `EnvironmentMissing` without its key.
    """
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ModuleNotFoundError:
        runner = asyncio.Runner()
    begun: list[ServerRun] = []
    with runner:
        try:
            return runner.run(_measure(settings, target, point, tools, begun))
        except KeyboardInterrupt:
            if not begun:
                raise
            mark_interrupted(begun[0].found)
            return begun[0].found, []


def server_levels(settings: LiveSettings, batch_size: int) -> list[Level]:
    """The loads that stand in the settings; searches make theirs as they go."""
    load = settings.load
    if load.pattern == "closed":
        numbers = dict.fromkeys(load.concurrency or [batch_size])
        return [Level(f"concurrency {n}", concurrency=n) for n in numbers]
    if load.pattern in OPEN_PATTERNS:
        return [Level(f"{load.pattern} {r:g}/s", rate=r, pattern=load.pattern) for r in load.rates]
    if load.pattern == "replay":
        return [Level("replay", pattern="replay")]
    return []


async def _measure(
    settings: LiveSettings, target: HttpTarget, point: Point, tools: Tools, begun: list[ServerRun]
) -> tuple[list[Measured], list[dict[str, Any]]]:
    begin = time.perf_counter_ns()
    key = key_of(target)
    address = address_of(target.base_url)
    client = HttpClient(address, settings.deadlines)
    server_tokens = ServerTokenizer(target, key=key)
    try:
        count, source = await _counter(target, server_tokens, tools)
        speaker, answer = await probe(
            target,
            address,
            client,
            key=key,
            count=count,
            tokenizes=source == "tokenize_endpoint",
            vocab_size=point.combination.model.vocab_size,
        )
        maker = _maker(settings, speaker, count, tools)
        known = count is not None or speaker.dialect.takes_ids or bool(maker.lines)
        if not known and speaker.dialect.prompt_tokens is not None:
            await _learn_lengths(speaker, client, maker)
        run = ServerRun(
            settings=settings,
            point=point,
            speaker=speaker,
            client=client,
            maker=maker,
            count=count,
            count_source=source or "nobody",
            seed=tools.seed,
            deadline_ns=begin + round(settings.time_limit * _MARGIN * 1e9),
            say=tools.say,
            trace=_trace(settings, tools),
        )
        begun.append(run)
        measured = await _all_loads(run)
        return measured, _observed(target, speaker, run, client, answer)
    finally:
        server_tokens.close()
        client.close()


async def _counter(
    target: HttpTarget, server: ServerTokenizer, tools: Tools
) -> tuple[Callable[[str], int] | None, str | None]:
    """Who counts tokens: the named tokenizer, else the server's own endpoint, else nobody."""
    if target.tokenizer is not None:
        return load_tokenizer(target.tokenizer, tools.spec_folder), "tokenizer"
    if await asyncio.to_thread(server.count, "one two three") is not None:
        return (lambda text: server.count(text) or 0), "tokenize_endpoint"
    return None, None


def _maker(
    settings: LiveSettings, speaker: Speaker, count: Callable[[str], int] | None, tools: Tools
) -> PromptMaker:
    return PromptMaker(
        count,
        tools.seed,
        overhead=speaker.dialect.overhead,
        # Made-up words break into more tokens than real ones; this is what byte-level vocabularies give.
        tokens_per_word=2.2,
        lines=file_prompts(settings.prompts, tools.spec_folder),
    )


async def _learn_lengths(speaker: Speaker, client: HttpClient, maker: PromptMaker) -> None:
    """Tokens of a made-up word and of the chat template, from what the server counts for two prompts of
    different length: nobody else can count them."""
    found: list[tuple[int, int]] = []
    for number, words in enumerate(_LEARNT_WORDS):
        text = maker.of_words(-1 - number, words)
        answer = read_answer(await client.send(speaker.request(text, 1)), stream=speaker.target.stream)
        if answer.prompt_tokens is None:
            return
        found.append((words, answer.prompt_tokens))
    (few, low), (many, high) = found
    each = (high - low) / (many - few)
    if each > 0:
        maker.tokens_per_word, maker.overhead = each, max(0, round(low - few * each))


def _trace(settings: LiveSettings, tools: Tools) -> list[Arrival]:
    if settings.load.trace is None:
        return []
    found = read_trace(tools.spec_folder / settings.load.trace, time_scale=settings.load.time_scale)
    return found[: settings.load.requests] if settings.load.requests else found


async def _all_loads(run: ServerRun) -> list[Measured]:
    if run.settings.load.pattern in ("saturation", "rate_search"):
        from engine.measure.live.search import find_saturation, search_rate

        search = find_saturation if run.settings.load.pattern == "saturation" else search_rate
        return await search(run)
    levels = server_levels(run.settings, run.point.workload.batch_size)
    return await run.measure(levels, run.settings.repeats)


def _observed(
    target: HttpTarget, speaker: Speaker, run: ServerRun, client: HttpClient, answer: Answer
) -> list[dict[str, Any]]:
    dialect = speaker.dialect
    asked = {
        "model": target.model,
        "endpoint": target.endpoint,
        "stream": str(target.stream).lower(),
        "ignore_eos": str(target.ignore_eos).lower(),
    }
    sent = ", ".join(sorted(dialect.fields)) or "none"
    seen = {
        "model": answer.model,
        "endpoint": target.endpoint,
        "stream": None if answer.streamed is None else str(answer.streamed).lower(),
        "ignore_eos": str("ignore_eos" in dialect.fields and target.ignore_eos).lower(),
        "optional fields sent": sent,
        "usage": "told by the server" if dialect.tells_usage else "not told",
        "server timings": "told" if dialect.tells_timings else "not told",
        "prompt as token ids": str(dialect.takes_ids).lower(),
        "tokens counted by": run.count_source if not dialect.tells_usage else "usage",
        "template overhead": f"{dialect.overhead} tokens",
        "connections opened": str(client.opened),
    }
    rows = [
        {"setting": name, "requested": asked.get(name), "observed": seen.get(name)}
        for name in dict.fromkeys([*asked, *seen])
    ]
    rows += [{"setting": "dialect", "requested": None, "observed": note} for note in dialect.notes]
    if run.maker.inexact:
        rows.append({"setting": "prompt length", "requested": "exact",
                     "observed": f"{run.maker.inexact} prompts missed it"})  # fmt: skip
    return rows


@dataclass
class ServerRun:
    """A task on one server: what loads and searches need."""

    settings: LiveSettings
    point: Point
    speaker: Speaker
    client: HttpClient
    maker: PromptMaker
    count: Callable[[str], int | None] | None
    count_source: str
    seed: int
    deadline_ns: int
    say: Callable[[str], None]
    trace: Sequence[Arrival] = ()
    prompts_made: int = 0
    found: list[Measured] = field(default_factory=list)
    """Every load so far, for whoever is left with it when the run is stopped."""

    @property
    def late(self) -> bool:
        """The time limit leaves no room for another repeat."""
        return time.perf_counter_ns() > self.deadline_ns

    async def measure(self, levels: Sequence[Level], repeats: int) -> list[Measured]:
        """Every load `repeats` times, each warmed up once, in an order shuffled within each repeat."""
        found = [Measured(level) for level in levels]
        self.found += found
        stagger = {}
        for measured in found:
            stagger[measured.level.variant] = await self.warm_up(measured)
        order = random.Random(self.seed)  # noqa: S311 - a repeatable order, not a secret
        for number in range(repeats):
            for measured in order.sample(found, len(found)):
                if measured.failure is not None:
                    continue
                if narrow_enough(measured.repeats, self.settings.precision) or _given_up(measured, repeats):
                    continue
                if self.late:
                    self._out_of_time(measured, number, repeats)
                    continue
                await self.repeat(measured, number, stagger_s=stagger[measured.level.variant])
            self.say(f"repeat {number + 1} of {repeats}")
        return found

    def _out_of_time(self, measured: Measured, number: int, repeats: int) -> None:
        note = f"stopped after {len(measured.repeats)} of {repeats} repeats: time limit"
        if not measured.repeats:
            measured.status, measured.failure = "failed", "no repeat ended within the time limit"
        elif note not in measured.notes:
            measured.notes.append(note)

    async def warm_up(self, measured: Measured, *, least: int = 0) -> float:
        """Blocks of requests until three in a row agree; the mean request time, to spread slots over."""
        begin = time.perf_counter()
        level = measured.level
        size = level.concurrency or max(2, min(16, math.ceil(level.rate or 1)))
        means: list[float] = []
        for block in range(_MOST_BLOCKS if self.settings.warmup > 0 else least):
            requests = self._ask(size, [])
            driven = await closed_loop(
                self.client, requests, size, stream=self.speaker.target.stream, deadline_ns=self.deadline_ns
            )
            records = self._records(driven.sent, repeat=block, phase="warmup")
            measured.warmup += records
            good = [r.e2e_s for r in records if r.outcome == "ok"]
            if not good:
                break
            means.append(math.fsum(good) / len(good))
            last = means[-_BLOCKS:]
            if len(last) == _BLOCKS and max(last) - min(last) <= _AGREE * max(last):
                break
            if time.perf_counter() - begin > self.settings.warmup:
                break
        return min(_LONGEST_STAGGER_S, means[-1]) if means else 0.0

    async def repeat(self, measured: Measured, number: int, *, stagger_s: float = 0.0) -> None:
        """One measurement of a load, added to its repeats."""
        level = measured.level
        gpu = GpuProbe(devices=0)
        schedule = self._schedule(level, number)
        requests = self._ask(len(schedule) if schedule else self.count_of(level), schedule)
        before = look(gpu)
        sent: list[Sent] = []
        started = time.perf_counter_ns()
        try:
            with no_collection():
                driven = await self._drive(level, requests, schedule, sent, stagger_s=stagger_s)
        except asyncio.CancelledError:
            # Stopped by the user: what was sent so far is kept, the unfinished marked as such.
            ended = time.perf_counter_ns()
            records = self._records(sent, repeat=number, phase="measured")
            measured.repeats.append(Repeat(number, records, started, ended, before, look(gpu)))
            raise
        records = self._records(driven.sent, repeat=number, phase="measured")
        if level.concurrency is not None:
            records = _drain_marked(records, level.concurrency)
        measured.repeats.append(
            Repeat(
                number,
                records,
                driven.started_ns,
                driven.ended_ns,
                before,
                look(gpu),
                self._server_memory(),
                driven.watch,
            )
        )
        if driven.aborted:
            measured.notes.append(
                f"repeat {number + 1} was stopped after {len(records)} of {len(requests)} requests"
            )
            if all(not r.good for r in records[-20:]):
                measured.status = "failed"
                measured.failure = f"20 failures in a row, the last: {records[-1].error}"

    def count_of(self, level: Level) -> int:
        """Requests of one repeat of a load."""
        load = self.settings.load
        if load.requests is not None:
            return max(load.requests, level.concurrency or 1)
        if level.requests is not None:
            return level.requests
        if level.concurrency is not None:
            return max(_LEAST_REQUESTS, 4 * level.concurrency)
        return max(_LEAST_REQUESTS, math.ceil((level.rate or 1.0) * _OPEN_SECONDS))

    def _schedule(self, level: Level, number: int) -> list[Arrival]:
        if level.concurrency is not None:
            return []
        if level.pattern == "replay":
            return list(self.trace)
        if level.rate is None:
            raise MeasurementError(f"load `{level.variant}` has neither a concurrency nor a rate")
        load = self.settings.load
        if load.pattern not in OPEN_PATTERNS:
            load = load.model_copy(update={"pattern": "poisson"})
        return arrivals(load, rate=level.rate, count=self.count_of(level), seed=self.seed + 7919 * number)

    def _ask(self, count: int, schedule: Sequence[Arrival]) -> list[Asked]:
        """Requests with prompts that nothing was asked before."""
        workload, dealt = self.point.workload, self.settings.load.prompt_lengths
        found = []
        for i in range(count):
            arrival = schedule[i] if schedule else Arrival(0.0)
            prompt = arrival.prompt_tokens or (dealt[i % len(dealt)] if dealt else workload.prompt_tokens)
            output = arrival.output_tokens or workload.output_tokens
            number = self.prompts_made
            self.prompts_made += 1
            text: str | list[int]
            if self.speaker.dialect.takes_ids and not self.maker.lines:
                text = self.maker.ids(
                    number, prompt, self.point.combination.model.vocab_size,
                    shared=workload.shared_prefix_tokens,
                )  # fmt: skip
            else:
                text = self.maker.text(
                    number, prompt, shared=workload.shared_prefix_tokens, prefix=arrival.prefix or ""
                )
            asked = None if self.maker.lines else prompt
            found.append(Asked(i, self.speaker.request(text, output), asked, output))
        return found

    async def _drive(
        self,
        level: Level,
        requests: Sequence[Asked],
        schedule: Sequence[Arrival],
        sent: list[Sent],
        *,
        stagger_s: float,
    ) -> Driven:
        stream = self.speaker.target.stream
        if level.concurrency is not None:
            return await closed_loop(
                self.client,
                requests,
                level.concurrency,
                sent=sent,
                stream=stream,
                stagger_s=stagger_s,
                deadline_ns=self.deadline_ns,
            )
        return await open_loop(
            self.client,
            requests,
            schedule,
            sent=sent,
            stream=stream,
            max_in_flight=self.settings.load.max_in_flight,
            deadline_ns=self.deadline_ns,
        )

    def _records(self, sent: Sequence[Sent], *, repeat: int, phase: RunPhase) -> list[Request]:
        return [
            to_record(
                one,
                self.speaker,
                repeat=repeat,
                phase=phase,
                count=self.count,
                count_source=self.count_source,
            )
            for one in sent
        ]

    def _server_memory(self) -> Memory:
        """Resident memory of the server and its children, where its process is named."""
        number = self.speaker.target.process
        if number is None:
            return Memory()
        import psutil

        try:
            process = psutil.Process(number)
            family = [process, *process.children(recursive=True)]
            return Memory(host_rss_peak=sum(p.memory_info().rss for p in family))
        except psutil.Error:
            return Memory()


def _given_up(measured: Measured, repeats: int) -> bool:
    """Nothing of the last repeat ended well: the server is gone, and more repeats would show nothing else."""
    if not measured.repeats or any(r.good for r in measured.repeats[-1].requests):
        return False
    note = f"given up after {len(measured.repeats)} of {repeats} repeats: nothing of the last one ended well"
    if len(measured.repeats) < repeats and note not in measured.notes:
        measured.notes.append(note)
    return True


def _drain_marked(records: list[Request], concurrency: int) -> list[Request]:
    """Requests that ended after the last one was sent ran beside fewer others; they count, and are marked."""
    if len(records) < 2 * concurrency:
        return records
    last = max(r.sent_ns for r in records)
    return [
        replace(r, run_phase="drain") if r.run_phase == "measured" and r.done_ns > last else r
        for r in records
    ]
