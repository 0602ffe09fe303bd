"""For whatever watches over the process: alive, ready, and the counters."""

import hmac
import os

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, multiprocess
from prometheus_client.registry import REGISTRY

from apitokens.models import SigningKey
from tenants.models import Environment


@never_cache
@require_safe
def alive(request: HttpRequest) -> HttpResponse:
    """The process answers; nothing else is asked."""
    return HttpResponse("ok", content_type="text/plain")


@never_cache
@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """200 when it can do its work: the database answers, is migrated, and every environment has a key that signs."""
    checks = {"database": False, "migrations": False, "signing_keys": False}
    try:
        connection.ensure_connection()
        checks["database"] = True
        executor = MigrationExecutor(connection)
        checks["migrations"] = not executor.migration_plan(executor.loader.graph.leaf_nodes())
        active = SigningKey.objects.filter(state=SigningKey.State.ACTIVE).values("environment")
        checks["signing_keys"] = not Environment.objects.filter(deleted_at=None).exclude(pk__in=active).exists()
    except (DatabaseError, InterfaceError):
        pass
    return JsonResponse(checks, status=200 if all(checks.values()) else 503)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text over all workers, for who holds the metrics token; without one there is no such page."""
    presented = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not settings.METRICS_TOKEN:
        raise Http404
    if not hmac.compare_digest(presented.encode(), settings.METRICS_TOKEN.encode()):
        return HttpResponse("", status=401, headers={"WWW-Authenticate": 'Bearer realm="metrics"'})
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
