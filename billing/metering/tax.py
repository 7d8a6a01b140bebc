"""The tax that goes back with what is given back of a meter."""

from __future__ import annotations

from django.db.models import Sum

from billing.models import IncidentCredit, RentalMeter
from billing.rating.tax import returned


def give_back(meter: RentalMeter) -> int:
    """The tax that goes back now, after credits raised what of the meter is given back in all.

    The meter is locked; the caller saves it. Credits of interruptions may pass what was charged, as
    they come on top of not charging; their tax may not, because nobody paid it.
    """
    if not meter.tax_ppm:
        return 0
    cases = meter.outages.aggregate(total=Sum("amount_micro"))["total"] or 0
    cases += (
        IncidentCredit.objects.filter(meter=meter).aggregate(total=Sum("amount_micro"))["total"]
        or 0
    )
    paid = meter.charged_micro - meter.overrun_micro
    due = returned(meter.credited_micro + cases, paid, meter.tax_ppm)
    tax = max(0, due - meter.tax_returned_micro)
    meter.tax_returned_micro += tax
    return tax
