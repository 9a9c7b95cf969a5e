"""A Redis on which no daemon starts, for it would lose what is written."""

from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from common.errors import CannotStart
from common.redis_connection import check_redis, open_redis
from sluice.server import free_port
from tests.waiting import until


async def refusal(redis: Redis, *, disposable: bool = False) -> str:
    with pytest.raises(CannotStart) as refused:
        await check_redis(redis, disposable=disposable)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("disposable", [True, False])
@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-ttl"])
async def test_a_redis_that_evicts_is_refused(own_redis: Redis, policy: str, disposable: bool) -> None:
    await own_redis.config_set("maxmemory-policy", policy)
    assert f"maxmemory-policy {policy}" in await refusal(own_redis, disposable=disposable)


async def test_a_redis_without_a_log_is_refused_unless_the_data_is_disposable(own_redis: Redis) -> None:
    await own_redis.config_set("appendonly", "no")
    try:
        assert "appendonly yes" in await refusal(own_redis)
        await check_redis(own_redis, disposable=True)
    finally:
        await own_redis.config_set("appendonly", "yes")
    await check_redis(own_redis, disposable=False)
    await until(lambda: has_its_log(own_redis))  # it does not end before


async def has_its_log(redis: Redis) -> bool:
    about = await redis.info("persistence")
    return not (about["aof_rewrite_in_progress"] or about["aof_rewrite_scheduled"])


async def test_a_redis_that_is_not_there_is_refused() -> None:
    async with open_redis(f"redis://127.0.0.1:{free_port()}") as nobody:
        assert "redis does not answer" in await refusal(nobody)


async def test_a_wrong_password_is_refused_and_not_shown(own_redis_server: str) -> None:
    server = urlsplit(own_redis_server)
    async with open_redis(f"redis://:hunter2@127.0.0.1:{server.port}") as stranger:
        said = await refusal(stranger)
        assert "redis does not answer" in said
        assert "hunter2" not in said


def test_a_url_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(CannotStart, match="REDIS_URL cannot be read"):
        open_redis("localhost:6379")
