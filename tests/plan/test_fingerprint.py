"""Golden values: when one moves, everything measured so far is measured again, so move them knowingly."""

from pydantic import BaseModel

from engine.plan.fingerprint import digest_of, fingerprint


class Settled(BaseModel):
    """Stands for a catalogue entry."""

    name: str = "board"
    memory: float = 80e9
    notes: str | None = None


def test_fingerprints_hold_still():
    assert fingerprint() == "b9bd334d551c1e72e8b5b164c93ea00a"
    assert fingerprint("a", 1, 2.5, None, True, ["b", {"c": 3}]) == "6d344c06c710f5aa5e95d99893c9306e"
    assert fingerprint(Settled()) == "e60e275ee53ef86e7b97e1b642bf34b0"
    assert digest_of(["a", "b"]) == "71d38bc79bc4621abb6e3fd4673e0fdf"


def test_remarks_are_not_covered():
    assert fingerprint(Settled(notes="read the data sheet")) == fingerprint(Settled())
    assert fingerprint(Settled(memory=81e9)) != fingerprint(Settled())


def test_a_new_optional_field_changes_nothing_until_it_is_used():
    class Grown(Settled):
        """The same entry in a later engine."""

        power: float | None = None

    assert fingerprint(Grown()) == fingerprint(Settled())
    assert fingerprint(Grown(power=700.0)) != fingerprint(Settled())


def test_keys_have_no_order_and_lists_do():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])


def test_numbers_and_texts_differ():
    assert len({fingerprint(1), fingerprint("1"), fingerprint(True), fingerprint([1]), fingerprint(1.5)}) == 5
