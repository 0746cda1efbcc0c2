FROM python:3.13-slim

WORKDIR /app
COPY pyproject.toml requirements.lock requirements-fast.lock requirements-replicas.lock README.md LICENSE config.json config.schema.json ./
COPY droid2api droid2api

# 1000 is the first user's number on most Linux hosts: its files in a mounted ./data can then be written
RUN pip install --no-cache-dir --require-hashes --requirement requirements.lock --requirement requirements-fast.lock \
    && pip install --no-cache-dir --no-deps . \
    && useradd --uid 1000 --create-home droid \
    && install -d -o droid -g droid -m 700 data

# With `--build-arg EXTRAS=replicas` also what several gateways need that share a token (docs/operations.md)
ARG EXTRAS=
RUN test -z "$EXTRAS" || pip install --no-cache-dir --require-hashes --requirement "requirements-$EXTRAS.lock"

USER droid
ENV HOST=0.0.0.0 PORT=3000 DROID2API_DATA=/app/data DROID2API_CONFIG=/app/config.json
EXPOSE 3000

HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["python", "-c", "import http.client, os, sys; gateway = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); gateway.request('GET', '/health'); sys.exit(gateway.getresponse().status != 200)"]

CMD ["droid2api"]
