# evomem serve in a container: docs/operations/containers.md
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/evomem
COPY constraints.txt ./
RUN /opt/evomem/bin/pip install --no-cache-dir --constraint constraints.txt \
    --index-url https://download.pytorch.org/whl/cpu torch
COPY pyproject.toml README.md LICENSE ./
COPY evomem ./evomem
COPY stores ./stores
COPY integrations ./integrations
RUN /opt/evomem/bin/pip install --no-cache-dir --constraint constraints.txt \
    '.[cpu,mcp,postgres,server]'

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /data evomem \
    && install --directory --owner=evomem --mode=0700 /data
COPY --from=build /opt/evomem /opt/evomem
ENV PATH=/opt/evomem/bin:$PATH HOME=/data EVOMEM_DB=/data/evomem.db HF_HUB_OFFLINE=1 MALLOC_ARENA_MAX=1
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8377
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --start-period=60s CMD ["python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8377/health/ready', timeout=8)"]
ENTRYPOINT ["evomem"]
CMD ["serve", "--host", "0.0.0.0", "--behind-proxy", "--name", "localhost"]
