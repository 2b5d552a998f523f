"""`manage.py fairtouch_check` and `manage.py fairtouch_history`."""
