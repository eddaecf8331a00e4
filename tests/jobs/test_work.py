from llmgateway.documents.recipe import Batch, Extras, Plan, Recipe
from llmgateway.flavor import Flavor
from llmgateway.jobs.work import Work, work_from


def test_work_is_read_back_as_it_was() -> None:
    settings = Flavor(model="chat", output_schema={"type": "object"}, stop=("END",), custom_params={"seed": 1})
    recipe = Recipe(
        flavor_id="f",
        flavor_name="iterative",
        settings=settings,
        model="chat",
        context_length=8192,
        max_generation=2048,
    )
    plan = Plan(
        mode="iterative",
        batches=(Batch(0, 5, 3, 1, "Anna"), Batch(5, 9, 2, 1)),
        input_tokens=5,
        prompt_tokens=7,
        available=900,
    )
    work = Work(recipes=(recipe, recipe), plan=plan, at=1, extras=Extras(instructions="Brief {{document}} %s"))

    assert work_from(work.encoded()) == work
    assert work.recipe is work.recipes[1]
    assert plan.turns == 2
