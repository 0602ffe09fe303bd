"""What is asked when a token is rotated, and when its rotation is ended before its time."""

from datetime import datetime
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from apitokens import ceiling
from apitokens.models import DAY, ApiToken
from apitokens.orders import Expiry
from apitokens.pages.choices import ExplainedRadios, OfferedChoice
from apitokens.pages.forms import ExpiryFields, NonceForm, Proof, ProofFields, whole_seconds
from apitokens.pages.proofs import seconds_left
from apitokens.pages.rows import TokenRow
from apitokens.pages.words import at_moment, in_words

LONGEST = "longest"
OVERLAPS = (
    (0, _("Stop the old one at once")),
    (3_600, _("1 hour")),
    (ceiling.DEFAULT_OVERLAP, _("24 hours (recommended)")),
    (7 * DAY, _("7 days")),
)


class RotateForm(NonceForm, ExpiryFields, ProofFields):
    """A new secret or key beside the old one. `compromised` is said by a button of its own."""

    overlap = OfferedChoice(label=_("How long shall the old one go on?"), required=False, widget=ExplainedRadios)
    compromised = forms.BooleanField(required=False)

    field_order = ["nonce", "proof", "public_key", "overlap", "expires_in", "expires_at"]

    def __init__(self, *args, row: TokenRow, **kwargs):
        super().__init__(*args, **kwargs)
        self.row = row
        expires = at_moment(row.expires_at) if row.expires_at else _("never")
        self.offer_lifetimes([row.token.token_type], unsaid=str(_("As it is: %(expires)s") % {"expires": expires}))
        if row.client_id:
            self.fields["proof"].initial = Proof.PUBLIC_KEY if row.is_by_key else Proof.SECRET
        else:
            del self.fields["proof"], self.fields["public_key"]
        if row.has_proof:
            self._offer_overlaps(row.token, row.at)
        else:
            del self.fields["overlap"]

    def _offer_overlaps(self, token: ApiToken, at: datetime) -> None:
        longest, left = token.token_type.longest_overlap, seconds_left(token, at)
        most = longest if left is None else min(longest, left)
        choices: list[tuple[str, object]] = [(str(seconds), label) for seconds, label in OVERLAPS]
        if most not in {seconds for seconds, _label in OVERLAPS}:
            choices.append((LONGEST, _("As long as possible: %(time)s") % {"time": in_words(most)}))

        def explain(value: str) -> tuple[str, str]:
            seconds = most if value == LONGEST else int(value)
            if seconds > longest:
                return "", str(_("The vendor allows at most %(time)s.") % {"time": in_words(longest)})
            if left is not None and seconds > left:
                return "", str(_("The token itself expires before that, on %(at)s.") % {"at": expires})
            return "", ""

        expires = at_moment(token.expires_at) if token.expires_at else ""
        field: Any = self.fields["overlap"]
        field.choices, field.widget.explain = choices, explain
        unsaid = min(int(ceiling.overlap_of(token.token_type, None).total_seconds()), most)
        field.initial = str(unsaid) if unsaid in dict(OVERLAPS) else LONGEST

    def clean_overlap(self) -> int | None:
        """None: as long as the service thinks best."""
        value = self.cleaned_data["overlap"]
        if value == LONGEST:
            return self.row.token.token_type.longest_overlap
        if not value:
            return None
        return whole_seconds(value)

    def asked(self) -> dict[str, Any]:
        """As `rotation.rotate` takes it."""
        data, expiry = self.cleaned_data, self.expiry()
        return {
            "overlap": 0 if data["compromised"] else data.get("overlap"),
            "expiry": None if expiry == Expiry() else expiry,
            "compromised": data["compromised"],
            "public_key": self.pasted_key(),
        }


class CompletionForm(forms.Form):
    even_if_used = forms.BooleanField(label=_("It is used still; stop it anyway"), required=False)
