from allauth.account.forms import ResetPasswordForm


class LocalResetPasswordForm(ResetPasswordForm):
    """Only people who sign in here have a password to reset; an identity vouched for elsewhere has none (R12)."""

    def clean_email(self):
        email = super().clean_email()
        self.users = [user for user in self.users if user.voucher_id is None]
        return email
