"""What people type to let other programs in: tokens, and webhooks."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy, ngettext_lazy

from annotate import outbound
from annotate.errors import TouchstoneError
from annotate.models import Event, Project, Verb
from annotate.tokens import DAYS


class TokenForm(forms.Form):
    """A token: what for, what it may do, where, and for how long."""

    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=100,
        help_text=gettext_lazy("What will use it, such as “training pipeline”."),
    )  # fmt: skip
    verbs = forms.MultipleChoiceField(
        label=gettext_lazy("It may"), choices=Verb.choices, widget=forms.CheckboxSelectMultiple, initial=[Verb.READ],
        help_text=gettext_lazy("Never more than you may do yourself at that moment."),
    )  # fmt: skip
    projects = forms.ModelMultipleChoiceField(
        label=gettext_lazy("In these projects"), queryset=Project.objects.none(), required=False,
        widget=forms.CheckboxSelectMultiple, help_text=gettext_lazy("None chosen: every project that you are in."),
    )  # fmt: skip
    days = forms.TypedChoiceField(
        label=gettext_lazy("Holds for"), coerce=int, initial=90,
        choices=[(days, ngettext_lazy("%(n)d day", "%(n)d days", "n") % {"n": days}) for days in DAYS],
    )  # fmt: skip

    def __init__(self, *args: Any, projects: QuerySet[Project], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["projects"].queryset = projects  # type: ignore[attr-defined]


class EndpointForm(forms.Form):
    """A webhook: where, and what it is told."""

    url = forms.CharField(
        label=gettext_lazy("Address"), max_length=outbound.LONGEST_URL,
        help_text=gettext_lazy("Gets a signed POST for every event. Addresses inside private networks are refused."),
        widget=forms.URLInput(attrs={"placeholder": "https://example.org/hooks/touchstone"}),
    )  # fmt: skip
    events = forms.MultipleChoiceField(
        label=gettext_lazy("It is told when"), choices=Event.choices, widget=forms.CheckboxSelectMultiple,
    )  # fmt: skip
    is_on = forms.BooleanField(label=gettext_lazy("On"), required=False, initial=True)

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"]).strip()
        try:
            outbound.target(url)
        except TouchstoneError as error:
            raise forms.ValidationError(str(error)) from None
        return url
