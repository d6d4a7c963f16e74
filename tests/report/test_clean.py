"""What must not reach any output alive is taken out where a text enters."""

import pytest

from engine.report.clean import REMOVED, Redactor, clean_text, identifying_values


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\x1b[31mred\x1b[0m", "ared"),
        ("bell\x07 nul\x00 del\x7f", "bell nul del"),
        ("kept\ttab\nline", "kept\ttab\nline"),
        ("user\u202etxt", "user[U+202E]txt"),
        ("zero\u200bwidth", "zero[U+200B]width"),
        ("key sk-abcdefghijklmnop1234 end", f"key {REMOVED} end"),
        ("hf_abcdefghijklmnopqrst", REMOVED),
        ("Authorization: Bearer abc.def-ghi_jkl", f"Authorization: Bearer {REMOVED}"),
        ("https://me:hunter22@host/x", f"https://me:{REMOVED}@host/x"),
        ("api_key: s3cr3tvalue", f"api_key: {REMOVED}"),
        ("prompt_tokens: 2048", "prompt_tokens: 2048"),
        ("api_key_env: OPENAI_API_KEY", "api_key_env: OPENAI_API_KEY"),
    ],
)
def test_texts_are_cleaned(text: str, clean: str) -> None:
    assert clean_text(text) == clean


def test_a_very_long_text_is_cut_with_a_note() -> None:
    assert clean_text("x" * 200_010).endswith("\n[10 more characters]")


def test_sharing_leaves_out_hosts_paths_addresses_and_ids() -> None:
    known = identifying_values({"host": "rack7-node12", "cpu": "Some CPU", "gpus": {"uuid": "GPU-1"}})
    assert known == {"host": "rack7-node12", "gpus.uuid": "GPU-1"}
    redact = Redactor(share=True, known=known)
    text = "rack7-node12 10.0.0.7 /home/alice/x GPU-11111111-2222-3333-4444-555555555555 ok"
    assert redact.text(text) == "[left out] [address] [path] [id] ok"
    assert redact.entry("host", "rack7-node12").startswith("left out (#")
    assert redact.entry("cpu", "Some CPU") == "Some CPU"
    assert redact.entry("machine", "x86_64") == "x86_64"


def test_without_sharing_the_host_stays() -> None:
    assert Redactor(share=False).entry("host", "rack7") == "rack7"
