from typing import Annotated

from pydantic import BaseModel, Field

from llmgateway.documents_api.shelves.describing import (
    TEXT,
    Operation,
    bodies,
    operation,
    or_null,
    pages_of,
    ref,
    shape,
)


class ThingChange(BaseModel):
    """What may be said of a thing.

    Args:
        name: More, for whoever reads the code.
    """

    name: Annotated[str, Field(max_length=5)] = "x"


def test_a_body_is_described_by_what_checks_it() -> None:
    described = bodies([ThingChange], {"name": "Its name."})["ThingChange"]

    assert described["description"] == "What may be said of a thing."
    assert described["properties"] == {"name": {"maxLength": 5, "type": "string", "description": "Its name."}}


def test_what_may_be_null_says_so() -> None:
    assert or_null(TEXT) == {"type": ["string", "null"]}
    assert or_null(ref("Thing")) == {"anyOf": [{"$ref": "#/components/schemas/Thing"}, {"type": "null"}]}


def test_an_answer_has_all_its_fields_always() -> None:
    assert shape({"a": TEXT}, {}, "A thing.") == {
        "type": "object",
        "properties": {"a": TEXT},
        "required": ["a"],
        "description": "A thing.",
    }
    assert "items" in pages_of("Thing")["required"]


def test_an_operation_names_its_parameters_its_body_and_its_refusals() -> None:
    plain = operation("/things", Operation(id="listThings", tag="T", summary="List", answer="ThingList", is_list=True))
    body = (ThingChange, {"name": "y"})
    change = operation(
        "/things/{id}", Operation(id="changeThing", tag="T", summary="Change", answer="Thing", body=body)
    )

    assert [next(iter(one.values())) for one in plain["parameters"]][:2] == [
        "#/components/parameters/Page",
        "#/components/parameters/PageSize",
    ]
    assert set(plain["responses"]) == {"200", "401", "403", "405", "422", "503"}
    assert set(change["responses"]) == {"200", "400", "401", "403", "404", "405", "409", "413", "422", "503"}
    assert change["requestBody"]["required"]
    assert change["parameters"][0]["name"] == "id"
