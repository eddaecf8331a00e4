from pathlib import Path

from llmgateway.catalog.building.joint import Joint
from llmgateway.catalog.model import Account
from llmgateway.catalog.rows import DeploymentFields, Rows


def joint_of(*rows: DeploymentFields) -> Joint:
    joint = Joint({"main": Account("main", "groq", "openai", api_key="k")}, {}, ["main"], Path())
    joint.join(Rows({}, rows), {}, {})
    return joint


def test_rows_of_one_name_are_one_model() -> None:
    joint = joint_of(
        *(DeploymentFields(f"dep_{n}", "chat", {"provider": "main", "model": f"m{n}", "weight": n}) for n in (1, 2))
    )

    assert [(one.row_id, one.model, one.weight) for one in joint.models["chat"].deployments] == [
        ("dep_1", "m1", 1),
        ("dep_2", "m2", 2),
    ]
    assert joint.models["chat"].in_catalog
    assert joint.origins == {"main": "file", "demo": "built_in"}


def test_a_row_cannot_take_a_name_of_the_gateways_own() -> None:
    joint = joint_of(DeploymentFields("dep_1", "auto", {"provider": "main", "model": "x"}))

    assert joint.models == {}
    (warning,) = joint.warnings
    assert warning.startswith("database: deployments.dep_1: 'auto' is the name under which the gateway picks among")
    assert warning.endswith("choose another name; it is left out")
