"""The pretend NVML, built from C and loaded by the real nvidia-ml-py."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.measure.energy.nvml import Nvml

SOURCE = Path(__file__).with_name("nvml_fake.c")


class FakeNvml:
    """What a test sets and asks; the calls under test go through `pynvml`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        library.fake_set.argtypes = [ctypes.c_char_p, ctypes.c_double]
        library.fake_time.argtypes = [ctypes.c_double]
        library.fake_true_j.argtypes = [ctypes.c_double]
        library.fake_true_j.restype = ctypes.c_double
        library.fake_power.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        library.fake_work.argtypes = [ctypes.c_double] * 4
        library.fake_read_many.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 3]
        self.now_s = 0.0

    def reset(self) -> None:
        self.library.fake_reset()
        self.now_s = 0.0

    def set(self, **settings: float) -> None:
        for name, value in settings.items():
            assert self.library.fake_set(name.encode(), float(value)) == 0, name

    def power(self, *pieces: tuple[float, float]) -> None:
        """True power: (until, watts) in order; the last piece goes on for ever."""
        import numpy as np

        until = np.array([piece[0] for piece in pieces], dtype=np.float64)
        watts = np.array([piece[1] for piece in pieces], dtype=np.float64)
        self.power_arrays(until, watts)

    def power_arrays(self, until, watts) -> None:
        import numpy as np

        until = np.ascontiguousarray(until, dtype=np.float64)
        watts = np.ascontiguousarray(watts, dtype=np.float64)
        assert self.library.fake_power(len(until), until.ctypes.data, watts.ctypes.data) == 0

    def work(self, begin_s: float, end_s: float, watts: float, *, idle_w: float = 80.0) -> None:
        """Work as it is done, idle before and after it."""
        assert self.library.fake_work(begin_s, end_s, watts, idle_w) == 0

    def true_j(self, begin_s: float, end_s: float) -> float:
        return float(self.library.fake_true_j(end_s) - self.library.fake_true_j(begin_s))

    def read_many(self, times):
        """(counter, power) at each time, as the single calls would give them."""
        import numpy as np

        times = np.ascontiguousarray(times, dtype=np.float64)
        counter, power = np.empty(len(times)), np.empty(len(times))
        self.library.fake_read_many(len(times), times.ctypes.data, counter.ctypes.data, power.ctypes.data)
        return counter, power

    # It is the clock of a simulated campaign as well.
    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.move_to(self.now_s + max(seconds, 0.0))

    def move_to(self, moment_s: float) -> None:
        self.now_s = moment_s
        self.library.fake_time(moment_s)


@pytest.fixture(scope="session")
def fake_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared library, under the name and SONAME of the real one."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no C compiler to build the pretend NVML with")
    path = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    subprocess.run(
        [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
         "-Wl,-soname,libnvidia-ml.so.1", "-o", str(path), str(SOURCE), "-lm"],
        check=True,
    )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def loaded(fake_library: Path) -> FakeNvml:
    # Loaded by its full path first: the linker then answers pynvml's own load by SONAME.
    if Path("/dev/nvidiactl").exists():
        pytest.skip("a real NVML may be loaded here")
    return FakeNvml(ctypes.CDLL(str(fake_library), mode=os.RTLD_GLOBAL))


@pytest.fixture
def nvml(loaded: FakeNvml) -> Iterator[FakeNvml]:
    """The pretend library with its usual settings and 80 W for ever."""
    loaded.reset()
    loaded.power((1.0, 80.0))
    yield loaded
    loaded.reset()


@pytest.fixture
def fake_environment(fake_library: Path, tmp_path: Path):
    """`(pieces, settings)` -> environment of a process that finds the pretend library."""

    def build(pieces: Sequence[tuple[float, float]], **settings: float) -> dict[str, str]:
        config = tmp_path / "fake_nvml.txt"
        lines = [f"{name} {value}" for name, value in settings.items()]
        lines += [f"piece {until} {watts}" for until, watts in pieces]
        config.write_text("\n".join(lines) + "\n")
        return {**os.environ, "LD_LIBRARY_PATH": str(fake_library.parent), "FAKE_NVML": str(config)}

    return build


@pytest.fixture
def source(nvml: FakeNvml) -> Iterator[Callable[..., Nvml]]:
    """Makes power sources on the pretend library, with settings of it; all are closed at the end."""
    opened: list[Nvml] = []

    def make(**settings: Any) -> Nvml:
        nvml.set(**settings)
        opened.append(Nvml())
        return opened[-1]

    yield make
    for one in opened:
        one.close()
