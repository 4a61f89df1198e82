"""The version, in one place: CMake and the packaging read it from here."""

__version__ = "0.2.0"
