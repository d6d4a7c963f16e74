"""What is recorded of a machine, and that no secret is."""

import json

import pytest

from engine.results.environment import command_line, environment, without_secrets


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["/usr/bin/engine", "run", "spec.yaml"], "engine run spec.yaml"),
        (["engine", "--token", "hunter2", "x"], "engine --token *** x"),
        (["engine", "--api-key=hunter2"], "engine --api-key=***"),
        (["engine", "--set", "target.password=hunter2"], "engine --set target.password=***"),
        (["engine", "--set", "target.api_key_env=NAME"], "engine --set target.api_key_env=NAME"),
        (["engine", "--token", "--quiet"], "engine --token --quiet"),
        (["engine", "http://me:hunter2@host/v1"], "engine http://***@host/v1"),
        (["engine", "https://host/v1?a=1&api_key=hunter2"], "engine https://host/v1?a=1&api_key=***"),
        (["engine", "hf_abcdefghijklmnop"], "engine ***"),
        (["engine", "--set", "name=sk-short"], "engine --set name=sk-short"),
    ],
)
def test_the_command_is_told_without_secrets(given, shown):
    assert command_line(given) == shown


def test_lines_of_a_log_are_cleaned():
    line = "GET https://user:pw@host/x?token=abc Authorization sk-abcdefghijkl"
    assert without_secrets(line) == "GET https://***@host/x?token=*** Authorization ***"


def test_the_environment_is_an_allow_list(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "canary-in-the-environment")
    monkeypatch.setattr("sys.argv", ["engine", "--api-key", "canary-on-the-line"])
    found = environment(spec=tmp_path / "spec.yaml", seed=7)
    assert "canary" not in json.dumps(found)
    assert found["command"] == "engine --api-key ***"
    assert found["seed"] == 7
    assert found["spec_repository"] is None
    assert set(found) == {
        "engine", "python", "packages", "platform", "machine", "host", "cpu", "cpu_count", "memory_bytes",
        "gpus", "spec_repository", "command", "seed", "started", "ended", "exit_code",
    }  # fmt: skip
    assert found["packages"]["numpy"] is not None
