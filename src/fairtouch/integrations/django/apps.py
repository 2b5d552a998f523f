"""What Django finds under INSTALLED_APPS: system checks, commands, and the ears for what mail services tell."""

from django.apps import AppConfig, apps


class FairtouchConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """The app; it has no models, and so no tables."""

    name = "fairtouch.integrations.django"
    label = "fairtouch"
    verbose_name = "fairtouch"

    def ready(self) -> None:
        """Registers the checks and, where anymail is installed, listens to its tracking events."""
        from fairtouch.integrations.django.checks import register

        register()
        if apps.is_installed("anymail"):
            from fairtouch.integrations.anymail import listen

            listen()
