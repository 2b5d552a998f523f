"""The settings of the shop; mail is the part that matters here."""

import os
from pathlib import Path

import django

HERE = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "only for an example")
INSTALLED_APPS = ["fairtouch.integrations.django", "shop"]
USE_TZ = True

FAIRTOUCH = {
    "POLICY": HERE / "policy.toml",
    "STORE": os.environ.get("SHOP_STORE", "sqlite:///touches.db"),
    "TOUCH": {"category": "transactional"},  # what says nothing of itself: receipts, resets of passwords
    "CUSTOMER": "shop.people.customer_of",
}

GOVERNED = "fairtouch.integrations.django.EmailBackend"
MAIL_HOST, MAIL_PORT = os.environ.get("SHOP_MAIL_HOST", "localhost"), int(os.environ.get("SHOP_MAIL_PORT", "25"))

if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {"BACKEND": GOVERNED, "OPTIONS": {"host": MAIL_HOST, "port": MAIL_PORT}},
    }
else:
    EMAIL_BACKEND, EMAIL_HOST, EMAIL_PORT = GOVERNED, MAIL_HOST, MAIL_PORT
