# Not exercised by CI, which has no container engine.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv/tallystick

COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements.txt

COPY . .
# Collecting static files loads the settings, which refuse to load without keys; these live for this one step.
RUN python -m config.keyfiles /tmp/keys \
    && SECRET_KEY="$(cat /tmp/keys/secret-key)" PEPPERS="$(cat /tmp/keys/peppers)" \
       KEY_ENCRYPTION_KEYS="$(cat /tmp/keys/key-encryption-keys)" python manage.py collectstatic --noinput \
    && rm -r /tmp/keys

RUN useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin tallystick \
    && chown -R tallystick var
USER tallystick

EXPOSE 8000
CMD ["python", "manage.py", "serve", "--host", "0.0.0.0"]
