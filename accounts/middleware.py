from collections.abc import Callable
from contextlib import suppress

from django.db import OperationalError
from django.http import HttpResponse

from accounts import open_sessions
from accounts.visits import Visit

GetResponse = Callable[..., HttpResponse]


def visited(get_response: GetResponse) -> GetResponse:
    """Notes when a browser was last here, for its owner's list of them.

    Only where the session was looked at anyway: public documents stay without a cookie and without a query.
    """

    def respond(request: Visit) -> HttpResponse:
        # Not looked at before it has to be; the API puts its caller in this place.
        user = request.user
        response = get_response(request)
        if request.session.accessed and response.status_code < 500 and user.is_authenticated:
            # What can't be noted now is noted at the next visit.
            with suppress(OperationalError):
                open_sessions.note_visit(user, request)
        return response

    return respond
