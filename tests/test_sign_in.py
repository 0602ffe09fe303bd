"""People sign in by e-mail and password; nobody signs up, and a vouched identity is out of a password's reach (R12)."""

import re

import pytest
from django.core import mail
from django.test import Client

from tests.cast import send
from tests.factories import UserFactory

PASSWORD = "correct horse battery staple"


@pytest.fixture
def local(db):
    user = UserFactory(email="pat@example.com")
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture
def visitor():
    return Client(enforce_csrf_checks=True)


@pytest.mark.parametrize(
    ("email", "password", "is_let_in"),
    [
        pytest.param("pat@example.com", PASSWORD, True, id="right"),
        pytest.param("PAT@example.com", PASSWORD, True, id="e-mail-in-other-case"),
        pytest.param("pat@example.com", "wrong", False, id="wrong-password"),
        pytest.param("nobody@example.com", PASSWORD, False, id="unknown"),
    ],
)
def test_a_person_signs_in_with_email_and_password(local, visitor, email, password, is_let_in):
    response = send(visitor, "/accounts/login/", login=email, password=password)
    assert (response.status_code == 302) == is_let_in
    assert ("sessionid" in visitor.cookies) == is_let_in


def test_a_deactivated_person_is_signed_out_at_the_next_request(local, visitor):
    send(visitor, "/accounts/login/", login=local.email, password=PASSWORD)
    assert visitor.get("/").status_code == 200
    local.is_active = False
    local.save()
    assert visitor.get("/").status_code == 302


def test_the_sixth_wrong_password_is_refused_and_so_is_the_right_one_after_it(local, visitor):
    for _ in range(5):
        send(visitor, "/accounts/login/", login=local.email, password="wrong")
    response = send(visitor, "/accounts/login/", login=local.email, password=PASSWORD)
    assert "sessionid" not in visitor.cookies
    assert "Too many failed login attempts" in response.content.decode()


@pytest.mark.parametrize("path", ["/accounts/signup/", "/accounts/email/", "/accounts/password/set/"])
def test_there_is_no_sign_up_and_no_second_door(visitor, db, path):
    assert visitor.get(path).status_code == 404


def test_a_vouched_person_with_the_same_email_is_not_offered_a_password(local, visitor):
    vouched = UserFactory(email=local.email, voucher_id=local.id, voucher_user_id="7", password="!")
    send(visitor, "/accounts/password/reset/", email=local.email)
    assert len(mail.outbox) == 1
    link = re.search(r"/accounts/password/reset/key/\S+", mail.outbox[0].body)[0]
    page = visitor.get(link, follow=True)
    send(visitor, page.request["PATH_INFO"], password1=PASSWORD * 2, password2=PASSWORD * 2)
    vouched.refresh_from_db()
    local.refresh_from_db()
    assert local.check_password(PASSWORD * 2)
    assert not vouched.has_usable_password()
