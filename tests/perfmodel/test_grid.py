"""Blocks of points as products of axes: found where they are, and of no consequence for the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from engine.perfmodel.deployment import Deployment
from engine.perfmodel.grid import Column, grid_of
from engine.perfmodel.parameter_sets import choose
from engine.perfmodel.summary import CHUNK, WorkloadArrays, summarise
from engine.spec.catalog import load_calibrations, load_hardware, load_model, load_quantization
from engine.spec.model import Model
from tests.perfmodel.shapes import LATENT, LLAMA_8B, MIXTRAL, deploy

ZERO = np.zeros(1, dtype=np.int64)
BATCHES, OUTPUTS, PROMPTS = np.array([1, 4, 64]), np.array([1, 16, 300, 500]), np.arange(1, 41) * 37


def swept(*axes: Column) -> list[Column]:
    return [grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")]


def test_axes_of_a_product() -> None:
    found = grid_of([*swept(BATCHES, OUTPUTS, PROMPTS), ZERO], 480, 100)
    assert found.shape == (3, 4, 40)
    # Twelve combinations of the short axes leave room for 8 of 40 prompts in 100 points.
    assert found.order == (0, 1, 2)
    assert found.tile == (3, 4, 8)
    assert len(list(found.places())) == 5


def test_values_that_move_together_share_an_axis() -> None:
    first, second = swept(BATCHES, np.arange(5))
    assert grid_of([first, second * 10, second + 7], 15, 100).shape == (3, 5)


def test_a_column_over_two_axes_is_one_long_axis() -> None:
    # The second one comes again after 4 points, the first one after all 12 only.
    assert grid_of([np.arange(12), np.arange(12) % 4], 12, 100).shape == (3, 4)


@pytest.mark.parametrize(
    "column", [np.array([1, 2, 1, 2, 2, 1]), np.array([1, 1, 2, 2, 2, 1]), np.array([1, 1, 1, 1, 2, 1])]
)
def test_points_in_no_order_are_one_axis(column: Column) -> None:
    found = grid_of([column, np.arange(6) % 3], 6, 4)
    assert found.shape == (6,)
    assert [place[0].indices(6)[:2] for place in found.places()] == [(0, 4), (4, 6)]


def test_columns_keep_length_one_where_they_do_not_vary() -> None:
    batch, output, prompt = swept(BATCHES, OUTPUTS, PROMPTS)
    found = grid_of([batch, output, prompt], 480, 1000)
    assert [found.along(column).shape for column in (batch, output, prompt)] == [
        (3, 1, 1), (1, 4, 1), (1, 1, 40)
    ]  # fmt: skip
    assert found.along(prompt).ravel().tolist() == PROMPTS.tolist()


def test_the_longest_axis_is_innermost_in_a_tile() -> None:
    prompt, output, batch = swept(PROMPTS, OUTPUTS, BATCHES)
    found = grid_of([batch, output, prompt], 480, 1000)
    assert found.shape == (40, 4, 3)
    assert found.order == (2, 1, 0)
    assert found.along(batch).shape == (3, 1, 1)
    assert found.across(prompt)[2, 3].tolist() == PROMPTS.tolist()


def same_in_any_order(deployment: Deployment, columns: list[Column]) -> None:
    batch, output, prompt = columns
    mixed = np.random.default_rng(0).permutation(len(batch))
    whole = summarise(deployment, WorkloadArrays(prompt, output, batch, ZERO, ZERO, ZERO))
    shuffled = summarise(
        deployment, WorkloadArrays(prompt[mixed], output[mixed], batch[mixed], ZERO, ZERO, ZERO)
    )
    np.testing.assert_array_equal(whole.fits[mixed], shuffled.fits)
    np.testing.assert_array_equal(whole.beyond_context[mixed], shuffled.beyond_context)
    for phase, metrics in whole.phases.items():
        for name, values in metrics.items():
            other = shuffled.phases[phase][name]
            assert values.shape == other.shape
            np.testing.assert_allclose(values[mixed], other, rtol=1e-12, err_msg=f"{phase} {name}")


@pytest.mark.parametrize("model", [LLAMA_8B, MIXTRAL, LATENT], ids=lambda m: m.name)
def test_bounds_are_the_same_in_any_order(model: Model) -> None:
    same_in_any_order(deploy(model), swept(BATCHES, OUTPUTS, PROMPTS))


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v2-lite", "gemma-3-12b"])
def test_estimates_are_the_same_in_any_order(model: str) -> None:
    h100 = load_hardware("h100-sxm-80gb")
    chosen = choose("auto", h100, load_calibrations([h100]))
    made = Deployment(load_model(model), h100, load_quantization("bf16"), calibration=chosen)
    same_in_any_order(made, swept(PROMPTS, OUTPUTS, BATCHES))


def test_tiles_join_without_a_seam() -> None:
    # 12 combinations of 3000 prompts: tiles of 1365 prompts and one of 270.
    columns = swept(BATCHES, OUTPUTS, np.arange(1, 3001))
    assert grid_of(columns, len(columns[0]), CHUNK).tile == (3, 4, 1365)
    same_in_any_order(deploy(), columns)
