"""A slug stands in addresses that people keep: it never changes, and nobody else ever gets it."""

from django.db import migrations

KINDS = {"tenants_environment": "environment", "tenants_tenant": "tenant"}

POSTGRESQL = """
CREATE FUNCTION tenants_claim_slug() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tenants_takenslug (kind, slug) VALUES (TG_ARGV[0], NEW.slug);
    RETURN NULL;
END $$;
CREATE FUNCTION tenants_refuse_slug_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: a slug is for ever', TG_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER takenslug_never_released BEFORE UPDATE OR DELETE ON tenants_takenslug
    FOR EACH ROW EXECUTE FUNCTION tenants_refuse_slug_change();
"""
POSTGRESQL_TABLE = """
CREATE TRIGGER {kind}_slug_claimed AFTER INSERT ON {table}
    FOR EACH ROW EXECUTE FUNCTION tenants_claim_slug('{kind}');
CREATE TRIGGER {kind}_slug_immutable BEFORE UPDATE OF slug ON {table}
    FOR EACH ROW WHEN (OLD.slug <> NEW.slug) EXECUTE FUNCTION tenants_refuse_slug_change();
"""
SQLITE = [
    """
    CREATE TRIGGER takenslug_never_changed BEFORE UPDATE ON tenants_takenslug
    BEGIN SELECT RAISE(ABORT, 'takenslug_never_released: a slug is for ever'); END
    """,
    """
    CREATE TRIGGER takenslug_never_released BEFORE DELETE ON tenants_takenslug
    BEGIN SELECT RAISE(ABORT, 'takenslug_never_released: a slug is for ever'); END
    """,
]
SQLITE_TABLE = [
    """
    CREATE TRIGGER {kind}_slug_claimed AFTER INSERT ON {table}
    BEGIN INSERT INTO tenants_takenslug (kind, slug) VALUES ('{kind}', NEW.slug); END
    """,
    """
    CREATE TRIGGER {kind}_slug_immutable BEFORE UPDATE OF slug ON {table} WHEN OLD.slug <> NEW.slug
    BEGIN SELECT RAISE(ABORT, '{kind}_slug_immutable: a slug is for ever'); END
    """,
]


def add_triggers(apps, schema_editor):
    is_postgresql = schema_editor.connection.vendor == "postgresql"
    for statement in [POSTGRESQL] if is_postgresql else SQLITE:
        schema_editor.execute(statement, params=None)
    for table, kind in KINDS.items():
        for statement in [POSTGRESQL_TABLE] if is_postgresql else SQLITE_TABLE:
            schema_editor.execute(statement.format(table=table, kind=kind), params=None)


def remove_triggers(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION tenants_claim_slug CASCADE")
        schema_editor.execute("DROP FUNCTION tenants_refuse_slug_change CASCADE")
        return
    for name in ("takenslug_never_changed", "takenslug_never_released"):
        schema_editor.execute(f"DROP TRIGGER {name}")
    for kind in KINDS.values():
        schema_editor.execute(f"DROP TRIGGER {kind}_slug_claimed")
        schema_editor.execute(f"DROP TRIGGER {kind}_slug_immutable")


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]
    operations = [migrations.RunPython(add_triggers, remove_triggers)]
