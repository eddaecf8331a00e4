# syntax=docker/dockerfile:1
FROM python:3.13-slim-bookworm AS build
WORKDIR /build
COPY requirements-build.lock requirements.lock ./
RUN python -m venv tools \
    && tools/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock \
    && python -m venv --without-pip /opt/llmgateway \
    && tools/bin/uv pip install --no-cache --compile-bytecode --python /opt/llmgateway/bin/python \
       --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN tools/bin/hatchling build -t wheel \
    && tools/bin/uv pip install --no-cache --compile-bytecode --no-deps --python /opt/llmgateway/bin/python dist/*.whl

FROM python:3.13-slim-bookworm
RUN groupadd --gid 10001 llmgateway \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin llmgateway \
    && mkdir -p /data /etc/llmgateway \
    && chown llmgateway:llmgateway /data
COPY --from=build /opt/llmgateway /opt/llmgateway
# The address inside the container; publish the port only where the gateway should be reachable. A worker listens on
# 8001 (`llmgateway worker`), and has a check of its own: docker-compose.yml.
ENV PATH=/opt/llmgateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LLMGATEWAY_HOST=0.0.0.0 \
    LLMGATEWAY_DATA_DIR=/data
# A gateway.yaml here is the catalog; without one the demo models and every provider whose key is set are on offer.
WORKDIR /etc/llmgateway
VOLUME /data
USER 10001:10001
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
ENTRYPOINT ["llmgateway"]
CMD ["serve"]
