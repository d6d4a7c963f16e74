"""Short names where they say enough."""

from engine.report.labels import short_labels


def test_overridden_fields_are_left_out_where_the_bare_name_is_enough() -> None:
    assert short_labels(["a100{price=2 USD/h}", "h100"]) == {"a100{price=2 USD/h}": "a100"}


def test_two_variants_of_one_device_keep_their_names() -> None:
    assert short_labels(["a100{price=2 USD/h}", "a100{price=3 USD/h}", "a100"]) == {}
    assert short_labels(["a100{price=2 USD/h}", "a100"]) == {}


def test_names_without_fields_and_names_of_fields_alone_stay() -> None:
    assert short_labels(["{x=1}", "l4", "open{"]) == {}
