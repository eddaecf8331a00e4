import gc
import os
from pathlib import Path

import anyio
import pytest

from llmgateway.catalog.load import CatalogError
from llmgateway.catalog.rows import NO_ROWS, DeploymentFields, Rows
from llmgateway.catalog.source import CatalogSource, read_catalog

Event = tuple[str, dict[str, object]]
CHAT = """
providers: {main: {provider: openai, api_key: "${KEY}"}}
models:
  - {name: chat, deployments: [{provider: main, model: gpt-4o}]}
"""
FAULTY = "modells: []\n"
ROWS = Rows(
    {"house": {"provider": "groq", "api_key": "g"}},
    [DeploymentFields("dep_1", "chat", {"provider": "house", "model": "m"})],
)


class Told:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.first = anyio.Event()

    def __call__(self, event: str, /, **fields: object) -> None:
        self.events.append((event, fields))
        self.first.set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(CHAT)
    return path


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def source(path: Path, told: Told) -> CatalogSource:
    return CatalogSource(path, {"KEY": "k"}, told, poll_s=0.01)


def write(path: Path, text: str) -> None:
    path.write_text(text)


def replace_alike(path: Path, text: str) -> None:
    """Put another file of the same time and size in its place."""
    stat = path.stat()
    new = path.with_suffix(".new")
    new.write_text(text)
    os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    new.replace(path)
    assert path.stat().st_size == stat.st_size


async def test_pitfall_088_a_changed_file_is_served_within_two_seconds(path: Path, told: Told) -> None:
    source = CatalogSource(path, {"KEY": "k"}, told)
    before = source.current
    async with anyio.create_task_group() as group:
        group.start_soon(source.watch)
        write(path, CHAT.replace("name: chat", "name: renamed"))
        with anyio.fail_after(2):
            await told.first.wait()
        group.cancel_scope.cancel()

    assert source.current.resolve("renamed") is not None
    assert source.current.resolve("chat") is None
    assert before.resolve("chat") is not None, "a request that runs keeps the catalog it began with"
    assert [event for event, _ in told.events] == ["catalog_reloaded"]
    assert source.reloads == 1


async def test_pitfall_089_a_reload_changes_every_section(path: Path, source: CatalogSource) -> None:
    write(
        path,
        """
providers: {main: {provider: groq, api_key: new, timeout_s: 9, limits: {concurrent: 2}}, more: {provider: openai}}
models:
  - name: chat
    drop_unsupported: true
    defaults: {temperature: 1}
    deployments: [{provider: main, model: other, prices_per_million: {input: 1, output: 2}}]
  - {name: "more/*", passthrough: true}
limits: {operations: {chat: 1}}
integrations: {doc_store: {}}
""",
    )
    await source.look()

    deployment = source.current.models["chat"].deployments[0]
    account = deployment.account
    assert (account.provider, account.api_key, account.timeout_s, account.limits.concurrent) == ("groq", "new", 9, 2)
    assert (deployment.model, deployment.drop_unsupported, dict(deployment.defaults)) == (
        "other",
        True,
        {"temperature": 1},
    )
    assert deployment.prices is not None
    assert deployment.prices.output == 2e-06
    assert source.current.resolve("more/x") is not None
    assert [place.rpartition(" ")[2] for place in source.current.without_effect] == ["integrations"]
    assert source.current.limits.operations["chat"] == 1
    assert source.current.warnings != ()


async def test_pitfall_093_a_faulty_file_leaves_the_old_one_serving(
    path: Path, source: CatalogSource, told: Told
) -> None:
    before = source.current
    write(path, FAULTY)
    await source.look()

    assert source.current is before
    assert source.fault is not None
    assert f"{path}:1: modells: there is no such key; the nearest is `models`" in source.fault
    assert (source.failed_reloads, source.reloads) == (1, 0)
    event, fields = told.events[0]
    assert event == "catalog_reload_failed"
    assert fields["serving"] == before.version

    await source.look()
    assert source.failed_reloads == 1, "one and the same fault is told once"

    write(path, CHAT)
    await source.look()
    assert not source.fault
    assert source.reloads == 1
    assert source.current.version == before.version


async def test_pitfall_093_a_vanished_file_leaves_the_old_one_serving(path: Path, source: CatalogSource) -> None:
    await anyio.Path(path).unlink()
    await source.look()

    assert source.current.resolve("chat") is not None
    assert source.fault == f"{path}: there is no such file, or no longer; put it there"


async def test_a_missing_variable_in_a_new_file_leaves_the_old_one_serving(path: Path, source: CatalogSource) -> None:
    write(path, CHAT.replace("${KEY}", "${OTHER_KEY}"))
    await source.look()

    assert source.fault is not None
    assert "OTHER_KEY is not set" in source.fault
    assert source.current.accounts["main"].api_key == "k"


async def test_a_file_replaced_by_another_of_the_same_time_and_size_is_seen(path: Path, source: CatalogSource) -> None:
    replace_alike(path, CHAT.replace("gpt-4o", "gpt-4x"))
    await source.look()

    assert source.current.models["chat"].deployments[0].model == "gpt-4x"


async def test_a_requested_reload_reads_even_an_unchanged_file(source: CatalogSource, told: Told) -> None:
    before = source.current
    async with anyio.create_task_group() as group:
        group.start_soon(source.watch)
        source.request_reload()
        with anyio.fail_after(5):
            await told.first.wait()
        group.cancel_scope.cancel()

    assert source.current is not before
    assert source.current.version == before.version


async def test_a_file_that_comes_later_is_taken(tmp_path: Path, told: Told) -> None:
    source = CatalogSource(tmp_path / "gateway.yaml", {"KEY": "k", "GROQ_API_KEY": "g"}, told)
    assert source.current.resolve("groq/x") is not None

    write(tmp_path / "gateway.yaml", CHAT)
    await source.look()

    assert source.current.resolve("chat") is not None
    assert source.current.resolve("groq/x") is None


async def test_an_unchanged_file_is_not_read_again(source: CatalogSource, told: Told) -> None:
    before = source.current
    await source.look()

    assert source.current is before
    assert told.events == []


@pytest.mark.parametrize("times", [pytest.param(300, id="some"), pytest.param(1000, id="many", marks=pytest.mark.long)])
async def test_pitfall_066_hundreds_of_reloads_leave_nothing_behind(path: Path, times: int) -> None:
    source = CatalogSource(path, {"KEY": "k"}, lambda event, /, **fields: None)  # noqa: ARG005  # nobody listens

    async def reload(times: int) -> int:
        for n in range(times):
            write(path, FAULTY if n % 10 == 0 else CHAT)
            source.request_reload()
            await source.look()
        gc.collect()
        return len(gc.get_objects())

    before = await reload(20)
    after = await reload(times)

    assert after - before < 200
    assert (source.reloads, source.failed_reloads) == (18 + times * 9 // 10, 2 + times // 10)


async def test_rows_are_served_at_once_and_taken_away_again(source: CatalogSource, told: Told) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(source.watch)
        source.set_rows(ROWS)
        with anyio.fail_after(2):
            await told.first.wait()
        group.cancel_scope.cancel()
    assert len(source.current.models["chat"].deployments) == 2

    source.set_rows(NO_ROWS)
    await source.look()
    assert len(source.current.models["chat"].deployments) == 1
    assert [event for event, _ in told.events] == ["catalog_reloaded"] * 2


async def test_the_same_rows_again_are_no_news(source: CatalogSource) -> None:
    source.set_rows(ROWS)
    await source.look()
    served = source.current
    source.set_rows(Rows({**ROWS.providers}, [*ROWS.deployments]))
    await source.look()

    assert source.current is served


async def test_rows_are_taken_while_the_file_is_faulty(path: Path, source: CatalogSource) -> None:
    source.set_rows(ROWS)
    await source.look()
    write(path, FAULTY)
    await source.look()
    source.set_rows(NO_ROWS)
    await source.look()

    assert source.fault is not None
    assert "house" not in source.current.accounts
    assert len(source.current.models["chat"].deployments) == 1
    write(path, CHAT.replace("gpt-4o", "gpt-4.1"))
    await source.look()
    assert not source.fault
    assert source.current.models["chat"].deployments[0].model == "gpt-4.1"


async def test_a_changed_file_keeps_the_rows(path: Path, source: CatalogSource) -> None:
    source.set_rows(ROWS)
    await source.look()
    write(path, CHAT.replace("gpt-4o", "gpt-4.1"))
    await source.look()

    assert [one.model for one in source.current.models["chat"].deployments] == ["gpt-4.1", "m"]


async def test_a_row_that_is_left_out_is_told(source: CatalogSource, told: Told) -> None:
    source.set_rows(Rows({}, ROWS.deployments))
    await source.look()

    assert [event for event, _ in told.events] == ["catalog_reloaded", "catalog_warning"]
    assert "there is no provider 'house'" in str(told.events[1][1]["warning"])


def test_another_catalog_is_looked_at_without_being_served(source: CatalogSource) -> None:
    served = source.current
    assert source.preview(CHAT.replace("gpt-4o", "gpt-4.1")).version != served.version
    with pytest.raises(CatalogError, match=r"^gateway.yaml:1: modells"):
        source.preview(FAULTY)

    assert source.current is served
    assert source.hiding("${KEY}")("k") == "k", "in so little there is no secret"


def test_a_fault_at_the_start_is_raised(path: Path, told: Told) -> None:
    write(path, FAULTY)

    with pytest.raises(CatalogError, match="modells"):
        CatalogSource(path, {}, told)


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path, path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(CatalogError, match="UTF-8"):
        read_catalog(path, {})
    with pytest.raises(CatalogError, match="cannot be read"):
        read_catalog(tmp_path, {})
    with pytest.raises(CatalogError, match="no such file"):
        read_catalog(tmp_path / "none.yaml", {}, required=True)


async def test_the_catalog_is_whole_once_the_first_rows_are_served(source: CatalogSource) -> None:
    await source.look()
    assert not source.whole

    source.set_rows(ROWS)
    assert not source.whole
    await source.look()
    assert source.whole

    source.set_rows(NO_ROWS)
    assert source.whole


async def test_the_catalog_is_whole_when_there_are_no_rows(source: CatalogSource) -> None:
    source.set_rows(NO_ROWS)
    async with anyio.create_task_group() as group:
        group.start_soon(source.watch)
        with anyio.fail_after(5):
            while not source.whole:  # noqa: ASYNC110  nothing tells it
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
