import dataclasses

from llmgateway.catalog.model import Model
from llmgateway.routing.choosing.routes import Routes
from llmgateway.routing.health.book import HealthBook
from tests.deployments import deployment

CHAT = Model("chat", (deployment("one"), deployment("two")))


def test_a_model_has_one_route_with_its_candidates_in_the_catalogs_order() -> None:
    routes = Routes(book := HealthBook(), first_turn=7)

    route = routes.of(CHAT)

    assert routes.of(CHAT) is route
    assert (route.model, route.turn) == (CHAT, 7)
    assert [one.name for one in route.pool.candidates] == ["one/gpt-4o", "two/gpt-4o"]
    assert [one.health for one in route.pool.candidates] == [book.of(one) for one in CHAT.deployments]


def test_after_a_reload_turns_and_health_go_on_with_the_new_deployments() -> None:
    routes = Routes(HealthBook(), first_turn=7)
    before = routes.of(CHAT)
    before.turn += 5

    after = routes.of(dataclasses.replace(CHAT, deployments=(deployment("two"), deployment("three"))))

    assert after.turn == 12
    assert [one.name for one in after.pool.candidates] == ["two/gpt-4o", "three/gpt-4o"]
    assert after.pool.candidates[0].health is before.pool.candidates[1].health


def test_models_that_share_a_deployment_share_its_health_and_nothing_else() -> None:
    routes = Routes(HealthBook(), first_turn=7)

    one, alias = routes.of(CHAT), routes.of(dataclasses.replace(CHAT, name="alias"))

    assert one.pool.candidates[0].health is alias.pool.candidates[0].health
    assert one is not alias


def test_processes_do_not_walk_in_step() -> None:
    assert len({Routes(HealthBook()).of(CHAT).turn for _ in range(5)}) > 1


def test_names_that_clients_make_up_do_not_fill_the_memory() -> None:
    routes = Routes(HealthBook(), first_turn=0)

    for number in range(20_000):
        routes.of(dataclasses.replace(CHAT, name=f"openai/{number}"))

    assert len(routes) <= 8192
