# The daemon with PostgreSQL and SkyPilot. Build: docker build -t arbiter .
# The base is pinned by version; a deployment that must be reproducible pins its digest as well.
ARG PYTHON=3.11.13-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /source
RUN pip install --no-cache-dir uv==0.13.9
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY arbiter arbiter
COPY providers providers
COPY templates templates
COPY migrations migrations
COPY data data
RUN uv build --wheel --out-dir /wheel \
    && uv venv /opt/arbiter \
    && wheel="$(echo /wheel/*.whl)" \
    && UV_LINK_MODE=copy uv pip install --no-cache --python /opt/arbiter/bin/python \
        "${wheel}[postgresql,skypilot]"

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="arbiter" \
      org.opencontainers.image.description="Keeps LLM servers on the cheapest GPU that the rules allow" \
      org.opencontainers.image.licenses="Apache-2.0"

# What SkyPilot calls to reach the machines that it starts.
# Debian keeps one version of a package: a pinned one would be gone with the next fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        curl netcat-openbsd openssh-client rsync socat \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 arbiter \
    && useradd --system --uid 10001 --gid 10001 --create-home --home-dir /var/lib/arbiter \
        --shell /usr/sbin/nologin arbiter

COPY --from=build /opt/arbiter /opt/arbiter
# The home holds the SQLite file, caches, and SkyPilot's own state with its keys.
ENV PATH=/opt/arbiter/bin:$PATH \
    HOME=/var/lib/arbiter \
    PYTHONUNBUFFERED=1 \
    ARBITER_DATA_DIR=/var/lib/arbiter \
    ARBITER_DAEMON__HOST=0.0.0.0
USER 10001:10001
WORKDIR /var/lib/arbiter
VOLUME /var/lib/arbiter
EXPOSE 8400
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8400/healthz', timeout=4)"]
ENTRYPOINT ["arbiter"]
CMD ["daemon"]
