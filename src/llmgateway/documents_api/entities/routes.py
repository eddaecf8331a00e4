"""Every path of services and their parts, in the order in which they are looked at."""

from starlette.routing import Route

from llmgateway.documents_api.entities import blueprints, flavors, prompts, services, trials, types
from llmgateway.documents_api.shelves.keeping import Keeping
from llmgateway.jobs.seams import Ask, Record


def routes(keeping: Keeping, ask: Ask, record: Record) -> list[Route]:
    """Give the routes.

    Args:
        ask: Answers one call of a model as everybody's are answered.
        record: Writes its exchange down.
    """
    return [
        *services.routes(keeping),
        # Before `/flavors/{id}`, which would take its path for an id.
        *trials.routes(keeping, ask, record),
        *flavors.routes(keeping),
        *prompts.routes(keeping),
        *types.routes(keeping),
        *blueprints.routes(keeping, flavors.Flavors(keeping)),
    ]
