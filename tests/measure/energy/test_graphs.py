"""CUDA graphs of components on a pretend CUDA: what is recorded, how often, and what when it cannot be."""

import contextlib
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from engine.measure.energy.components import Graphs  # noqa: E402


class Recording:
    """Counts turns; `replay` takes known time on the pretend device."""

    def __init__(self) -> None:
        self.turns = 0

    def replay(self) -> None:
        PretendCuda.now_s += max(self.turns * PretendCuda.turn_s, PretendCuda.launch_s)


class PretendCuda:
    now_s = 0.0
    turn_s = 0.0
    launch_s = 8e-6
    synchronised = 0
    pools: list[object] = []

    class Event:
        def __init__(self, enable_timing: bool = False) -> None:
            self.at_s = 0.0

        def record(self) -> None:
            self.at_s = PretendCuda.now_s

        def synchronize(self) -> None: ...

        def elapsed_time(self, end: "PretendCuda.Event") -> float:
            return (end.at_s - self.at_s) * 1e3

    class Stream:
        def wait_stream(self, other: object) -> None: ...


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> type[PretendCuda]:
    PretendCuda.now_s, PretendCuda.synchronised, PretendCuda.pools = 0.0, 0, []

    @contextlib.contextmanager
    def graph(recording: Recording, pool: object):
        PretendCuda.pools.append(pool)
        before = counted[0]
        yield
        recording.turns = counted[0] - before

    def synchronize() -> None:
        PretendCuda.synchronised += 1

    for name, value in {
        "Event": PretendCuda.Event, "Stream": PretendCuda.Stream, "CUDAGraph": Recording, "graph": graph,
        "stream": lambda stream: contextlib.nullcontext(), "current_stream": PretendCuda.Stream,
        "graph_pool_handle": object, "synchronize": synchronize,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    counted[0] = 0
    return PretendCuda


counted = [0]


def turn() -> None:
    counted[0] += 1


def recorded(turn_s: float, cuda: type[PretendCuda]) -> tuple[Callable[[], None], int]:
    cuda.turn_s = turn_s
    return Graphs().of("decode ffn", turn)


def test_a_long_turn_is_recorded_once(cuda) -> None:
    replay, turns = recorded(2e-3, cuda)
    assert turns == 1
    before = cuda.now_s
    replay()
    assert cuda.now_s - before == pytest.approx(2e-3)


def test_a_turn_as_short_as_its_launch_is_recorded_many_times(cuda) -> None:
    # 3 us of work behind 8 us of launch: 500 / 8 = 62.5, so 63 turns; the device then idles no more.
    replay, turns = recorded(3e-6, cuda)
    assert turns == 63
    before = cuda.now_s
    replay()
    assert cuda.now_s - before == pytest.approx(63 * 3e-6)


def test_never_more_than_a_hundred(cuda) -> None:
    cuda.launch_s = 1e-6
    try:
        assert recorded(1e-6, cuda)[1] == 100
    finally:
        cuda.launch_s = 8e-6


def test_all_graphs_share_one_pool(cuda) -> None:
    cuda.turn_s = 1e-3
    graphs = Graphs()
    for name in ("q", "k", "v"):
        graphs.of(name, turn)
    assert len(set(map(id, cuda.pools))) == 1


def test_what_cannot_be_recorded_runs_as_it_is_and_is_named(cuda) -> None:
    def routed() -> None:
        counted[0] += 1
        if counted[0] > 3:  # the first three warm up, on a stream that records nothing
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    graphs = Graphs()
    assert graphs.of("decode experts", routed) == (routed, 1)
    assert graphs.failed == {"decode experts": "operation not permitted when stream is capturing"}
    assert cuda.synchronised == 1


def test_too_little_memory_is_not_taken_for_that(cuda) -> None:
    def large() -> None:
        counted[0] += 1
        if counted[0] > 3:
            raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Graphs().of("prefill ffn", large)
