"""`engine info`: what a model is and needs, computed from its shape, as Markdown."""

from __future__ import annotations

from pathlib import Path

import click

from engine.errors import UsageError


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--dtype", "-d", default="bf16", show_default=True, help="Number format of the catalogue.")
@click.option("--hardware", help="Device to predict throughput on; none is shown without one.")
@click.option("--prompt-toks", "-p", type=click.IntRange(1), default=512, show_default=True)
@click.option("--gen-toks", "-g", type=click.IntRange(1), default=128, show_default=True)
@click.option(
    "--concurrency", "-c", type=click.IntRange(1), multiple=True, default=(1, 2, 4), show_default=True
)
@click.option("--memory", metavar="SIZE", help="Device memory, e.g. `24 GB`: how many requests fit?")
@click.option("--overhead", default="0 GB", show_default=True, help="Memory of framework and context.")
@click.option("--claimed", metavar="SIZE", help="A size somebody states for the weights, to be checked.")
def info(
    models: tuple[str, ...],
    dtype: str,
    hardware: str | None,
    prompt_toks: int,
    gen_toks: int,
    concurrency: tuple[int, ...],
    memory: str | None,
    overhead: str,
    claimed: str | None,
) -> None:
    """Show what MODELS are and need: parameters, weights, cache, context, memory by concurrency."""
    from engine.measure.live.model_card import (
        active_claim,
        card_of,
        card_page,
        comparison_table,
        memory_table,
        most_requests,
        recommended_gb,
    )
    from engine.spec.catalog import load_model, load_quantization
    from engine.units import parse

    form = load_quantization(dtype)
    shapes = [load_model(name, search=[Path.cwd()]) for name in models]
    cards = [card_of(shape, form) for shape in shapes]
    tokens = prompt_toks + gen_toks
    for shape, card in zip(shapes, cards, strict=True):
        click.echo(card_page(card))
        click.echo(f"\nMemory at {tokens} tokens a request, overhead {overhead}:\n")
        click.echo("| Requests at once | Weights | Cache | Total | Device memory |\n|---|---|---|---|---|")
        for row in memory_table(shape, form, tokens_per_request=tokens, concurrency=concurrency,
                                overhead_bytes=parse(overhead, "bytes")):  # fmt: skip
            size = recommended_gb(row.total_bytes)
            click.echo(
                f"| {row.concurrency} | {row.weights_bytes / 1e9:.2f} GB | {row.cache_bytes / 1e9:.2f} GB "
                f"| {row.total_bytes / 1e9:.2f} GB | {f'{size} GB' if size else 'several devices'} |"
            )
        if memory is not None:
            count, limit = most_requests(
                shape, form, tokens_per_request=tokens, memory_bytes=parse(memory, "bytes")
            )
            click.echo(f"\nin {memory}: at most {count} requests of {tokens} tokens at once (limit: {limit})")
        if claimed is not None and (warning := active_claim(card, parse(claimed, "bytes"))):
            click.echo(warning)
        click.echo("")
    if len(cards) > 1:
        rates = [_rate(name, dtype, hardware, prompt_toks, gen_toks) for name in models]
        click.echo(comparison_table(cards, rates))


def _rate(model: str, dtype: str, hardware: str | None, prompt: int, output: int) -> str:
    """Predicted throughput of one request, with what it is."""
    if hardware is None:
        return "not measured"
    from engine.perfmodel.deployment import Deployment
    from engine.perfmodel.point import predict_point
    from engine.spec.catalog import load_hardware, load_model, load_quantization
    from engine.spec.workload import Workload

    deployment = Deployment(
        load_model(model, search=[Path.cwd()]), load_hardware(hardware, search=[Path.cwd()]),
        load_quantization(dtype),
    )  # fmt: skip
    try:
        found = predict_point(deployment, Workload(prompt_tokens=prompt, output_tokens=output))
    except UsageError:
        return "no prediction"
    if not found.fits:
        return f"does not fit {hardware}"
    return f"≤ {found.phases['request']['output_tokens_per_s']:.1f} tok/s on {hardware} (predicted bound)"
