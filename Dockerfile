# One image for the three daemons: `docker run sluice ingester`.
# For a build that can be repeated, name the base by digest: --build-arg PYTHON=python@sha256:...
ARG PYTHON=python:3.13-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# Only here is anything downloaded, and nothing that the lock does not know the hash of. What follows installs from
# this folder alone, so the image holds what the daemons need and none of the tools that the lock also pins.
COPY requirements.lock ./
RUN pip download --require-hashes --only-binary :all: --requirement requirements.lock --dest /wheels
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
COPY . ./
# what `sluice --version` and sluice_build_info say: --build-arg COMMIT=$(git rev-parse HEAD)
ARG COMMIT=""
RUN SLUICE_COMMIT="${COMMIT}" pip wheel --no-deps --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/sluice \
    && pip --python /opt/sluice/bin/python install /wheels/sluice-*.whl

FROM ${PYTHON}
RUN groupadd --system --gid 10001 sluice \
    && useradd --system --uid 10001 --gid sluice --no-create-home --shell /usr/sbin/nologin sluice \
    && install --directory --owner 10001 --group 10001 --mode 0700 /spool
COPY --from=build /opt/sluice /opt/sluice
ENV PATH=/opt/sluice/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 4100 9090
# The ingester answers on 4100, the other two on 9090. Another METRICS_PORT needs another health check.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 \
    CMD ["python", "-c", "import socket, urllib.request as http\nport = 9090 if socket.socket().connect_ex(('127.0.0.1', 9090)) == 0 else 4100\nhttp.urlopen(f'http://127.0.0.1:{port}/healthz', timeout=4)"]
ENTRYPOINT ["sluice"]
