"""The world outside: files, number formats, and other people's arrays and kernels."""

__all__: list[str] = []
