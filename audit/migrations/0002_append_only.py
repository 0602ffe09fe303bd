from django.db import migrations

POSTGRESQL = """
CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'auditevent_append_only: the record is never changed' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER auditevent_append_only BEFORE UPDATE OR DELETE ON audit_auditevent
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_change();
"""
SQLITE = [
    f"""
    CREATE TRIGGER auditevent_append_only_{act.lower()} BEFORE {act} ON audit_auditevent
    BEGIN SELECT RAISE(ABORT, 'auditevent_append_only: the record is never changed'); END
    """
    for act in ("UPDATE", "DELETE")
]


def add_triggers(apps, schema_editor):
    for statement in [POSTGRESQL] if schema_editor.connection.vendor == "postgresql" else SQLITE:
        schema_editor.execute(statement, params=None)


def remove_triggers(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION audit_refuse_change CASCADE")
    else:
        schema_editor.execute("DROP TRIGGER auditevent_append_only_update")
        schema_editor.execute("DROP TRIGGER auditevent_append_only_delete")


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = [migrations.RunPython(add_triggers, remove_triggers)]
