"""A foreign key over several columns, as a named model constraint on PostgreSQL and SQLite alike.

What lies in different tables must lie in one environment, and often in one tenant. No check constraint sees across
tables, so each row repeats the id and a composite foreign key proves it. Columns that are NULL switch the key off, as
in SQL's MATCH SIMPLE.
"""

from django.db.models import BaseConstraint


class CompositeForeignKey(BaseConstraint):
    """`fields[0]` is a ForeignKey to the other model; the pairs `fields` → `to_fields` must exist there together."""

    def __init__(self, *, fields: tuple[str, ...], to_fields: tuple[str, ...], name: str) -> None:
        super().__init__(name=name)
        self.fields = tuple(fields)
        self.to_fields = tuple(to_fields)

    def constraint_sql(self, model, schema_editor) -> str:
        quote = schema_editor.quote_name
        # The relation leads to the other table: a state of the model made for altering a SQLite table knows no other.
        other = model._meta.get_field(self.fields[0]).remote_field.model._meta
        own = ", ".join(quote(model._meta.get_field(field).column) for field in self.fields)
        theirs = ", ".join(quote(other.get_field(field).column) for field in self.to_fields)
        return f"CONSTRAINT {quote(self.name)} FOREIGN KEY ({own}) REFERENCES {quote(other.db_table)} ({theirs})"

    def create_sql(self, model, schema_editor) -> str:
        table = schema_editor.quote_name(model._meta.db_table)
        return f"ALTER TABLE {table} ADD {self.constraint_sql(model, schema_editor)}"

    def remove_sql(self, model, schema_editor) -> str:
        quote = schema_editor.quote_name
        return f"ALTER TABLE {quote(model._meta.db_table)} DROP CONSTRAINT {quote(self.name)}"

    def validate(self, model, instance, exclude=None, using=None) -> None:
        """Nothing to ask beforehand: the database answers, under its own locks."""

    def deconstruct(self):
        path, args, kwargs = super().deconstruct()
        return path, args, {**kwargs, "fields": self.fields, "to_fields": self.to_fields}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CompositeForeignKey):
            return NotImplemented
        return self.deconstruct() == other.deconstruct()

    def __hash__(self) -> int:
        return hash((self.name, self.fields, self.to_fields))
