"""What people install: the package with all that it needs, its version, its completion, and errors without secrets."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from common.build import version
from tests.commands import ROOT, daemon, run, sluice


def test_the_package_holds_all_that_is_no_python_and_its_commit(tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-cache-dir")
    subprocess.run(
        [*pip, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, env={"SLUICE_COMMIT": "0123456789abcdef"}
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        assert packed.read("common/COMMIT") == b"0123456789ab\n"
        scripts = packed.read(f"sluice-{version()}.dist-info/entry_points.txt").decode()
    assert "sluice = sluice.cli:main" in scripts
    folders = [ROOT / name for name in ("common", "ingester", "backfiller", "indexer", "sluice")]
    files = [
        path for folder in folders for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert {str(path.relative_to(ROOT)) for path in files} <= names
    assert not any(name.startswith("tests/") for name in names)


async def test_the_version_says_the_commit(tmp_path: Path) -> None:
    ended = await sluice("--version", folder=tmp_path)
    assert ended.code == 0
    assert re.fullmatch(rf"sluice {re.escape(version())} \(([0-9a-f]{{12}}\+?|unknown)\)\n", ended.out)


async def test_a_shell_can_complete_commands_and_options(tmp_path: Path) -> None:
    async def offered(words: str, number: int) -> list[str]:
        environ = {"_SLUICE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        program = "from sluice.cli import app; app(prog_name='sluice')"
        ended = await run(sys.executable, "-c", program, folder=tmp_path, environ=environ)
        return ended.out.split()

    assert await offered("sluice ver", 1) == ["verify"]
    assert "--prometheus" in await offered("sluice verify --pro", 2)


@pytest.mark.parametrize(
    ("module", "environ"),
    [
        ("ingester", {"REDIS_URL": "redis://:pa55/w0rd@host:x"}),
        ("indexer", {"REDIS_URL": "redis://:pa55/w0rd@host:x"}),
        ("backfiller", {"REDIS_URL": "redis://:pa55/w0rd@host:x", "BACKFILLER_CONSUMER": "one"}),
    ],
)
async def test_an_address_that_cannot_be_read_is_refused_without_its_password(
    module: str, environ: dict[str, str], tmp_path: Path
) -> None:
    ended = await daemon(module, tmp_path, environ)
    assert ended.code == 2
    assert "REDIS_URL cannot be read; it looks like redis://" in ended.error
    assert "pa55" not in ended.error
    assert "w0rd" not in ended.error


async def test_an_address_of_postgres_that_cannot_be_read_is_refused_without_its_password(
    redis_url: str, tmp_path: Path
) -> None:
    environ = {
        "DATABASE_URL": "postgres://me:pa55/w0rd@host:x/db",
        "REDIS_URL": redis_url,
        "DATA_IS_DISPOSABLE": "true",
    }
    for ended in (
        await daemon("indexer", tmp_path, environ),
        await sluice("migrate", folder=tmp_path, environ=environ),
        await sluice("explain", "did:plc:x", folder=tmp_path, environ=environ),
    ):
        assert ended.code == 2
        assert "DATABASE_URL cannot be read" in ended.error
        assert "pa55" not in ended.error
