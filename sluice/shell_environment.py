"""A file for the shell: with it, commands in another terminal find what `sluice demo` or `sluice up` has started."""

import shlex
from pathlib import Path

from sluice.pipeline import Pipeline


def environment_file(pipeline: Pipeline, *, recorded: bool) -> Path:
    """For our user alone, since addresses hold passwords; it goes with the folder of the pipeline's logs."""
    wiring = pipeline.wiring
    environ = {
        "SLUICE_TARGETS": ",".join(pipeline.addresses()),
        "SLUICE_RECORDED": "1" if recorded else "",
        "REDIS_URL": wiring.redis_url,
        "DATABASE_URL": wiring.database_url,
        "DATABASE_SCHEMA": wiring.schema,
        "PLC_URL": wiring.upstream.plc_url,
        "OUTBOUND_ALLOW": wiring.upstream.outbound_allow,
    }
    path = wiring.folder / "environment"
    path.touch(mode=0o600)
    path.write_text("".join(f"export {name}={shlex.quote(text)}\n" for name, text in environ.items() if text))
    return path
