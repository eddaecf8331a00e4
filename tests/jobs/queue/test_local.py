from llmgateway.jobs.queue.local import LocalQueue


async def test_whoever_listens_is_woken_and_nobody_else_is_needed() -> None:
    queue, woken = LocalQueue(), list[int]()
    await queue.announce("before anybody listens")
    queue.listen(woken.append)

    await queue.announce("job")
    await queue.remind(["job", "another"])
    await queue.remind([])

    assert woken == [1, 2]
    assert await queue.check() is True
    await queue.close()
