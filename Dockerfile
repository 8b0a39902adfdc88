# One image for web, worker, beat and migrations; docker-compose.yml shows the commands.

FROM python:3.11-slim-bookworm AS dependencies
RUN pip install --no-cache-dir uv
WORKDIR /build
COPY requirements/runtime.txt .
RUN python -m venv /opt/venv \
    && VIRTUAL_ENV=/opt/venv uv pip sync --no-cache --require-hashes --compile-bytecode runtime.txt


FROM python:3.11-slim-bookworm AS runtime
RUN apt-get update \
    && apt-get install --no-install-recommends --yes \
        libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu-core \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin munim
COPY --from=dependencies /opt/venv /opt/venv
WORKDIR /srv/munim
COPY --chown=root:root . .
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MUNIM_ENV=production \
    MUNIM_VAR_DIR=/srv/munim/var \
    MUNIM_READY_DIR=/tmp/ready
# Nothing is compiled while it runs: without this every process would read all of its source anew at each start.
RUN python -m compileall -q --invalidation-mode unchecked-hash .
# Collecting static files needs settings, not secrets: these values exist in this one step only.
RUN mkdir -p var/media var/static var/simulator && chown -R munim var \
    && SECRET_KEY=$(python -c "import secrets; print(secrets.token_urlsafe(50))") \
       FIELD_ENCRYPTION_KEYS=$(python -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())") \
       DATABASE_URL=postgres://build/build \
       REDIS_URL=redis://build ALLOWED_HOSTS=build EMAIL_URL=smtp://build PUBLIC_URL=http://build \
       python manage.py collectstatic --no-input --verbosity 0
USER munim
VOLUME /srv/munim/var/media
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--no-ws", \
     "--workers", "2", "--blocking-threads", "1", "--respawn-failed-workers", "config.wsgi:application"]
