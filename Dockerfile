# Build: the wheel with the Rust extension, and a virtual environment from the lock file.
FROM rust:1.95-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake g++ make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock ./
RUN python3 -m venv /opt/gateway \
    && /opt/gateway/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY Cargo.toml Cargo.lock pyproject.toml README.md LICENSE ./
COPY rust rust
COPY benches benches
COPY python python
RUN /opt/gateway/bin/maturin build --release --locked --out /wheels \
    && /opt/gateway/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

# Run: Python, the environment, an unprivileged user. The embedded PostgreSQL keeps its data in /data.
FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data --create-home --shell /usr/sbin/nologin gateway
COPY --from=build /opt/gateway /opt/gateway
USER 10001
WORKDIR /data
ENV HOST=0.0.0.0 DATA_DIR=/data PYTHONUNBUFFERED=1 PATH=/opt/gateway/bin:$PATH
EXPOSE 3000/tcp 5060/udp 40000/udp 20000-29999/udp
VOLUME /data
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT', '3000')}/health/ready\", timeout=2)"]
ENTRYPOINT ["tini", "--", "telephony-gateway"]
CMD ["serve"]
