"""All-reduce over the devices of this host, one process a device."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any, Final

_SIZES: Final = tuple(2**power for power in range(9, 29, 2))
_TRIALS: Final = 20


def all_reduce_rows(precision: str) -> Iterator[dict[str, Any]]:
    """Times of sums over 2, 4, 8... devices, as many as there are."""
    import torch
    import torch.multiprocessing as processes

    count = 2
    while count <= torch.cuda.device_count():
        manager = processes.Manager()
        found = manager.dict()
        processes.spawn(_worker, args=(count, precision, _free_port(), found), nprocs=count)
        for size in _SIZES:
            yield {
                "operator": "all_reduce",
                "message_bytes": float(size),
                "num_gpus": count,
                "time_s": found[size],
                "trials": _TRIALS,
            }
        count *= 2


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _worker(rank: int, count: int, precision: str, port: int, found: Any) -> None:
    import statistics

    import torch
    import torch.distributed as group

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.cuda.set_device(rank)
    group.init_process_group("nccl", rank=rank, world_size=count)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    for size in _SIZES:
        message = torch.zeros(size // dtype.itemsize, dtype=dtype, device=f"cuda:{rank}")
        times = []
        for _ in range(_TRIALS + 3):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            group.all_reduce(message)
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        if rank == 0:
            found[size] = statistics.median(times[3:])
    group.destroy_process_group()
