"""Around the mail of a Django project: each recipient is judged on their own, the message goes once to those allowed.

`EMAIL_BACKEND = "fairtouch.integrations.django.EmailBackend"`, or the same as BACKEND of one of MAILERS (Django 6.1),
and the setting FAIRTOUCH. With "fairtouch.integrations.django" among INSTALLED_APPS, `manage.py check` looks at both,
and `manage.py fairtouch_check` and `fairtouch_history` answer an operator.
"""

try:
    import django  # noqa: F401 - whether it is there
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "fairtouch.integrations.django needs Django; pip install 'fairtouch[django]'", name=error.name
    ) from error

from fairtouch.integrations.django.backend import EmailBackend
from fairtouch.integrations.django.configuration import governor
from fairtouch.integrations.django.fates import Fate, Recipient, Status, deferred, refused
from fairtouch.integrations.django.messages import message_touch, only_to

__all__ = ["EmailBackend", "Fate", "Recipient", "Status", "deferred", "governor", "message_touch", "only_to", "refused"]
