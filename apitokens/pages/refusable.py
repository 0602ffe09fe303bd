"""Forms that take the service's answer: what is refused is said at the field it is about, and nothing typed is lost."""

from typing import Any

from django import forms

from apitokens.changing import Stale
from audit.services import Refusal


class RefusableForm(forms.Form):
    """Takes the service's answer at the field it is about."""

    def add_refusal(self, refusal: Refusal) -> None:
        field = self.field_of(refusal)
        self.add_error(field if field in self.fields else None, str(refusal))

    def field_of(self, refusal: Refusal) -> str:
        """The field's name in this form; one that it does not have stands for the form as a whole."""
        return refusal.field


class VersionedForm(RefusableForm):
    """Knows which version of the thing was looked at. `version` is that of the thing as it is now."""

    version = forms.CharField(widget=forms.HiddenInput, required=False, max_length=64)

    def __init__(self, *args: Any, version: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["version"].initial = self.now = version

    def add_refusal(self, refusal: Refusal) -> None:
        """Who is told that somebody else changed it keeps what they typed, and may send it again knowing that."""
        super().add_refusal(refusal)
        if isinstance(refusal, Stale):
            self.data = with_others(self.data, version=self.now)


def with_others(sent: Any, **instead: str) -> Any:
    """What was sent, all of it, with something else in place of a part."""
    again = sent.copy()
    for name, value in instead.items():
        again[name] = value
    return again
