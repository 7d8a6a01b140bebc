"""Included by config/urls.py at the root."""

from __future__ import annotations

from django.urls import path

from billing.http.webhook import stripe

urlpatterns = [path("webhooks/stripe", stripe, name="stripe-webhook")]
