"""Where mail services tell what became of messages."""

from django.urls import include, path

urlpatterns = [path("anymail/", include("anymail.urls"))]
