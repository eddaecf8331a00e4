import pytest

from llmgateway.caller import ANYONE, Caller
from llmgateway.documents_api.shelves.viewer import Viewer
from llmgateway.errors import PermissionDeniedError

ACME = Viewer(caller=Caller(kind="client", key_id="k", organization="acme"), organization="acme")


def test_somebody_sees_what_is_everybodys_and_the_own() -> None:
    assert [ACME.sees(owner) for owner in (None, "acme", "beta")] == [True, True, False]
    nobody = Viewer(caller=ANYONE, organization=None)
    assert [nobody.sees(owner) for owner in (None, "acme")] == [True, False]
    everyone = Viewer(caller=ANYONE, organization=None, everyone=True)
    assert everyone.sees("beta")


def test_what_is_everybodys_is_changed_by_administrators_only() -> None:
    ACME.check_may_change("acme", "prompt")
    with pytest.raises(PermissionDeniedError, match="This prompt is everybody's"):
        ACME.check_may_change(None, "prompt")
    Viewer(caller=ANYONE, organization=None, may_administer=True).check_may_change(None, "prompt")


def test_a_deed_says_who_it_was() -> None:
    local = Viewer(caller=ANYONE, organization="acme", may_administer=True)
    anyone = Viewer(caller=ANYONE, organization="acme")

    assert [viewer.deed("a", "s", "acme").actor for viewer in (ACME, local, anyone)] == ["k", "local", "anyone"]
    assert ACME.deed("a", "s", "acme", {"x": 1}).details == {"x": 1}
