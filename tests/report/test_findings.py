"""What several rows share is said once."""

from engine.report.findings import merged
from engine.report.page import Finding


def finding(text: str, *, point: str = "point 0", change: str = "") -> Finding:
    return Finding("busy", "warning", text, "", "", change, point)


def test_the_same_of_several_loads_is_one_finding() -> None:
    (found,) = merged(finding(f"concurrency {n}: others ran here too") for n in (1, 2, 4))
    assert found.finding == "Others ran here too"
    assert found.evidence == "In 3 rows: concurrency 1, concurrency 2, concurrency 4."
    assert found.point == "point 0"


def test_another_change_is_another_finding() -> None:
    assert len(merged([finding("a: x", change="1"), finding("a: x", change="2")])) == 2


def test_the_same_of_several_points_names_them() -> None:
    (found,) = merged([finding("too slow", point="point 1"), finding("too slow", point="point 2")])
    assert (found.evidence, found.point) == ("In 2 rows: point 1, point 2.", "")


def test_one_alone_stays_as_it_is() -> None:
    alone = finding("concurrency 1: others ran here too")
    assert merged([alone]) == (alone,)
