"""Fields of choices: what can't be chosen says why, and what is sent is the service's to judge."""

from collections.abc import Callable

from django import forms


class _Explained:
    """Options with a line of help and, where one can't be chosen, the reason; both are in the option's data."""

    explain: Callable[[str], tuple[str, str]] = staticmethod(lambda value: ("", ""))

    def create_option(self, name, value, label, selected, index, subindex=None, attrs=None):
        option = super().create_option(name, value, label, selected, index, subindex=subindex, attrs=attrs)
        option["help"], option["reason"] = self.explain(str(value))
        if option["reason"]:
            option["attrs"]["disabled"] = True
        return option


class ExplainedRadios(_Explained, forms.RadioSelect):
    pass


class ExplainedCheckboxes(_Explained, forms.CheckboxSelectMultiple):
    pass


class OfferedChoice(forms.ChoiceField):
    """Shows what is on offer and takes whatever is sent: the service refuses, in the same words as the API."""

    def valid_value(self, value: str) -> bool:
        return True


class OfferedChoices(forms.MultipleChoiceField):
    def valid_value(self, value: str) -> bool:
        return True
