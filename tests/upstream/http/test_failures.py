import inspect

from llmgateway.upstream.http import failures


def test_every_failure_is_one_of_the_operating_systems_kind_and_is_listed() -> None:
    classes = [kind for _, kind in inspect.getmembers(failures, inspect.isclass)]

    assert all(issubclass(kind, ConnectionError) for kind in classes)
    assert failures.__doc__ is not None
    assert [kind.__name__ for kind in classes if kind.__name__ not in failures.__doc__] == []
    assert len(classes) == 5
