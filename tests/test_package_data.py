"""What is not Python is shipped too."""

from importlib.resources import files


def test_types_are_shipped() -> None:
    """A user's type checker trusts our annotations only when py.typed says that it may."""
    assert (files("fairtouch") / "py.typed").is_file()
