"""POST /webhooks/stripe: 200 only after the event is committed, so Stripe repeats what we lost."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing.facade import receive_webhook
from kernel.errors import Refusal


@csrf_exempt
@require_POST
def stripe(request: HttpRequest) -> HttpResponse:
    """Each statement commits by itself here (ATOMIC_REQUESTS is off)."""
    try:
        receive_webhook(payload=request.body, signature=request.headers.get("Stripe-Signature", ""))
    except Refusal as refusal:
        return JsonResponse({"type": refusal.slug, "detail": refusal.detail}, status=400)
    return HttpResponse(status=200)
