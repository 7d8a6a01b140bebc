"""A person's authenticator app, and people who have one, made through the product's own actions."""

from __future__ import annotations

from dataclasses import dataclass

import pyotp
from django.db import transaction

from kernel.clock import now
from marketplace.accounts import join, second_factor
from marketplace.accounts.access import principal_of
from marketplace.models import User


def step() -> int:
    """The present time step."""
    return int(now().timestamp()) // 30


@dataclass
class App:
    """Shows codes; :meth:`code` one after the other, as a person who waits for the next."""

    secret: str
    recovery_codes: list[str]
    last: int  # the step of the last code that was shown

    def code(self) -> str:
        """A code that was not used and is good now; the second one in a row is the next step's."""
        self.last = max(step(), self.last + 1)
        return self.at(self.last)

    def at(self, wanted: int) -> str:
        return pyotp.HOTP(self.secret).at(wanted)


def enrol(user: User) -> App:
    """Switch the second factor of a person on, and leave the present code unused."""
    acting = principal_of(user)
    with transaction.atomic():
        offer = second_factor.begin(acting=acting)
        app = App(offer.secret, [], step() - 1)
        app.recovery_codes = second_factor.confirm(acting=acting, code=app.at(app.last))
    user.refresh_from_db()
    return app


def make_staff(*, email: str, password: str) -> App:
    """A member of the staff who may act as one."""
    join.make_staff(email=email, password=password)
    return enrol(User.objects.get(email=email))
