from django.utils.translation import gettext as _


def in_words(seconds: int) -> str:
    """Whole days, hours or minutes, in words."""
    for size, one, many in (
        (86_400, _("1 day"), _("%d days")),
        (3_600, _("1 hour"), _("%d hours")),
        (60, _("1 minute"), _("%d minutes")),
    ):
        if seconds >= size and seconds % size == 0:
            return one if seconds == size else many % (seconds // size)
    return _("%d seconds") % seconds
