"""docs/cache-conformance.md says the truth: every requirement has a test, and the page is that of these tests."""

from tests.support.conformance_page import PAGE, covering, page
from tests.support.requirements import REQUIREMENTS


def test_every_requirement_has_a_test_or_a_reason() -> None:
    tests = covering()

    assert [each.id for each in REQUIREMENTS if bool(tests.get(each.id)) is bool(each.why_not)] == []


def test_tests_name_requirements_that_exist() -> None:
    assert covering().keys() - {each.id for each in REQUIREMENTS} == set()


def test_requirements_have_one_id_each() -> None:
    ids = [each.id for each in REQUIREMENTS]

    assert sorted(set(ids)) == sorted(ids)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(covering()), "run `python -m tests.support.conformance_page`"
