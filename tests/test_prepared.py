"""A prepared query answers as the ORM's own does: only its SQL is kept, nothing of an answer."""

from datetime import timedelta

import pytest
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import CharField, DateTimeField
from django.utils import timezone

from apitokens.models import ApiToken
from apitokens.prepared import Given, Prepared
from apitokens.querysets import WITH_EVERYTHING, WITH_STANDING


def test_each_asking_has_values_and_an_answer_of_its_own(acme):
    one, other = (acme.issue("admin", name=name).token for name in ("One", "Other"))
    assert [WITH_STANDING.get(pk=token.pk).name for token in (one, other, one)] == ["One", "Other", "One"]
    ApiToken.objects.filter(pk=one.pk).update(name="Renamed")
    assert WITH_STANDING.get(pk=one.pk).name == "Renamed"
    one.delete()
    assert WITH_STANDING.first(pk=one.pk) is None
    with pytest.raises(ObjectDoesNotExist):
        WITH_STANDING.get(pk=one.pk)


def test_a_row_brings_what_the_query_joins_annotates_and_prefetches(acme, django_assert_num_queries):
    token = acme.issue("admin").token
    WITH_EVERYTHING.get(pk=token.pk)
    with django_assert_num_queries(2):
        found = WITH_EVERYTHING.get(pk=token.pk)
        told = (found.environment.slug, found.tenant.name, found.role_rows, [row.slot for row in found.held_versions])
    plain = ApiToken.objects.with_standing().with_last_four().with_versions().get(pk=token.pk)
    assert told == (plain.environment.slug, "Acme", plain.role_rows, [1])
    assert found.last_four == plain.last_four


def test_values_are_written_as_their_field_wants_them(acme):
    token = acme.issue("admin").token
    by_name = Prepared(
        lambda: ApiToken.objects.filter(name=Given("name", CharField()), created_at__lte=Given("at", DateTimeField()))
    )
    now = timezone.now()
    assert by_name.first(name=token.name, at=now) == token
    assert by_name.first(name=token.name, at=now - timedelta(hours=1)) is None
    assert by_name.first(name="' OR 1=1 --", at=now) is None


def test_a_value_that_is_missing_is_an_error_and_not_everything(acme):
    acme.issue("admin")
    with pytest.raises(KeyError):
        WITH_STANDING.first()
