"""`engine completion`: tab completion for the user's shell."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL. For bash: eval "$(engine completion bash)" in ~/.bashrc."""
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    if script is None:
        raise click.ClickException(f"no completion for {shell}")
    click.echo(script(ctx.find_root().command, {}, "engine", "_ENGINE_COMPLETE").source())
